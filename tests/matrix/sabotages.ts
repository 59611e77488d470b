// What somebody could break, and which cell says so.
import type { Place } from './place.ts';

/** Name, what an administrator does, the relations that are looked at, and the cell that must tell. */
export const SABOTAGES: readonly (readonly [string, string | ((place: Place) => string), string, RegExp])[] = [
  ['a new table', 'create table access.odd (id integer primary key)', String.raw`^access\.odd$`, /access\.odd/],
  [
    'a new view over a closed table',
    'create view clinic.odd as select lookup from identity_private.emails; grant select on clinic.odd to safetypin_member',
    String.raw`^clinic\.odd$`,
    /clinic\.odd: select .*(OTHERS|UNKNOWN)/,
  ],
  [
    'row-level security that is off',
    'alter table access.roles disable row level security',
    String.raw`^access\.roles$`,
    /access\.roles: select .*OTHERS/,
  ],
  [
    'a dropped restrictive policy',
    'drop policy safetypin_tenant_select on clinic.patients',
    String.raw`^clinic\.patients$`,
    /clinic\.patients: select by owner: own\+OTHERS/,
  ],
  [
    'a permissive policy beside ours',
    'create policy odd on clinic.notes for select to safetypin_member using (true)',
    String.raw`^clinic\.notes$`,
    /clinic\.notes: select by viewer: own/,
  ],
  [
    'a restrictive policy without its check',
    'alter policy safetypin_tenant_update on clinic.measures with check (true); grant update (organization_id) on clinic.measures to safetypin_member',
    String.raw`^clinic\.measures$`,
    /clinic\.measures: move by owner: OTHERS/,
  ],
  [
    'an insert into any organization',
    'alter policy safetypin_tenant_insert on clinic.visits with check (true); grant insert on clinic.visits to safetypin_member',
    String.raw`^clinic\.visits$`,
    /clinic\.visits: insert other by owner: OTHERS/,
  ],
  [
    'a granted column of the organization, though the policy holds',
    'grant insert, update on clinic.patients to safetypin_member',
    String.raw`^clinic\.patients$`,
    /clinic\.patients: upsert by owner: own/,
  ],
  [
    'a select on a closed table, though row-level security holds',
    'grant usage on schema identity_private to safetypin_member; grant select on identity_private.emails to safetypin_member',
    String.raw`^identity_private\.emails$`,
    /identity_private\.emails: select by owner: nothing/,
  ],
  [
    'truncate',
    'grant truncate on clinic.patients to safetypin_member',
    String.raw`^clinic\.patients$`,
    /clinic\.patients: truncate by owner: /,
  ],
  [
    'a partition that can be named',
    'grant select on clinic.measures_all to safetypin_member',
    String.raw`^clinic\.measures_all$`,
    /clinic\.measures_all: select by owner: own\+OTHERS/,
  ],
  [
    'a view that runs as its owner',
    'alter view clinic.names set (security_invoker = false)',
    String.raw`^clinic\.names$`,
    /clinic\.names: select by owner: own\+OTHERS/,
  ],
  [
    'a role that row-level security does not hold',
    'alter role safetypin_member bypassrls',
    String.raw`^access\.memberships$`,
    /access\.memberships: select by bare-member: OTHERS/,
  ],
  [
    'a foreign key without the organization',
    'alter table clinic.visits drop constraint visits_organization_id_patient_id_fkey; alter table clinic.patients add unique (id); alter table clinic.visits add foreign key (patient_id) references clinic.patients (id)',
    String.raw`^clinic\.visits$`,
    /clinic\.visits: refer to other by owner: OTHERS/,
  ],
  [
    'an organization that is taken from a setting',
    (place) =>
      `create or replace function request.organization_id() returns uuid language sql stable as $$ select '${place.organizations.get('B')}'::uuid $$`,
    String.raw`^clinic\.patients$`,
    /clinic\.patients: select by bare-member: nothing|clinic\.patients: select by owner: OTHERS/,
  ],
  [
    'a session that is not looked at again',
    "do $$ begin execute 'create or replace view request_private.session_context with (security_invoker = true) as ' || replace(pg_get_viewdef('request_private.session_context'::regclass), 's.ends_at > clock_timestamp()', 'true'); end $$",
    String.raw`^sessions\.sessions$`,
    /sessions\.sessions: select by ended-session: OTHERS/,
  ],
  [
    'a permission that everybody holds',
    "do $$ begin execute replace(pg_get_functiondef('request.can(text)'::regprocedure), 'if exists (', 'if true or exists ('); end $$",
    String.raw`^clinic\.notes$`,
    /clinic\.notes: select by viewer: own/,
  ],
];
