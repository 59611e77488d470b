import { makeSchema } from 'postgraphile';
import { lexicographicSortSchema, printSchema } from 'postgraphile/graphql';
import { expect, test, vi } from 'vitest';
import { schemaPreset, serverPreset } from '../../src/graphql/preset.ts';
import { SMART_TAGS } from '../../src/graphql/tags.ts';
import { cloneDatabase } from '../support/database.ts';

async function printed(schemas: readonly string[] = [], host = ''): Promise<{ sdl: string; said: unknown[][] }> {
  const db = await cloneDatabase();
  if (host !== '') await (await db.connect('owner')).query(host);
  const said: unknown[][] = [];
  const spies = (['log', 'warn', 'error'] as const).map((name) =>
    vi.spyOn(console, name).mockImplementation((...parts) => void said.push(parts)),
  );
  const { schema } = await makeSchema(schemaPreset({ pool: db.pool('authenticator', { max: 1 }), schemas }));
  for (const spy of spies) spy.mockRestore();
  return { sdl: `${printSchema(lexicographicSortSchema(schema))}\n`, said };
}

test('the schema is the reviewed one (GQ-01)', async () => {
  const { sdl, said } = await printed();
  expect(said).toEqual([]);
  await expect(sdl).toMatchFileSnapshot('../snapshots/schema.graphql');
  // The secret of an API key is shown where it is made.
  const names = sdl
    .replace(/"""[\s\S]*?"""/g, '')
    .replace(/(type \w+ApiKeyPayload \{[^}]*?)\n\s+secret: String\n/g, '$1');
  expect(names).not.toMatch(/hash|credential|envelope|secret|verifier|salt|entry|openRequest|recordActivity/i);
  // What an automatic mutation would take; ours take arguments.
  expect(names).not.toMatch(
    /\b\w+Patch\b|\b(Role|Membership|Session|AuditEvent|Person|Permission|Organization)Input\b/,
  );
});

test("a host's tables have the automatic mutations and its functions, under names without a prefix", async () => {
  const { sdl } = await printed(
    ['clinic'],
    `
    create schema clinic;
    grant usage on schema clinic to safetypin_member;
    create table clinic.patients (organization_id uuid not null references access.organizations (id), id uuid not null default platform.uuid_v7(),
      name text not null, photo bytea, primary key (organization_id, id));
    select access.protect('clinic.patients');
    create function clinic.patients_initials(patient clinic.patients) returns text language sql stable as $$ select left(patient.name, 1) $$;
    grant execute on function clinic.patients_initials(clinic.patients) to safetypin_member;`,
  );
  expect(sdl).toMatch(/createPatient\(/);
  expect(sdl).toMatch(/updatePatient\(/);
  expect(sdl).toMatch(/deletePatient\(/);
  expect(sdl).toMatch(/initials: String/);
  expect(sdl).toMatch(/photo: Base64EncodedBinary/);
  expect(sdl).toMatch(/input PatientInput/);
  expect(sdl).toMatch(/input PatientPatch/);
  expect(sdl).not.toMatch(/input RoleInput|input RolePatch/);
});

test('every smart tag names something that is there', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const regclass = await admin.query('select to_regclass(n) is not null as there, n from unnest($1::text[]) n', [
    Object.keys(SMART_TAGS.class),
  ]);
  const regproc = await admin.query('select to_regproc(n) is not null as there, n from unnest($1::text[]) n', [
    Object.keys(SMART_TAGS.procedure),
  ]);
  expect([...regclass.rows, ...regproc.rows].filter(({ there }) => !there)).toEqual([]);
});

test('time, size and what is kept of documents are bounded (GQ-08, GQ-10)', async () => {
  const db = await cloneDatabase();
  const pool = db.pool('authenticator', { max: 1 });
  const preset = serverPreset({ pool, schemas: [], tools: {} as never, ruru: false, execution: {} as never });
  expect(preset.grafast?.timeouts).toEqual({ planning: 500, execution: 30_000 });
  expect(preset.grafserv).toMatchObject({
    graphqlOverGET: false,
    graphiql: false,
    maxRequestLength: 100_000,
    allowedRequestContentTypes: ['application/json'],
    websockets: false,
  });
  expect(preset.grafserv?.dangerouslyAllowAllCORSRequests).toBeUndefined();
  const { schema } = await makeSchema(schemaPreset({ pool, schemas: [] }));
  expect(schema.extensions.grafast).toMatchObject({
    operationsCacheMaxLength: 40,
    operationOperationPlansCacheMaxLength: 4,
  });
});
