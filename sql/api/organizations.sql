-- Purpose: founding, renaming, closing and handing over organizations, and which are one's own.

do $$
begin
  if to_regtype('api.plan_use') is null then
    create type api.plan_use as (what text, used integer, most integer);
  end if;
  if to_regtype('api.closing_result') is null then
    create type api.closing_result as (outcome api.changed_outcome, reasons text[], closes_at timestamptz);
    create type api.transfer_result as (outcome api.changed_outcome, reasons text[]);
  end if;
end $$;
comment on type api.plan_use is 'Something that the plan limits.';
comment on column api.plan_use.what is 'members, roles and so on.';
comment on column api.plan_use.used is 'How many there are.';
comment on column api.plan_use.most is 'How many there may be.';
comment on type api.closing_result is 'What became of closing or reopening: reasons are empty unless it was refused.';
comment on column api.closing_result.closes_at is 'When the organization is over; null if it goes on.';
comment on type api.transfer_result is 'What became of handing over: reasons are empty unless it was refused.';

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.my_organizations() returns setof access.organizations
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows reading beyond the active organization; the check is the person's own membership.
  select o.*
  from access.organizations o
  join access.memberships m on m.organization_id = o.id
  where m.person_id = (select request.signed_in_id()) and o.status = 'active' and o.closes_at > clock_timestamp()
  order by m.created_at, o.id
$$;
comment on function api.my_organizations() is 'Organizations that the caller belongs to, oldest membership first; what switchOrganization takes.';

create or replace function api.create_organization(name text) returns api.created_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_person uuid := request.signed_in_id();
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if not access_private.valid_name(name) then
    return ('REFUSED', '{NAME_INVALID}', null)::api.created_result;
  end if;
  -- The person's row is held, so that the limit holds when two are founded at once.
  perform from identity.people p where p.id = v_person for no key update;
  if (select count(*) from access.organizations o where o.created_by = v_person) >= platform.limit_value('organization.per_person') then
    return ('REFUSED', access_private.refused('organization.create', '{LIMIT_REACHED}'), null)::api.created_result;
  end if;
  return ('CREATED', '{}', access_private.found_organization(btrim(name), v_person))::api.created_result;
end $$;
comment on function api.create_organization(text) is
  'Founds an organization with the caller as its owner; switchOrganization makes it active. REFUSED with NAME_INVALID or LIMIT_REACHED; AUTHN for nobody.';

create or replace function api.plan_usage() returns setof api.plan_use
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not coalesce(request.can('plan.read'), false) then
    raise exception 'plan.read is needed' using errcode = 'DENYD';
  end if;
  return query
    select l.what, access_private.used(o.id, l.what), l.most
      from access.organizations o
      join access.plan_limits l on l.plan = o.plan
      where o.id = request.organization_id()
      order by l.what;
end $$;
comment on function api.plan_usage() is
  'What the plan of the active organization limits, and how much of it is used. Demands plan.read.';

create or replace function api.rename_organization(name text, version integer) returns api.changed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_version integer;
begin
  if not coalesce(request.can('organization.update'), false) then
    return ('REFUSED', access_private.refused('organization.rename', '{NOT_PERMITTED}'), null)::api.changed_result;
  end if;
  if not access_private.valid_name(name) then
    return ('REFUSED', '{NAME_INVALID}', null)::api.changed_result;
  end if;
  update access.organizations o
    set name = btrim(rename_organization.name), updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_organization and o.version = rename_organization.version
    returning o.version into v_version;
  if not found then
    raise exception 'the organization changed in the meantime' using errcode = 'STALE';
  end if;
  perform audit_private.append('organization.rename');
  return ('CHANGED', '{}', v_version)::api.changed_result;
end $$;
comment on function api.rename_organization(text, integer) is
  'Renames the active organization; its slug stays. Version as it was read: STALE_VERSION if somebody changed it since. REFUSED with NOT_PERMITTED or NAME_INVALID.';

create or replace function api.close_organization() returns api.closing_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_closes_at timestamptz;
begin
  -- Sessions that begin wait for it: each ends with the organization.
  if not access_private.take_turn_to('organization.close') then
    return ('REFUSED', access_private.refused('organization.close', '{NOT_PERMITTED}'), null)::api.closing_result;
  end if;
  update access.organizations o
    set closes_at = clock_timestamp() + make_interval(secs => platform.limit_value('organization.grace_seconds')),
        updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_organization and o.closes_at = 'infinity'
    returning o.closes_at into v_closes_at;
  if not found then
    select o.closes_at into v_closes_at from access.organizations o where o.id = v_organization;
    return ('REFUSED', '{CLOSING}', v_closes_at)::api.closing_result;
  end if;
  perform audit_private.append('organization.close', details => jsonb_build_object('closes_at', v_closes_at));
  return ('CHANGED', '{}', v_closes_at)::api.closing_result;
end $$;
comment on function api.close_organization() is
  'Closes the active organization after a time of grace, until which everything works and reopenOrganization takes it back. closesAt says when; sessions in it end then at the latest. REFUSED with NOT_PERMITTED, or CLOSING if it is closing already.';

create or replace function api.reopen_organization() returns api.closing_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not access_private.take_turn_to('organization.close') then
    return ('REFUSED', access_private.refused('organization.reopen', '{NOT_PERMITTED}'), null)::api.closing_result;
  end if;
  update access.organizations o
    set closes_at = 'infinity', updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_organization and o.closes_at < 'infinity' and o.closes_at > clock_timestamp();
  if not found then
    return ('REFUSED', '{NOT_CLOSING}', null)::api.closing_result;
  end if;
  perform audit_private.append('organization.reopen');
  return ('CHANGED', '{}', null)::api.closing_result;
end $$;
comment on function api.reopen_organization() is
  'Takes the closing of the active organization back, as long as it is not over. REFUSED with NOT_PERMITTED or NOT_CLOSING.';

create or replace function api.transfer_ownership(membership_id uuid) returns api.transfer_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
  v_own uuid;
  v_owner uuid;
  v_to uuid;
  v_given uuid[];
  v_status text;
  v_reason text;
begin
  if not access_private.take_turn_to('organization.transfer') then
    return ('REFUSED', access_private.refused('organization.transfer', '{NOT_PERMITTED}'))::api.transfer_result;
  end if;
  select r.id into v_owner from access.roles r
    where r.organization_id = v_organization and r.built_in and r.name = 'owner';
  select m.id into v_own from access.memberships m where m.organization_id = v_organization and m.person_id = v_person;
  select m.person_id, p.status into v_to, v_status
    from access.memberships m
    join identity.people p on p.id = m.person_id
    where m.organization_id = v_organization and m.id = transfer_ownership.membership_id and m.id <> v_own;
  v_reason := case
    when v_to is null then 'NOT_FOUND'
    when v_status <> 'active' then 'NOT_ACTIVE'
    when access_private.not_held(
        access_private.held_by_role(v_organization, v_owner), tstzrange(clock_timestamp(), 'infinity')) <> '{}' then 'NOT_HELD'
    end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('organization.transfer', array[v_reason]))::api.transfer_result;
  end if;
  -- Given first: there is an owner at each moment.
  with given as (
    insert into access.membership_roles (organization_id, membership_id, role_id, granted_by)
      select v_organization, transfer_ownership.membership_id, v_owner, v_person
      where not exists (
        select from access.membership_roles mr
          where mr.organization_id = v_organization and mr.membership_id = transfer_ownership.membership_id
            and mr.role_id = v_owner and mr.valid_from <= clock_timestamp() and mr.valid_until = 'infinity')
      returning id)
    select coalesce(array_agg(g.id), '{}') into v_given from given g;
  -- Whoever had nothing but this stays as an admin, rather than as somebody who may not even look.
  with given as (
    insert into access.membership_roles (organization_id, membership_id, role_id, granted_by)
      select v_organization, v_own, r.id, v_person
      from access.roles r
      where r.organization_id = v_organization and r.built_in and r.name = 'admin' and not exists (
        select from access.membership_roles mr
          where mr.organization_id = v_organization and mr.membership_id = v_own and mr.role_id <> v_owner
            and mr.valid_from <= clock_timestamp() and mr.valid_until > clock_timestamp())
      returning id)
    select v_given || coalesce(array_agg(g.id), '{}') into v_given from given g;
  perform access_private.record_grants('role.grant', v_organization, v_given);
  perform access_private.record_grants('role.revoke', v_organization, array(
    select mr.id from access.membership_roles mr
      where mr.organization_id = v_organization and mr.membership_id = v_own and mr.role_id = v_owner));
  delete from access.membership_roles mr
    where mr.organization_id = v_organization and mr.membership_id = v_own and mr.role_id = v_owner;
  perform audit_private.append('organization.transfer', details => jsonb_build_object('to', v_to));
  return ('CHANGED', '{}')::api.transfer_result;
end $$;
comment on function api.transfer_ownership(uuid) is
  'Makes another member an owner of the active organization and takes that from the caller, in one transaction; other roles stay, and whoever has none becomes an admin. REFUSED with NOT_PERMITTED, NOT_FOUND, NOT_ACTIVE or NOT_HELD.';

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
