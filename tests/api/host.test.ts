import { beforeAll, expect, test } from 'vitest';
import { type Api, type Member, startApi } from './api.ts';

const HOST = `
  create schema clinic;
  grant usage on schema clinic to safetypin_member;
  create table clinic.patients (
    organization_id uuid not null references access.organizations (id),
    id uuid not null default platform.uuid_v7(),
    name text not null,
    primary key (organization_id, id));
  select access.protect('clinic.patients');
`;

let api: Api;
let ada: Member;
let bob: Member;
beforeAll(async () => {
  api = await startApi({ host: HOST, environment: { SAFETYPIN_SCHEMAS: 'clinic' } });
  ada = await api.member('Ada');
  bob = await api.member('Bob');
});

test("a host's protected table is read and written through the automatic fields, by each organization for itself", async () => {
  const create =
    'mutation($n: String!) { createPatient(input: { patient: { name: $n } }) { patient { id name organizationId nodeId } } }';
  const made = await api.gql(create, { n: 'Nell' }, ada.accessToken);
  expect(made.errors).toBeUndefined();
  const { id, organizationId, nodeId } = made.data.createPatient.patient;
  const list = '{ patients { nodes { id name } totalCount } }';
  expect((await api.gql(list, {}, ada.accessToken)).data.patients).toEqual({
    nodes: [{ id, name: 'Nell' }],
    totalCount: 1,
  });
  expect((await api.gql(list, {}, bob.accessToken)).data.patients).toEqual({ nodes: [], totalCount: 0 });

  const one =
    'query($o: UUID!, $i: UUID!, $n: ID!) { patient(organizationId: $o, id: $i) { name } node(nodeId: $n) { nodeId } }';
  const mine = { o: organizationId, i: id, n: nodeId };
  expect((await api.gql(one, mine, ada.accessToken)).data).toEqual({ patient: { name: 'Nell' }, node: { nodeId } });
  expect((await api.gql(one, mine, bob.accessToken)).data.patient).toBeNull();

  const update =
    'mutation($o: UUID!, $i: UUID!) { updatePatient(input: { organizationId: $o, id: $i, patch: { name: "Nelly" } }) { patient { name } } }';
  expect(
    (await api.gql(update, { o: organizationId, i: id }, bob.accessToken)).data.updatePatient?.patient ?? null,
  ).toBeNull();
  expect((await api.gql(update, { o: organizationId, i: id }, ada.accessToken)).data.updatePatient.patient.name).toBe(
    'Nelly',
  );
  const remove =
    'mutation($o: UUID!, $i: UUID!) { deletePatient(input: { organizationId: $o, id: $i }) { patient { name } } }';
  expect(
    (await api.gql(remove, { o: organizationId, i: id }, bob.accessToken)).data.deletePatient?.patient ?? null,
  ).toBeNull();
  expect((await api.gql(remove, { o: organizationId, i: id }, ada.accessToken)).data.deletePatient.patient.name).toBe(
    'Nelly',
  );
});

test('anybody who is not signed in is asked to', async () => {
  const { data, errors } = await api.gql('{ patients { nodes { id } } }');
  expect(data?.patients ?? null).toBeNull();
  expect(errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
});
