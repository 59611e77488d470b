// The oracles of SECURITY 2.3 through the API's arguments (PG-31, PG-33, PG-34, PG-38, PG-40): what one organization is
// answered may not depend on the rows of another.
import { beforeAll, describe, expect, it } from 'vitest';
import { type Api, type GraphQLAnswer, type Member, startApi } from '../api/api.ts';

const HOST = `
  create schema clinic;
  grant usage on schema clinic to safetypin_member;
  create table clinic.patients (
    organization_id uuid not null, id uuid not null default platform.uuid_v7(), name text not null, age integer not null default 0,
    primary key (organization_id, id), constraint patients_canary_unique unique (organization_id, name),
    constraint patients_canary_check check (age >= 0));
  create index patients_age_idx on clinic.patients (organization_id, age);
  create table clinic.visits (
    organization_id uuid not null, id uuid not null default platform.uuid_v7(), patient_id uuid not null,
    primary key (organization_id, id), constraint visits_canary_exists foreign key (organization_id, patient_id)
      references clinic.patients (organization_id, id) on delete cascade);
  create index visits_patient_idx on clinic.visits (organization_id, patient_id);
  select access.protect('clinic.patients'), access.protect('clinic.visits');`;

let api: Api;
let ada: Member;
let bob: Member;
let bobs: { organizationId: string; id: string; nodeId: string };

beforeAll(async () => {
  api = await startApi({ host: HOST, environment: { SAFETYPIN_SCHEMAS: 'clinic' } });
  ada = await api.member('Ada');
  bob = await api.member('Bob');
  const create =
    'mutation($p: PatientInput!) { createPatient(input: { patient: $p }) { patient { organizationId id nodeId } } }';
  await api.gql(create, { p: { name: 'canary-of-ada', age: 41 } }, ada.accessToken);
  bobs = (await api.gql(create, { p: { name: 'canary-of-bob', age: 42 } }, bob.accessToken)).data.createPatient.patient;
});

/** An answer without what differs from request to request. */
const bare = ({ status, text }: GraphQLAnswer) => `${status} ${text.replaceAll(/"requestId":"[^"]*"/g, '')}`;

interface Condition {
  readonly field: string;
  readonly argument: string;
  readonly input: string;
  readonly type: string;
}

/** Every argument of a list that takes a condition, from the schema itself, with the host's tables. */
async function conditions(): Promise<Condition[]> {
  const type = 'type { name kind ofType { name kind ofType { name kind ofType { name } } } }';
  const { data } = await api.gql(
    `{ __schema { queryType { fields { name args { name ${type} } } } types { name kind inputFields { name ${type} } } } }`,
    {},
    ada.accessToken,
  );
  const inputs = new Map<string, { name: string; type: { name?: string; ofType?: unknown } }[]>(
    data.__schema.types.map((one: { name: string; inputFields: [] }) => [one.name, one.inputFields]),
  );
  const nameOf = (one: { name?: string; ofType?: unknown }): string =>
    one.name ?? nameOf(one.ofType as { name?: string });
  return data.__schema.queryType.fields.flatMap(
    ({ name, args }: { name: string; args: { name: string; type: { name: string } }[] }) =>
      args
        .filter((argument) => /^(condition|filter)$/.test(argument.name))
        .flatMap((argument) =>
          (inputs.get(argument.type.name) ?? []).map((field) => ({
            field: name,
            argument: argument.name,
            input: field.name,
            type: `${nameOf(field.type)}${/In$/.test(field.name) ? '!]' : ''}`,
          })),
        ),
  );
}

const VALUES: Readonly<Record<string, readonly string[]>> = {
  Int: ['42', '-2147483648', '2147483647', '99999999999', '"42"', '1.5', 'null'],
  String: ['"canary-of-bob"', '"canary-of-bob\\u0000"', '"%"', '"\\\\"', '"[["', '"1 or 1=1"', 'null', '42'],
  UUID: ['"00000000-0000-0000-0000-000000000000"', '"not-a-uuid"', '"\'"', '""', 'null'],
  Datetime: ['"infinity"', '"-infinity"', '"not-a-time"', '"4714-01-01T00:00:00Z BC"', '"2026-01-01"', 'null'],
  Boolean: ['true', '"yes"', 'null'],
};

describe('an argument of a list', () => {
  it('PG-31 answers alike whether another organization has the row or not, and fails alike', async () => {
    const all = await conditions();
    expect(all.map(({ field, input }) => `${field}.${input}`)).toEqual(
      expect.arrayContaining(['patients.name', 'patients.age', 'patients.id']),
    );
    const ask = async () => {
      const said: string[] = [];
      for (const { field, argument, input, type } of all) {
        const isList = type.endsWith('!]');
        const own = type.startsWith('UUID') ? [`"${bobs.id}"`, `"${bobs.organizationId}"`] : [];
        // All of it on the host's tables, some of it on ours: each document is planned anew.
        const values = VALUES[type.replace('!]', '')] ?? ['null'];
        const isHosts = /^(patients|visits)$/.test(field);
        for (const value of [...(isHosts ? values : []), ...own]) {
          const query = `{ ${field}(first: 3, ${argument}: { ${input}: ${isList ? `[${value}]` : value} }) { totalCount pageInfo { hasNextPage } } }`;
          // The trail grows.
          if (field === 'auditEvents' && !own.includes(value)) continue;
          said.push(`${query} ${bare(await api.gql(query, {}, ada.accessToken))}`);
        }
      }
      return said;
    };
    const there = await ask();
    const admin = await api.db.connect('admin');
    await admin.query('delete from clinic.patients where organization_id = $1', [bobs.organizationId]);
    const gone = await ask();
    expect(there).toEqual(gone);
    expect(there.length).toBeGreaterThan(30);
    expect(there.join('')).not.toMatch(/select |violates|invalid input|pg_|relation /i);
    await admin.query(
      "insert into clinic.patients (organization_id, id, name, age) values ($1, $2, 'canary-of-bob', 42)",
      [bobs.organizationId, bobs.id],
    );
  }, 60_000);

  it('PG-40 counts, pages and cursors are her own', async () => {
    const list =
      '{ patients(first: 1, orderBy: AGE_DESC) { totalCount pageInfo { hasNextPage hasPreviousPage endCursor } nodes { name } } }';
    for (const [who, name] of [
      [ada, 'canary-of-ada'],
      [bob, 'canary-of-bob'],
    ] as const) {
      const { data } = await api.gql(list, {}, who.accessToken);
      expect(data.patients).toMatchObject({
        totalCount: 1,
        nodes: [{ name }],
        pageInfo: { hasNextPage: false, hasPreviousPage: false },
      });
    }
    const theirs = (await api.gql(list, {}, bob.accessToken)).data.patients.pageInfo.endCursor;
    const after = await api.gql(
      'query($c: Cursor) { patients(after: $c, orderBy: AGE_DESC) { totalCount nodes { name } } }',
      { c: theirs },
      ada.accessToken,
    );
    expect(after.text).not.toContain('canary-of-bob');
    expect((await api.gql('{ patients { totalCount } }')).data?.patients ?? null).toBeNull();
  });
});

describe('a mutation', () => {
  it("PG-34 PG-35 PG-38 is answered alike for somebody else's row and for none, and names no value and no constraint", async () => {
    const random = crypto.randomUUID();
    const pairs = [
      [
        'mutation($p: PatientInput!) { createPatient(input: { patient: $p }) { patient { age } } }',
        { p: { name: 'canary-of-bob' } },
        { p: { name: 'new-one' } },
      ],
      [
        'mutation($v: VisitInput!) { createVisit(input: { visit: $v }) { visit { patientId } } }',
        { v: { patientId: bobs.id } },
        { v: { patientId: random } },
      ],
      [
        'mutation($i: UUID!) { updatePatient(input: { id: $i, patch: { age: 1 } }) { patient { age } } }',
        { i: bobs.id },
        { i: random },
      ],
      ['mutation($i: UUID!) { deletePatient(input: { id: $i }) { patient { age } } }', { i: bobs.id }, { i: random }],
    ] as const;
    for (const [mutation, foreign, none] of pairs) {
      const answers = [];
      for (const variables of [foreign, none]) answers.push(bare(await api.gql(mutation, variables, ada.accessToken)));
      expect(answers[0], mutation).toBe(answers[1]);
      expect(answers[0], mutation).not.toMatch(/canary|constraint|violates|clinic/i);
    }
    for (const patient of [
      { name: 'canary-of-ada' },
      { name: 'x', age: -1 },
      { name: null },
      { name: 'x\u0000' },
      { name: 'x', age: 2 ** 40 },
    ]) {
      const { text, errors } = await api.gql(
        'mutation($p: PatientInput!) { createPatient(input: { patient: $p }) { patient { age } } }',
        { p: patient },
        ada.accessToken,
      );
      expect(errors?.length, text).toBe(1);
      expect(text).not.toMatch(/constraint|violates|clinic\.|Failing row|Key \(|canary-of-bob/i);
    }
  });
});

describe('nothing explains', () => {
  it('PG-33 the API shows no plan, no estimate and no SQL, whatever is asked for', async () => {
    for (const headers of [
      { 'x-postgraphile-explain': 'on' },
      { 'x-graphql-explain': '1' },
      { 'x-grafast-explain': 'plan,sql' },
    ]) {
      const { text } = await api.gql(
        '{ patients { totalCount } }',
        {},
        ada.accessToken,
        headers as unknown as Record<string, string>,
      );
      expect(JSON.parse(text)).toEqual({ data: { patients: { totalCount: expect.any(Number) } } });
    }
    const { text } = await api.gql('{ patients { totalCount } }', { explain: true }, ada.accessToken);
    expect(text).not.toMatch(/explain|Plan Rows|select /i);
  });
});
