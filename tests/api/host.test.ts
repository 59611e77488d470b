// Tables of a host application through the automatic fields (DESIGN 9; AZ-03, AZ-12, GQ-02).
import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, type GraphQLAnswer, type Json, type Member, startApi } from './api.ts';

const HOST = `
  create schema clinic;
  create table clinic.patients (
    organization_id uuid not null references access.organizations (id),
    id uuid not null default platform.uuid_v7(),
    name text not null,
    primary key (organization_id, id));
  select access.protect('clinic.patients');
  create table clinic.visits (
    organization_id uuid not null, patient_id uuid not null, number integer not null, reason text,
    primary key (organization_id, patient_id, number),
    foreign key (organization_id, patient_id) references clinic.patients (organization_id, id) on delete cascade);
  select access.protect('clinic.visits');
  -- Every organization counts its beds from one.
  create table clinic.beds (
    organization_id uuid not null, number integer not null, ward text, primary key (organization_id, number));
  select access.protect('clinic.beds');
  create table clinic.notes (
    organization_id uuid not null, id integer not null, text text, primary key (organization_id, id));
  select access.protect('clinic.notes', insert => 'row.create', "update" => null, "delete" => null);
  -- Not ours: a policy of the host's own, that lets rows of all organizations through.
  create table clinic.notices (
    organization_id uuid not null, number integer not null, text text, primary key (organization_id, number));
  alter table clinic.notices enable row level security;
  create policy everybody on clinic.notices for select to safetypin_member using (true);
  create policy changed on clinic.notices for update to safetypin_member using (true);
  grant select, insert, update, delete on clinic.notices to safetypin_member;
  insert into clinic.notices select gen_random_uuid(), 1, 'notice ' || n from generate_series(1, 2) n;
`;

let api: Api;
let ada: Member;
let bob: Member;
beforeAll(async () => {
  api = await startApi({ host: HOST, environment: { SAFETYPIN_SCHEMAS: 'clinic' } });
  [ada, bob] = await Promise.all([api.member('Ada'), api.member('Bob')]);
});

const ask = (who: Member, query: string, variables: object = {}): Promise<GraphQLAnswer> =>
  api.gql(query, variables, who.accessToken);

const data = async (who: Member, query: string, variables: object = {}): Promise<Json> => {
  const answer = await ask(who, query, variables);
  expect(answer.errors).toBe(undefined);
  return answer.data;
};

const codes = ({ errors }: GraphQLAnswer): unknown[] => (errors ?? []).map(({ extensions }) => extensions.code);

const create = async (who: Member, name: string): Promise<Json> =>
  (
    await data(
      who,
      'mutation($n: String!) { createPatient(input: { patient: { name: $n } }) { patient { id nodeId name } } }',
      { n: name },
    )
  ).createPatient.patient;

const UPDATE =
  'mutation($i: UUID!, $p: PatientPatch!) { updatePatient(input: { id: $i, patch: $p, clientMutationId: "m" }) { clientMutationId patient { id name } } }';
const REMOVE = 'mutation($i: UUID!) { deletePatient(input: { id: $i }) { deletedPatientNodeId patient { name } } }';

describe("a row of a host's protected table", () => {
  test('is made, read, changed and removed by its id alone', async () => {
    const { id, nodeId } = await create(ada, 'Nell');
    const one =
      'query($i: UUID!, $n: ID!) { patient(id: $i) { name } node(nodeId: $n) { nodeId } patientByNodeId(nodeId: $n) { name } }';
    expect(await data(ada, one, { i: id, n: nodeId })).toEqual({
      patient: { name: 'Nell' },
      node: { nodeId },
      patientByNodeId: { name: 'Nell' },
    });
    expect((await data(ada, UPDATE, { i: id, p: { name: 'Nelly' } })).updatePatient).toEqual({
      clientMutationId: 'm',
      patient: { id, name: 'Nelly' },
    });
    expect((await data(ada, REMOVE, { i: id })).deletePatient).toEqual({
      deletedPatientNodeId: nodeId,
      patient: { name: 'Nelly' },
    });
    expect((await data(ada, one, { i: id, n: nodeId })).patient).toBe(null);
  });

  test("is nobody else's, by any name, and what met no row says so", async () => {
    const { id, nodeId } = await create(ada, 'Otto');
    expect((await data(bob, 'query($i: UUID!) { patient(id: $i) { name } }', { i: id })).patient).toBe(null);
    for (const i of [id, '00000000-0000-7000-8000-000000000000']) {
      expect(codes(await ask(bob, UPDATE, { i, p: { name: 'x' } }))).toEqual(['NOT_FOUND']);
      expect(codes(await ask(bob, REMOVE, { i }))).toEqual(['NOT_FOUND']);
    }
    const byNode =
      'mutation($n: ID!) { updatePatientByNodeId(input: { nodeId: $n, patch: { name: "x" } }) { patient { name } } }';
    expect(codes(await ask(bob, byNode, { n: nodeId }))).toEqual(['NOT_FOUND']);
    expect(codes(await ask(ada, UPDATE, { i: id, p: {} }))).toEqual(['BAD_INPUT']);
    expect((await data(ada, '{ patients { nodes { name } totalCount } }')).patients).toEqual({
      nodes: [{ name: 'Otto' }],
      totalCount: 1,
    });
    expect((await data(bob, '{ patients { totalCount } }')).patients.totalCount).toBe(0);
  });

  test('that another organization numbers alike stays as it is', async () => {
    const bed = 'mutation($w: String!) { createBed(input: { bed: { number: 1, ward: $w } }) { bed { number } } }';
    await data(ada, bed, { w: 'of Ada' });
    await data(bob, bed, { w: 'of Bob' });
    const change = 'mutation($w: String!) { updateBed(input: { number: 1, patch: { ward: $w } }) { bed { ward } } }';
    expect((await data(ada, change, { w: 'changed' })).updateBed.bed.ward).toBe('changed');
    const read = '{ bed(number: 1) { ward } beds { nodes { ward } } }';
    expect(await data(bob, read)).toEqual({ bed: { ward: 'of Bob' }, beds: { nodes: [{ ward: 'of Bob' }] } });
    await data(bob, 'mutation { deleteBed(input: { number: 1 }) { clientMutationId } }');
    expect(await data(ada, read)).toEqual({ bed: { ward: 'changed' }, beds: { nodes: [{ ward: 'changed' }] } });
  });

  test('leads to those that refer to it, and back', async () => {
    const { id } = await create(ada, 'Rita');
    const visit = 'mutation($v: VisitInput!) { createVisit(input: { visit: $v }) { visit { patient { name } } } }';
    const made = await data(ada, visit, { v: { patientId: id, number: 1, reason: 'Cough' } });
    expect(made.createVisit.visit).toEqual({ patient: { name: 'Rita' } });
    const read =
      'query($i: UUID!) { patient(id: $i) { visits { nodes { number patient { id } } } } visit(patientId: $i, number: 1) { reason } }';
    expect(await data(ada, read, { i: id })).toEqual({
      patient: { visits: { nodes: [{ number: 1, patient: { id } }] } },
      visit: { reason: 'Cough' },
    });
    // What it refers to is looked up among the asker's own: another's patient is none.
    expect(codes(await ask(bob, visit, { v: { patientId: id, number: 1 } }))).toEqual(['CONFLICT']);
  });

  test('is asked for by who is signed in', async () => {
    const { data: none, errors } = await api.gql('{ patients { nodes { id } } }');
    expect(none?.patients ?? null).toBe(null);
    expect(errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  });
});

describe('the schema', () => {
  test('takes no organization, has what a rule allows and nothing else', async () => {
    const { fields, inputs } = await namesIn();
    expect(fields.filter((name) => /patient|bed\b/i.test(name)).join(' ')).not.toMatch(/organizationId/);
    expect(inputs.filter((name) => /organizationId/.test(name) && /Patient|Visit|Bed|Note(?!ice)/.test(name))).toEqual(
      [],
    );
    expect(fields.filter((name) => /^(create|update|delete)Note\(/.test(name))).toEqual(['createNote(input)']);
  });

  test('names a row whole where the policies of its table let others through', async () => {
    const { fields } = await namesIn();
    // By `number` alone this would be two rows.
    expect(fields.filter((name) => /notice\b/i.test(name))).toEqual([
      'notice(organizationId number)',
      'updateNotice(input)',
    ]);
    const update =
      'mutation($o: UUID!) { updateNotice(input: { organizationId: $o, number: 1, patch: { text: "x" } }) { clientMutationId } }';
    const { notices } = await data(ada, '{ notices { nodes { organizationId } } }');
    await data(ada, update, { o: notices.nodes[0].organizationId });
    const after = await data(ada, '{ notices { nodes { text } } }');
    expect(after.notices.nodes.filter(({ text }: Json) => text === 'x')).toHaveLength(1);
  });
});

/** Root fields with their arguments, and the fields of input types. */
async function namesIn(): Promise<{ fields: string[]; inputs: string[] }> {
  const { __schema } = await data(
    ada,
    '{ __schema { queryType { fields { name args { name } } } mutationType { fields { name args { name } } } types { name inputFields { name } } } }',
  );
  const fields = [...__schema.queryType.fields, ...__schema.mutationType.fields].map(
    ({ name, args }: Json) => `${name}(${args.map((one: Json) => one.name).join(' ')})`,
  );
  const inputs = __schema.types.flatMap(({ name, inputFields }: Json) =>
    (inputFields ?? []).map((one: Json) => `${name}.${one.name}`),
  );
  return { fields, inputs };
}
