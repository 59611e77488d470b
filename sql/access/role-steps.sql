-- Purpose: what is asked of a role before it is made or changed. The definer's own.

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.looks_built_in(name text) returns boolean
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  -- Signs of Greek and Cyrillic that look like those of the four names, and digits; marks, spaces and the rest go.
  select regexp_replace(lower(translate(normalize(looks_built_in.name, nfkd),
      E'\u0391\u0392\u0395\u0399\u039c\u039d\u039f\u03b1\u03bf\u03b9\u03bd\u0410\u0412\u0415\u0406\u041c\u041e\u0430\u0435\u043c\u043e\u0456\u0475\u0501\u051d\u013101|',
      'abeimnoaoivabeimoaemoivdwioii')), '[^a-z0-9]', '', 'g')
    in ('owner', 'admin', 'member', 'viewer')
$$;
comment on function access_private.looks_built_in(text) is 'Whether people would take a name for that of a built-in role.';

create or replace function access_private.role_named(organization_id uuid, name text) returns uuid
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select r.id from access.roles r
    where r.organization_id = role_named.organization_id
      -- As in the unique index.
      and lower(btrim(regexp_replace(normalize(r.name, nfkc), '\s+', ' ', 'g')))
        = lower(btrim(regexp_replace(normalize(role_named.name, nfkc), '\s+', ' ', 'g')))
$$;
comment on function access_private.role_named(uuid, text) is 'The role of that name, however it is written; null if there is none.';

create or replace function access_private.role_faults(
  organization_id uuid, role_id uuid, name text, description text, permissions text[]
) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select array_remove(array[
    case when not access_private.valid_name(role_faults.name)
        or length(btrim(role_faults.name)) > platform.limit_value('role.name_length')
        or role_faults.name collate "C" ~ E'[\u200b-\u200f\u2060-\u2064]' then 'NAME_INVALID'
      when access_private.looks_built_in(role_faults.name)
        or nullif(access_private.role_named(role_faults.organization_id, role_faults.name), role_faults.role_id) is not null
        then 'NAME_TAKEN' end,
    case when role_faults.description is null or length(role_faults.description) > 1000
        or role_faults.description collate "C" ~ E'[\u0001-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]' then 'VALUE_INVALID' end,
    case when role_faults.permissions is null or exists (
        select from unnest(role_faults.permissions) u (permission)
          where not exists (select from access.permissions p where p.name = u.permission)) then 'PERMISSION_UNKNOWN'
      -- A role has no end, and whoever holds it may hold it for ever.
      when access_private.not_held(role_faults.permissions || access_private.held_by_role(role_faults.organization_id, role_faults.role_id),
        tstzrange(clock_timestamp(), 'infinity')) <> '{}' then 'NOT_HELD' end], null)
$$;
comment on function access_private.role_faults(uuid, uuid, text, text, text[]) is
  'Why a role cannot be made (role_id null) or become like this; empty if it can. Who makes or changes it holds, without an end, all that it permits and is to permit.';

create or replace function access_private.record_grants(action text, organization_id uuid, grants uuid[]) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select audit_private.append(record_grants.action, record_grants.organization_id, relation => 'access.membership_roles', row_id => mr.id::text,
      details => jsonb_build_object('person', m.person_id, 'membership', mr.membership_id, 'role', mr.role_id,
        'valid_from', mr.valid_from, 'valid_until', mr.valid_until, 'granted_by', mr.granted_by))
    from access.membership_roles mr
    join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
    where mr.organization_id = record_grants.organization_id and mr.id = any (record_grants.grants)
$$;
comment on function access_private.record_grants(text, uuid, uuid[]) is
  'Records that roles are given (role.grant) or, before they are, taken (role.revoke): which, of whom, for how long.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
