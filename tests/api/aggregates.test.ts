// Counting (GQ-04): where a tag says so, how many and nothing else, on the clinic's example.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { makeSchema } from 'postgraphile';
import { printSchema, printType } from 'postgraphile/graphql';
import { beforeAll, expect, test } from 'vitest';
import { schemaPreset } from '../../src/graphql/preset.ts';
import { type Api, type GraphQLAnswer, type Member, startApi } from './api.ts';

const clinic = (file: string): string => resolve(import.meta.dirname, '../clinic', file);
const TAGS = clinic('clinic.tags.json5');
/** Beside the clinic: a table whose every column asks to be counted. */
const MORE = `
  create index on clinic.patients (organization_id, name);
  create table clinic.stays (
    organization_id uuid not null,
    id uuid default platform.uuid_v7(),
    ward text not null,
    cost integer not null,
    seen_by uuid references identity.people (id),
    sealed bytea,
    primary key (organization_id, id));
  create index on clinic.stays (organization_id, ward);
  create index on clinic.stays (organization_id, seen_by);
  create index on clinic.stays (organization_id, sealed);
  comment on table clinic.stays is E'@aggregates';
  comment on column clinic.stays.ward is E'@aggregates';
  comment on column clinic.stays.cost is E'@aggregates';
  comment on column clinic.stays.seen_by is E'@aggregates';
  comment on column clinic.stays.sealed is E'@aggregates';
  select access.protect('clinic.stays');
`;

let api: Api;
let ada: Member;
let bob: Member;
beforeAll(async () => {
  api = await startApi({
    host: readFileSync(clinic('clinic.sql'), 'utf8') + MORE,
    environment: { SAFETYPIN_SCHEMAS: 'clinic', SAFETYPIN_TAGS: TAGS },
  });
  [ada, bob] = await Promise.all([api.member('Ada'), api.member('Bob')]);
});

const schemaWith = async (tagsFile?: string) =>
  (await makeSchema(schemaPreset({ pool: api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'], tagsFile })))
    .schema;
const codeOf = ({ errors }: GraphQLAnswer): unknown => errors?.[0]?.extensions.code;

test('is off until a tag says so, and never on for our own tables', async () => {
  const without = printSchema(await schemaWith());
  expect(without).not.toMatch(/PatientAggregates/);
  expect(without).toMatch(/StayAggregates/);
  const types = [...printSchema(await schemaWith(TAGS)).matchAll(/(\w+Aggregates)\b/g)].map(([, name]) => name);
  expect([...new Set(types)].filter((name) => /^[A-Z]/.test(name ?? '')).sort()).toEqual([
    'PatientAggregates',
    'PatientCountAggregates',
    'PatientDistinctCountAggregates',
    'StayAggregates',
    'StayCountAggregates',
    'StayDistinctCountAggregates',
  ]);
  expect(types).not.toContain('RoleAggregates');
});

test('says how many, of declared columns in an index that are not about people', async () => {
  const schema = await schemaWith(TAGS);
  const fields = (name: string): string[] =>
    Object.keys((schema.getType(name) as never as { getFields(): object })?.getFields() ?? {});
  expect(fields('StayAggregates').sort()).toEqual(['count', 'distinctCount', 'keys']);
  // cost is declared and in no index, seen_by is a person, sealed is bytea.
  expect(fields('StayCountAggregates')).toEqual(['ward']);
  const groups = schema.getType('StayGroupBy') ?? schema.getType('StaysGroupBy');
  expect(groups && printType(groups)).toMatch(/^enum \w+ \{\s+WARD\s+\}$/m);
  expect(printSchema(schema)).not.toMatch(/\b(sum|average|min|max|stddev\w*|variance\w*|having)\b\s*[:(]/);
});

test("counts one's own rows alone, by group, and refuses what reveals single values", async () => {
  for (const [who, names] of [
    [ada, ['Nell', 'Nell', 'Otto']],
    [bob, ['Nell']],
  ] as const) {
    for (const name of names) {
      await api.gql(
        'mutation($n: String!) { createPatient(input: { patient: { name: $n } }) { patient { id } } }',
        { n: name },
        who.accessToken,
      );
    }
  }
  const query =
    '{ patients(first: 1) { groupedAggregates(groupBy: [NAME]) { keys count { name } } aggregates { count { name } distinctCount { name } } } }';
  const { data, errors } = await api.gql(query, {}, ada.accessToken);
  expect(errors).toBeUndefined();
  expect(data.patients.aggregates).toEqual({ count: { name: '3' }, distinctCount: { name: '2' } });
  expect(data.patients.groupedAggregates).toEqual(
    expect.arrayContaining([
      { keys: ['Nell'], count: { name: '2' } },
      { keys: ['Otto'], count: { name: '1' } },
    ]),
  );
  expect((await api.gql(query, {}, bob.accessToken)).data.patients.aggregates.count).toEqual({ name: '1' });
  for (const what of ['max { name }', 'min { name }', 'sum { cost }', 'average { cost }', 'count { id }']) {
    expect(codeOf(await api.gql(`{ patients { aggregates { ${what} } } }`, {}, ada.accessToken))).toBe('BAD_INPUT');
  }
  const anonymous = await api.gql(query);
  expect(codeOf(anonymous)).toBe('UNAUTHENTICATED');
});

test('gives at most a page of groups', async () => {
  const admin = await api.db.connect('admin');
  const organization = (await api.gql('{ currentOrganization { id } }', {}, ada.accessToken)).data.currentOrganization
    .id;
  await admin.query(
    "insert into clinic.stays (organization_id, ward, cost) select $1, 'ward ' || i, i from generate_series(1, 300) i",
    [organization],
  );
  await admin.end();
  const query = '{ stays(first: 1) { totalCount groupedAggregates(groupBy: [WARD]) { keys count { ward } } } }';
  const { data } = await api.gql(query, {}, ada.accessToken);
  expect(data.stays.totalCount).toBe(300);
  expect(data.stays.groupedAggregates).toHaveLength(100);
});
