-- Purpose: making roles and giving them to members. Each function takes the organization's turn before it reads what it
-- decides on, so nothing of that changes until it is done.

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.create_role(name text, description text default '', permissions text[] default '{}') returns api.created_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- Borrows writing roles; the checks are role.create, and that the asker holds what the role is to permit.
declare
  v_organization uuid := access_private.acting_in();
  v_id uuid := platform.uuid_v7();
  v_reasons text[];
begin
  if not access_private.take_turn_to('role.create') then
    return ('REFUSED', access_private.refused('role.create', '{NOT_PERMITTED}'), null)::api.created_result;
  end if;
  v_reasons := access_private.role_faults(v_organization, null, name, description, permissions);
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('role.create', v_reasons), null)::api.created_result;
  end if;
  if not access_private.room(v_organization, 'roles') then
    return ('REFUSED', access_private.refused('role.create', '{LIMIT_REACHED}'), null)::api.created_result;
  end if;
  insert into access.roles (organization_id, id, name, description)
    values (v_organization, v_id, btrim(create_role.name), create_role.description);
  insert into access.role_permissions (organization_id, role_id, permission)
    select distinct v_organization, v_id, u.permission from unnest(create_role.permissions) u (permission);
  perform audit_private.append('role.create', relation => 'access.roles', row_id => v_id::text, details => jsonb_build_object(
    'permissions', access_private.held_by_role(v_organization, v_id)));
  return ('CREATED', '{}', v_id)::api.created_result;
end $$;
comment on function api.create_role(text, text, text[]) is
  'Makes a role out of permissions that the caller holds without an end. Needs role.create. REFUSED with NOT_PERMITTED, NAME_INVALID, NAME_TAKEN (also for what looks like a built-in role), VALUE_INVALID (description), PERMISSION_UNKNOWN, NOT_HELD or LIMIT_REACHED (of the plan).';

create or replace function api.update_role(
  id uuid, version integer, name text default null, description text default null, permissions text[] default null
) returns api.changed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- Borrows writing roles; the checks are role.update, and that the asker holds what the role permits and is to permit.
declare
  v_organization uuid := access_private.acting_in();
  v_role access.roles;
  v_before text[];
  v_after text[];
  v_reasons text[];
begin
  if not access_private.take_turn_to('role.update') then
    return ('REFUSED', access_private.refused('role.update', '{NOT_PERMITTED}'), null)::api.changed_result;
  end if;
  select r.* into v_role from access.roles r where r.organization_id = v_organization and r.id = update_role.id;
  if not found or v_role.built_in then
    return ('REFUSED', access_private.refused('role.update', case when found then '{BUILT_IN}' else '{NOT_FOUND}' end::text[]), null)::api.changed_result;
  end if;
  if v_role.version is distinct from update_role.version then
    raise exception 'the role was changed' using errcode = 'STALE';
  end if;
  v_before := access_private.held_by_role(v_organization, v_role.id);
  v_reasons := access_private.role_faults(v_organization, v_role.id, coalesce(update_role.name, v_role.name),
    coalesce(update_role.description, v_role.description), coalesce(update_role.permissions, v_before));
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('role.update', v_reasons), null)::api.changed_result;
  end if;
  delete from access.role_permissions rp
    where rp.organization_id = v_organization and rp.role_id = v_role.id and rp.permission <> all (update_role.permissions);
  insert into access.role_permissions (organization_id, role_id, permission)
    select distinct v_organization, v_role.id, u.permission from unnest(update_role.permissions) u (permission)
    on conflict on constraint role_permissions_pkey do nothing;
  update access.roles r
    set name = coalesce(btrim(update_role.name), r.name), description = coalesce(update_role.description, r.description),
        updated_at = clock_timestamp(), version = r.version + 1
    where r.organization_id = v_organization and r.id = v_role.id
    returning r.version into v_role.version;
  v_after := access_private.held_by_role(v_organization, v_role.id);
  perform audit_private.append('role.update', relation => 'access.roles', row_id => v_role.id::text, details => jsonb_build_object(
    'added', array(select p from unnest(v_after) p where p <> all (v_before)),
    'removed', array(select p from unnest(v_before) p where p <> all (v_after))));
  return ('CHANGED', '{}', v_role.version)::api.changed_result;
end $$;
comment on function api.update_role(uuid, integer, text, text, text[]) is
  'Changes a role; null leaves something as it is. Whoever holds the role has what it permits in their next statement. Needs role.update, and to hold without an end all that it permits and is to permit. REFUSED with NOT_PERMITTED, NOT_FOUND, BUILT_IN or as createRole; STALE for another version.';

create or replace function api.delete_role(id uuid) returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows removing roles; the checks are role.delete, and that the asker holds what the role permits.
declare
  v_organization uuid := access_private.acting_in();
  v_role access.roles;
  v_permissions text[];
  v_grants integer;
begin
  if not access_private.take_turn_to('role.delete') then
    return ('REFUSED', access_private.refused('role.delete', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select r.* into v_role from access.roles r where r.organization_id = v_organization and r.id = delete_role.id;
  if not found or v_role.built_in then
    return ('REFUSED', access_private.refused('role.delete', case when found then '{BUILT_IN}' else '{NOT_FOUND}' end::text[]))::api.removed_result;
  end if;
  v_permissions := access_private.held_by_role(v_organization, v_role.id);
  if access_private.not_held(v_permissions, tstzrange(clock_timestamp(), 'infinity')) <> '{}' then
    return ('REFUSED', access_private.refused('role.delete', '{NOT_HELD}'))::api.removed_result;
  end if;
  -- First from whoever holds it: so it is worked out once.
  delete from access.membership_roles mr where mr.organization_id = v_organization and mr.role_id = v_role.id;
  get diagnostics v_grants = row_count;
  delete from access.roles r where r.organization_id = v_organization and r.id = v_role.id;
  perform audit_private.append('role.delete', relation => 'access.roles', row_id => v_role.id::text,
    details => jsonb_build_object('permissions', v_permissions, 'grants', v_grants));
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.delete_role(uuid) is
  'Removes a role, and takes it from whoever holds it. Needs role.delete, and to hold without an end all that it permits. REFUSED with NOT_PERMITTED, NOT_FOUND, BUILT_IN or NOT_HELD.';

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
