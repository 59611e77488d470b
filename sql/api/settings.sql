-- Purpose: what an organization has set, and changing it.

do $$
begin
  if to_regtype('api.organization_setting') is null then
    create type api.organization_setting as (
      name text, description text, type text, value jsonb, default_value jsonb, minimum double precision,
      maximum double precision, allowed text[],
      is_default boolean, can_change boolean);
    create type api.setting_result as (outcome api.changed_outcome, reasons text[], value jsonb, allowed text);
  end if;
end $$;
comment on type api.organization_setting is 'A setting of the active organization.';
comment on column api.organization_setting.name is 'noun.word, as changeSetting takes it.';
comment on column api.organization_setting.description is 'What it does.';
comment on column api.organization_setting.type is 'integer, boolean, text or role.';
comment on column api.organization_setting.value is 'The value that counts. Of a role: its id, or null.';
comment on column api.organization_setting.default_value is 'The value that counts where nothing is set.';
comment on column api.organization_setting.minimum is 'Lowest number, or length of the shortest text.';
comment on column api.organization_setting.maximum is 'Highest number, or length of the longest text.';
comment on column api.organization_setting.allowed is 'The texts that can be chosen; null: any.';
comment on column api.organization_setting.is_default is 'Whether nothing is set.';
comment on column api.organization_setting.can_change is 'Whether the caller may change it.';
comment on type api.setting_result is 'What became of changing a setting: reasons are empty unless it was refused; value is what counts now.';
comment on column api.setting_result.allowed is 'What it can be, for people; null unless the value was refused.';

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.organization_settings() returns setof api.organization_setting
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows reading settings. The check: the active organization's, and for each the permission to read it.
declare
  v_organization uuid := request.organization_id();
begin
  if v_organization is null then
    raise exception 'no organization is active' using errcode = 'DENYD';
  end if;
  return query
    select d.name, d.description, d.type, access_private.setting(v_organization, d.name), access_private.setting_default(d),
        d.minimum::double precision, access_private.setting_most(d)::double precision, d.allowed, s.name is null,
        request.can(d.write_permission)
      from access.setting_definitions d
      left join access.settings s on s.organization_id = v_organization and s.name = d.name
      where d.read_permission is null or request.can(d.read_permission)
      order by d.name;
end $$;
comment on function api.organization_settings() is
  'The settings of the active organization that the caller may see. DENYD while no organization is active.';

create or replace function api_steps.set_setting(name text, value jsonb, reset boolean) returns api.setting_result
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_definition access.setting_definitions;
  v_value jsonb := coalesce(value, 'null');
  v_role uuid;
  v_old jsonb;
  v_new jsonb;
begin
  select d.* into v_definition from access.setting_definitions d where d.name = set_setting.name;
  if not found then
    return ('REFUSED', '{NOT_FOUND}', null, null)::api.setting_result;
  end if;
  -- First, since what may be handed on with a role is decided by what stands now; and sessions that begin wait for it.
  if not access_private.take_turn_to(v_definition.write_permission) then
    return ('REFUSED', access_private.refused('setting.change', '{NOT_PERMITTED}'), null, null)::api.setting_result;
  end if;
  if not reset and v_definition.type = 'role' and v_value <> 'null' then
    select r.id into v_role from access.roles r
      where r.organization_id = v_organization and v_value #>> '{}' in (r.id::text, r.name)
      order by (r.id::text = v_value #>> '{}') desc
      limit 1;
    v_value := to_jsonb(v_role::text);
  end if;
  if not reset and not access_private.setting_fits(v_definition, v_value) then
    return ('REFUSED', '{VALUE_INVALID}', null, access_private.setting_allows(v_definition))::api.setting_result;
  end if;
  -- Whoever gets a role by a setting gets it from whoever sets it.
  if v_role is not null and access_private.not_held(
      access_private.held_by_role(v_organization, v_role), tstzrange(clock_timestamp(), 'infinity')) <> '{}' then
    return ('REFUSED', access_private.refused('setting.change', '{NOT_HELD}'), null,
      access_private.setting_allows(v_definition))::api.setting_result;
  end if;
  -- Those who join by address had nobody look at them. Asked again when somebody joins.
  if v_role is not null and v_definition.name = 'domain.join_role' and not access_private.below_ceiling(v_organization, v_role) then
    return ('REFUSED', access_private.refused('setting.change', '{ABOVE_CEILING}'), null,
      access_private.setting_allows(v_definition))::api.setting_result;
  end if;
  v_old := access_private.setting(v_organization, v_definition.name);
  if reset then
    delete from access.settings s where s.organization_id = v_organization and s.name = v_definition.name;
  else
    insert into access.settings as s (organization_id, name, value, role_id)
      values (v_organization, v_definition.name, v_value, v_role)
      on conflict on constraint settings_pkey do update
        set value = excluded.value, role_id = excluded.role_id, changed_at = clock_timestamp()
        where (s.value, s.role_id) is distinct from (excluded.value, excluded.role_id);
  end if;
  v_new := access_private.setting(v_organization, v_definition.name);
  perform audit_private.append('setting.change', details => jsonb_build_object(
    'setting', v_definition.name, 'old', v_old, 'new', v_new, 'reset', reset));
  return ('CHANGED', '{}', v_new, null)::api.setting_result;
end $$;
comment on function api_steps.set_setting(text, jsonb, boolean) is 'What api.change_setting() and api.reset_setting() do.';

create or replace function api.change_setting(name text, value jsonb) returns api.setting_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  return api_steps.set_setting(name, value, false);
end $$;
comment on function api.change_setting(text, jsonb) is
  'Sets a setting of the active organization. REFUSED with NOT_FOUND, NOT_PERMITTED, VALUE_INVALID (allowed says what it can be), NOT_HELD, for a role that permits more than the caller may do, or ABOVE_CEILING, for one of domain.join_role that permits more than members have.';

create or replace function api.reset_setting(name text) returns api.setting_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
begin
  return api_steps.set_setting(name, null, true);
end $$;
comment on function api.reset_setting(text) is
  'Takes back what was set in the active organization: the default counts again. REFUSED with NOT_FOUND or NOT_PERMITTED.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
