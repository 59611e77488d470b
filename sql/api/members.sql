-- Purpose: who belongs to the active organization: names, addresses, removing, leaving.

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.member_names(ids uuid[]) returns text[]
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows opening names; the checks are the active organization, and member.read or one's own membership.
declare
  v_organization uuid := request.organization_id();
  v_may boolean := request.can('member.read');
  v_own uuid := request.owner_id();
  v_people uuid[];
  v_sealed bytea[];
begin
  select array_agg(m.person_id order by u.n), array_agg(f.display_name order by u.n)
    into v_people, v_sealed
    from unnest(ids) with ordinality as u (id, n)
    left join access.memberships m on m.organization_id = v_organization and m.id = u.id and (v_may or m.person_id = v_own)
    left join identity_private.profiles f on f.person_id = m.person_id;
  return keyring_private.open_set('identity.people.display_name', platform.no_organization(), v_people, v_sealed);
end $$;
comment on function api_steps.member_names(uuid[]) is
  'Names of members, by membership, in the order given; null for who is not here, or erased, or without member.read.';

create or replace function api_steps.member_addresses(ids uuid[]) returns text[]
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- As for names, with member.contact.
declare
  v_organization uuid := request.organization_id();
  v_may boolean := request.can('member.contact');
  v_own uuid := request.owner_id();
  v_emails uuid[];
  v_sealed bytea[];
begin
  select array_agg(e.id order by u.n), array_agg(e.address order by u.n)
    into v_emails, v_sealed
    from unnest(ids) with ordinality as u (id, n)
    left join access.memberships m on m.organization_id = v_organization and m.id = u.id and (v_may or m.person_id = v_own)
    left join identity_private.emails e on e.person_id = m.person_id and e.is_primary;
  return keyring_private.open_set('identity.emails.address', platform.no_organization(), v_emails, v_sealed);
end $$;
comment on function api_steps.member_addresses(uuid[]) is
  'Primary addresses of members, by membership, in the order given; null as for names, but with member.contact.';

create or replace function api.memberships_display_name(membership access.memberships) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Of the row given only the key is believed: anybody can make one up. Lists over GraphQL ask for all at once.
  select (api_steps.member_names(array[membership.id]))[1]
$$;
comment on function api.memberships_display_name(access.memberships) is 'Name of the member.';

create or replace function api.memberships_email(membership access.memberships) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  select (api_steps.member_addresses(array[membership.id]))[1]
$$;
comment on function api.memberships_email(access.memberships) is
  'Primary e-mail address of the member; null without member.contact, unless it is one''s own.';

create or replace function api.remove_member(membership_id uuid) returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid;
  v_reason text;
begin
  if not access_private.take_turn_to('member.remove') then
    return ('REFUSED', access_private.refused('member.remove', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select m.person_id into v_person from access.memberships m
    where m.organization_id = v_organization and m.id = remove_member.membership_id;
  v_reason := case
    when not found then 'NOT_FOUND'
    when not access_private.outranks(v_organization, v_person) then 'OUTRANKED'
    when not access_private.has_owner(v_organization, v_person) then 'LAST_OWNER'
    end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('member.remove', array[v_reason]))::api.removed_result;
  end if;
  perform access_private.end_membership(v_organization, v_person, 'member.remove');
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.remove_member(uuid) is
  'Removes a member from the active organization: roles, sessions in it and waiting jobs end at once. REFUSED with NOT_PERMITTED (member.remove), NOT_FOUND, OUTRANKED (the member holds more than the caller) or LAST_OWNER.';

create or replace function api.leave_organization() returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
begin
  perform access_private.take_turn(v_organization);
  -- Removed while this call waited, or the session is over.
  if v_person is null or request.signed_in_id() is distinct from v_person then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if not access_private.has_owner(v_organization, v_person) then
    return ('REFUSED', access_private.refused('member.leave', '{LAST_OWNER}'))::api.removed_result;
  end if;
  perform access_private.end_membership(v_organization, v_person, 'member.leave');
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.leave_organization() is
  'Leaves the active organization; this session, and every other one in it, ends. REFUSED with LAST_OWNER. AUTHN for nobody.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
