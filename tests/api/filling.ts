// Tables as full as after years, for tests of plans.
import type { TestDatabase } from '../support/database.ts';

export const ROWS = 20_000;

/** A host table with every kind of index and type: which of them may be used is what the tests ask. */
export const HOST = `
  create schema clinic;
  grant usage on schema clinic to safetypin_member;
  create table clinic.patients (
    organization_id uuid not null,
    id uuid not null default platform.uuid_v7(),
    name text not null,
    born date not null,
    number integer not null,
    weight numeric not null,
    ward text not null,
    note text not null,
    nickname text not null,
    face bytea not null,
    primary key (organization_id, id));
  create unique index on clinic.patients (organization_id, number) include (note);
  create index on clinic.patients (organization_id, name);
  create index on clinic.patients (organization_id, born desc);
  create index on clinic.patients (organization_id, weight);
  create index on clinic.patients (organization_id, face);
  create index on clinic.patients (organization_id, number, ward);
  create index on clinic.patients (organization_id, nickname) where nickname <> '';
  create index on clinic.patients using hash (nickname);
  create view clinic.names with (security_invoker) as select organization_id, name from clinic.patients;
  grant select on clinic.names to safetypin_member;
  select access.protect('clinic.patients');
`;

/** How rows of a table are made: columns and values; $1 is the organization, $2 the person, i the row's number. */
const FILL: Readonly<Record<string, readonly [columns: string, values: string]>> = {
  'access.permissions': ['name, description', "'fill.p' || translate(i::text, '0123456789', 'abcdefghij'), ''"],
  'audit.actions': [
    'name, category, severity, description',
    "'fill.p' || translate(i::text, '0123456789', 'abcdefghij'), 'data', 'info', ''",
  ],
  'identity.people': ['locale', "'en'"],
  'access.organizations': ['name, slug, created_by', "'o' || i, access_private.slug('o' || i), p.id"],
  'access.roles': ['organization_id, name', "$1, 'role ' || i"],
  'access.role_permissions': ['organization_id, role_id, permission', "$1, p.id, 'audit.read'"],
  'access.memberships': ['organization_id, person_id', '$1, p.id'],
  'access.membership_roles': [
    'organization_id, membership_id, role_id, granted_by',
    "$1, p.id, (select id from access.roles where organization_id = $1 and name = 'role ' || i), platform.uuid_v7()",
  ],
  'access.invitations': [
    'organization_id, role_id, invited_by, accepted_by, expires_at',
    "$1, (select id from access.roles where organization_id = $1 and name = 'role ' || i), p.id, p.id, now() + make_interval(mins => i)",
  ],
  'access.service_accounts': ['organization_id, name, permissions, created_by', "$1, 's' || i, '{row.read}', p.id"],
  'access.api_keys': [
    'organization_id, name, service_account_id, person_id, created_by, permissions, prefix, expires_at',
    "$1, 'k' || i, case when i % 2 = 0 then p.id end, case when i % 2 = 1 then p.id end, p.id, '{row.read}', 'sp_A' || lpad(i::text, 8, '0'), now() + make_interval(days => i)",
  ],
  'access.domains': ['organization_id, domain, added_by', "$1, 'd' || i || '.example', p.id"],
  'sessions.sessions': [
    'person_id, organization_id, created_at, ends_at',
    "case when i % 10 = 0 then $2 else p.id end, $1, now() - make_interval(mins => i), now() + interval '1 day'",
  ],
  'audit.events': [
    'organization_id, occurred_at, action, category, severity, actor_id, database_role, entry',
    "$1, now() - make_interval(mins => i), 'session.open', 'session', 'info', platform.uuid_v7(), 'x', '\\x01'",
  ],
  'clinic.patients': [
    'organization_id, name, born, number, weight, ward, note, nickname, face',
    "$1, 'name ' || i, date '1950-01-01' + i, i, i / 7.0, 'w', '', '', decode(md5(i::text), 'hex')",
  ],
};

const PEOPLE = 'select id from identity.people where id <> $2 order by id limit 20000';
/** Where `p` in the values above comes from: the n-th row of another table. */
const PARTNERS: Readonly<Record<string, string>> = {
  'access.organizations': PEOPLE,
  'access.role_permissions': "select id from access.roles where organization_id = $1 and name like 'role %'",
  'access.memberships': PEOPLE,
  'access.domains': PEOPLE,
  'access.invitations': PEOPLE,
  'access.service_accounts': PEOPLE,
  'access.api_keys': 'select id from access.service_accounts where organization_id = $1 order by id limit 20000',
  'sessions.sessions': PEOPLE,
  'access.membership_roles': 'select id from access.memberships where organization_id = $1 order by id limit 20000',
};

/** Fills every table that the API lists. Triggers are off: nobody did these things. */
export async function fill(db: TestDatabase, organization: string, person: string): Promise<readonly string[]> {
  const admin = await db.connect('admin');
  for (const [table, [columns, values]] of Object.entries(FILL)) {
    const partners = PARTNERS[table] ?? 'select null::uuid as id from generate_series(1, 20000)';
    await admin.query('begin');
    await admin.query(`alter table ${table} disable trigger all`);
    await admin.query(
      `insert into ${table} (${columns}) select ${values} from (
         select id, (row_number() over ())::int as i from (${partners}) partners, (select $1::uuid, $2::uuid) who) p`,
      [organization, person],
    );
    await admin.query(`alter table ${table} enable trigger all`);
    await admin.query('commit');
    await admin.query(`analyze ${table}`);
  }
  await admin.end();
  return Object.keys(FILL);
}
