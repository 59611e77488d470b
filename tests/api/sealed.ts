// A clinic with sealed columns of every sort, and those who ask: somebody who may, a colleague who may not, a neighbour.
import type pg from 'pg';
import { type Api, type GraphQLAnswer, type Json, type Member, startApi } from './api.ts';

export const HOST = `
  create schema clinic;
  create table clinic.patients (
    organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, born date, weight numeric,
    seen timestamptz, facts jsonb, stay interval, visits_paid boolean, code text,
    primary key (organization_id, id));
  create index on clinic.patients (organization_id, name);
  select access.protect('clinic.patients');
  select access.define_permission('patient.read_ssn', 'Read social security numbers.');
  select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', permission => 'patient.read_ssn', searchable => true,
    options => '{"unique": true, "format": "^[0-9]{3}-[0-9]{2}-[0-9]{4}$"}');
  select keyring.seal_column('clinic.patients', 'code', subject => 'id', permission => 'patient.read_ssn', options => '{"refusal": "error", "write": null}');
  select keyring.seal_column('clinic.patients', c, subject => 'id', searchable => c = 'born')
    from unnest('{born,weight,seen,facts,stay,visits_paid}'::name[]) c;
  create table clinic.visits (
    organization_id uuid not null, patient_id uuid not null, number integer not null, reason text not null, result text,
    primary key (organization_id, patient_id, number),
    foreign key (organization_id, patient_id) references clinic.patients (organization_id, id) on delete cascade);
  select access.protect('clinic.visits');
  select keyring.seal_column('clinic.visits', 'reason', subject => 'patient_id');
  select keyring.seal_column('clinic.visits', 'result', subject => 'patient_id', class => 'sensitive');
  create table clinic.beds (
    organization_id uuid not null, ward text not null, number integer not null, code text, primary key (organization_id, ward, number));
  select access.protect('clinic.beds');
  select keyring.seal_column('clinic.beds', 'code');
  create table clinic.charts (
    organization_id uuid not null, id uuid default platform.uuid_v7(), born date, code text, primary key (organization_id, id));
  insert into clinic.charts (organization_id, born, code) values (platform.uuid_v7(), '1900-01-01', 'old');
  select access.protect('clinic.charts');
  select keyring.seal_column('clinic.charts', 'born', permission => 'patient.read_ssn');
  select keyring.seal_column('clinic.charts', 'code', permission => 'patient.read_ssn', options => '{"refusal": "error"}');
  create function clinic.heavy() returns setof clinic.patients language sql stable begin atomic select p from clinic.patients p; end;
  create function clinic.rename(old text, new text) returns clinic.patients language sql volatile
    begin atomic update clinic.patients set name = new where name = old returning *; end;
  grant execute on function clinic.heavy(), clinic.rename(text, text) to safetypin_member;
`;

export interface Clinic {
  readonly api: Api;
  readonly admin: pg.Client;
  readonly ada: Member;
  /** In Ada's organization, without the permission. */
  readonly eve: Member;
  readonly bob: Member;
  /** What server and worker said. */
  readonly said: string[];
}

/** The server with the clinic in it. `more` is run as owner behind it. */
export async function openClinic(more = '', environment: Record<string, string> = {}): Promise<Clinic> {
  const said: string[] = [];
  const api = await startApi({
    host: HOST + more,
    environment: { SAFETYPIN_SCHEMAS: 'clinic', ...environment },
    say: (line) => said.push(line),
  });
  const [ada, eve, bob] = await Promise.all([api.member('Ada'), api.member('Eve'), api.member('Bob')]);
  const admin = await api.db.connect('admin');
  const ask = async (who: Member): Promise<Json> =>
    (await api.gql('{ currentOrganization { id } currentUser { id } }', {}, who.accessToken)).data;
  const [ofAda, ofEve] = [await ask(ada), await ask(eve)];
  const organization = ofAda.currentOrganization.id;
  await admin.query(
    `with m as (insert into access.memberships (organization_id, person_id) values ($1, $2) returning id)
     insert into access.membership_roles (organization_id, membership_id, role_id)
     select $1, m.id, r.id from m, access.roles r where r.organization_id = $1 and r.name = 'member'`,
    [organization, ofEve.currentUser.id],
  );
  const { data } = await api.gql(
    'mutation($o: UUID!) { switchOrganization(input: { organizationId: $o }) { outcome accessToken refreshToken } }',
    { o: organization },
    eve.accessToken,
  );
  return { api, admin, ada, eve: { ...eve, ...data.switchOrganization }, bob, said };
}

export const CREATE =
  'mutation($p: PatientInput!) { createPatient(input: { patient: $p }) { patient { id nodeId name ssn born weight seen facts stay { years months days hours } visitsPaid code } } }';

export const create = async ({ api }: Clinic, who: Member, patient: object): Promise<Json> =>
  (await api.gql(CREATE, { p: patient }, who.accessToken)).data?.createPatient.patient;

/** Where something went wrong, and the code of it. */
export const refusals = ({ errors }: GraphQLAnswer): string[] =>
  (errors ?? []).map(({ path, extensions }) => `${path?.join('.')} ${extensions.code}`);

/** Works on a table as if no trigger stood before it, and puts each back as it was. */
export async function withoutTriggers(admin: pg.Client, table: string, work: () => Promise<unknown>): Promise<void> {
  const { rows } = await admin.query<{ off: string; on: string }>(
    `select format('alter table %s disable trigger %I', tgrelid::regclass, tgname) as off,
        format('alter table %s enable %s trigger %I', tgrelid::regclass, case tgenabled when 'A' then 'always' end, tgname) as on
      from pg_trigger where tgrelid = $1::regclass and not tgisinternal`,
    [table],
  );
  for (const { off } of rows) await admin.query(off);
  await work();
  for (const { on } of rows) await admin.query(on);
}
