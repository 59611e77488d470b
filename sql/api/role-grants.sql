-- Purpose: giving roles to members and taking them back, and what one holds oneself.

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.grant_role(
  membership_id uuid, role_id uuid, valid_from timestamptz default null, valid_until timestamptz default null
) returns api.created_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows giving roles; the checks are member.update, and that the asker holds for all of that time what the role permits.
declare
  v_organization uuid := access_private.acting_in();
  v_from timestamptz;
  v_until timestamptz := coalesce(grant_role.valid_until, 'infinity');
  v_reason text;
  v_id uuid := platform.uuid_v7();
begin
  if not access_private.take_turn_to('member.update') then
    return ('REFUSED', access_private.refused('role.grant', '{NOT_PERMITTED}'), null)::api.created_result;
  end if;
  -- Nobody had the role before now, whatever is said about it.
  v_from := greatest(grant_role.valid_from, clock_timestamp());
  v_reason := case
    when not exists (select from access.memberships m where m.organization_id = v_organization and m.id = grant_role.membership_id)
      then 'NOT_FOUND'
    when not exists (select from access.roles r where r.organization_id = v_organization and r.id = grant_role.role_id)
      then 'ROLE_UNKNOWN'
    when v_from >= v_until then 'WINDOW_INVALID'
    when access_private.not_held(access_private.held_by_role(v_organization, grant_role.role_id), tstzrange(v_from, v_until)) <> '{}'
      then 'NOT_HELD'
    when (select count(*) from access.membership_roles mr
        where mr.organization_id = v_organization and mr.membership_id = grant_role.membership_id
          and mr.valid_until > clock_timestamp()) >= platform.limit_value('role.per_member')
      then 'LIMIT_REACHED' end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('role.grant', array[v_reason]), null)::api.created_result;
  end if;
  insert into access.membership_roles (organization_id, id, membership_id, role_id, valid_from, valid_until, granted_by)
    values (v_organization, v_id, grant_role.membership_id, grant_role.role_id, v_from, v_until, request.user_id());
  perform access_private.record_grants('role.grant', v_organization, array[v_id]);
  return ('CREATED', '{}', v_id)::api.created_result;
end $$;
comment on function api.grant_role(uuid, uuid, timestamptz, timestamptz) is
  'Gives a member a role, beside those she has, from a time (default: now) until a time (default: without an end). Needs member.update, and to hold for all of that time what the role permits. REFUSED with NOT_PERMITTED, NOT_FOUND (the membership), ROLE_UNKNOWN, WINDOW_INVALID, NOT_HELD or LIMIT_REACHED.';

create or replace function api.revoke_role(grant_id uuid) returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows taking roles; the checks are member.update, and that the asker holds all that the member holds.
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid;
begin
  if not access_private.take_turn_to('member.update') then
    return ('REFUSED', access_private.refused('role.revoke', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select m.person_id into v_person
    from access.membership_roles mr
    join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
    where mr.organization_id = v_organization and mr.id = revoke_role.grant_id;
  if not found then
    return ('REFUSED', access_private.refused('role.revoke', '{NOT_FOUND}'))::api.removed_result;
  end if;
  if not access_private.outranks(v_organization, v_person) then
    return ('REFUSED', access_private.refused('role.revoke', '{OUTRANKED}'))::api.removed_result;
  end if;
  begin
    perform access_private.record_grants('role.revoke', v_organization, array[revoke_role.grant_id]);
    delete from access.membership_roles mr where mr.organization_id = v_organization and mr.id = revoke_role.grant_id;
  exception when sqlstate 'LASTO' then
    return ('REFUSED', access_private.refused('role.revoke', '{LAST_OWNER}'))::api.removed_result;
  end;
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.revoke_role(uuid) is
  'Takes back one grant of a role, by the id of the membership role; what it gave is over in the member''s next statement. Needs member.update, and to hold all that the member holds. REFUSED with NOT_PERMITTED, NOT_FOUND, OUTRANKED or LAST_OWNER.';

create or replace function api.change_member_role(membership_id uuid, role text) returns api.member_role_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- Borrows giving and taking roles; the checks are member.update, that the asker holds all that the member holds, and
-- without an end what the new role permits.
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid;
  v_role uuid;
  v_reason text;
  v_id uuid := platform.uuid_v7();
begin
  if not access_private.take_turn_to('member.update') then
    return ('REFUSED', access_private.refused('member.role', '{NOT_PERMITTED}'), null)::api.member_role_result;
  end if;
  select m.person_id into v_person
    from access.memberships m where m.organization_id = v_organization and m.id = change_member_role.membership_id;
  v_role := access_private.role_named(v_organization, role);
  v_reason := case
    when v_person is null then 'NOT_FOUND'
    when v_role is null then 'ROLE_UNKNOWN'
    when not access_private.outranks(v_organization, v_person) then 'OUTRANKED'
    when access_private.not_held(access_private.held_by_role(v_organization, v_role), tstzrange(clock_timestamp(), 'infinity')) <> '{}'
      then 'NOT_HELD' end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('member.role', array[v_reason]), null)::api.member_role_result;
  end if;
  begin
    -- The new one first: whoever stays an owner is one all the time.
    insert into access.membership_roles (organization_id, id, membership_id, role_id, valid_from, granted_by)
      values (v_organization, v_id, change_member_role.membership_id, v_role, clock_timestamp(), request.user_id());
    perform access_private.record_grants('role.revoke', v_organization, array(
      select mr.id from access.membership_roles mr
        where mr.organization_id = v_organization and mr.membership_id = change_member_role.membership_id and mr.id <> v_id));
    delete from access.membership_roles mr
      where mr.organization_id = v_organization and mr.membership_id = change_member_role.membership_id and mr.id <> v_id;
    perform access_private.record_grants('role.grant', v_organization, array[v_id]);
  exception when sqlstate 'LASTO' then
    return ('REFUSED', access_private.refused('member.role', '{LAST_OWNER}'), null)::api.member_role_result;
  end;
  return ('CHANGED', '{}', v_id)::api.member_role_result;
end $$;
comment on function api.change_member_role(uuid, text) is
  'Takes all roles from a member and gives one without an end, by its name. Needs member.update, to hold all that the member holds, and without an end what the role permits. REFUSED with NOT_PERMITTED, NOT_FOUND, ROLE_UNKNOWN, OUTRANKED, NOT_HELD or LAST_OWNER.';

create or replace function api.my_permissions() returns setof api.held_permission
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows reading what is worked out about the asker; the check is that it is hers. A key has nothing to hand on, but
-- holds what it was made for as far as whose key it is holds that.
  with held as (
    select h.permission, upper(w.valid) as valid_until
      from access_private.holding() h
      cross join lateral unnest(h.valid) as w (valid)
      where w.valid @> clock_timestamp()
    union all
    select u.permission, least(k.expires_at, (
        select upper(w.valid)
          from access_private.held_permissions h
          cross join lateral unnest(h.valid) as w (valid)
          where h.organization_id = k.organization_id and h.person_id = k.person_id and h.permission = u.permission
            and w.valid @> clock_timestamp()))
      from access.api_keys k
      cross join lateral unnest(access_private.key_holds(k)) as u (permission)
      where k.organization_id = (select request.organization_id()) and k.id = (select request.api_key_id())
  )
  select h.permission, nullif(h.valid_until, 'infinity') from held h order by h.permission
$$;
comment on function api.my_permissions() is
  'What the caller may do now in the active organization, and until when; empty without one, and for an API key (see apiKeyReach). For showing what can be done: each statement is decided anew.';

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
