// explainAccess over GraphQL: as documented, and a refusal to ask is recorded although a query asks.
import { beforeAll, expect, test } from 'vitest';
import { type Api, type Member, startApi } from '../api/api.ts';
import { join } from '../matrix/people.ts';

const ASK = `query($person: UUID, $row: UUID) {
  explainAccess(personId: $person, command: "update", tableName: "clinic.visits", rowId: $row) {
    verdict reason sentence change deciding
  }
}`;

let api: Api;
let ada: Member;
let eve: Member;
beforeAll(async () => {
  api = await startApi({
    environment: { SAFETYPIN_SCHEMAS: 'clinic' },
    host: `create schema clinic;
      create table clinic.visits (organization_id uuid not null, id uuid default platform.uuid_v7(), note text,
        primary key (organization_id, id));
      select access.protect('clinic.visits');`,
  });
  ada = await api.member('ada');
  eve = await api.member('eve');
});

const me = async ({ accessToken }: Member) =>
  (await api.gql('{ currentUser { id } currentOrganization { id } }', {}, accessToken)).data;

test('explainAccess answers with the deciding rows; nobody asks about others without access.explain', async () => {
  const admin = await api.db.connect('admin');
  const { currentUser: adas, currentOrganization: organization } = await me(ada);
  const { currentUser: eves } = await me(eve);
  await join(admin, eves.id, organization.id, 'viewer');
  const { rows } = await admin.query('insert into clinic.visits (organization_id) values ($1) returning id', [
    organization.id,
  ]);
  const { data, errors } = await api.gql(ASK, { person: eves.id, row: rows[0].id }, ada.accessToken);
  expect(errors).toBeUndefined();
  expect(data.explainAccess).toEqual({
    verdict: 'DENIED',
    reason: 'NOT_HELD',
    sentence: 'Not allowed to update this row of clinic.visits: no role gives row.update.',
    change: 'grant the role member',
    deciding: [
      { kind: 'organization', status: 'active', closesAt: null },
      { kind: 'person', status: 'active', memberSince: expect.any(String) },
      { kind: 'session', assurance: 1 },
      { kind: 'row', found: true, own: false, owner: null },
      {
        kind: 'rule',
        table: 'clinic.visits',
        command: 'update',
        permission: 'row.update',
        ownerColumn: null,
        assign: null,
        assurance: 1,
      },
      {
        kind: 'rule',
        table: 'clinic.visits',
        command: 'select',
        permission: 'row.read',
        ownerColumn: null,
        assign: null,
        assurance: 1,
      },
      { kind: 'grant', permission: 'row.read', role: 'viewer', validFrom: null, validUntil: null, now: true },
    ],
  });
  // Eve in her own organization is its owner; in Ada's she is a viewer.
  const switched = await api.gql(
    'mutation($i: SwitchOrganizationInput!) { switchOrganization(input: $i) { outcome accessToken } }',
    { i: { organizationId: organization.id } },
    eve.accessToken,
  );
  const refused = await api.gql(ASK, { person: adas.id }, switched.data.switchOrganization.accessToken);
  expect(refused.data.explainAccess).toMatchObject({ verdict: 'REFUSED', reason: 'NOT_PERMITTED', deciding: [] });
  const recorded = await admin.query(
    "select details from audit.events where action = 'access.refuse' and organization_id = $1 and details ->> 'what' = 'access.explain'",
    [organization.id],
  );
  expect(recorded.rows).toEqual([{ details: { what: 'access.explain', reasons: ['NOT_PERMITTED'] } }]);
});
