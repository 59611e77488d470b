-- Purpose: who belongs to the active organization: names, addresses, removing, leaving.

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.memberships_display_name(membership access.memberships) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows opening names; the checks are the active organization, and member.read or one's own membership. Of the row given
-- only the key is believed: anybody can make one up.
  select keyring_private.open('identity.people.display_name', platform.no_organization(), m.person_id, f.display_name)
    from access.memberships m
    join identity.people p on p.id = m.person_id and p.status <> 'erased'
    join identity_private.profiles f on f.person_id = m.person_id
    where m.organization_id = (select request.organization_id()) and m.id = membership.id
      and ((select request.can('member.read')) or m.person_id = (select request.owner_id()))
$$;
comment on function api.memberships_display_name(access.memberships) is 'Name of the member.';

create or replace function api.memberships_email(membership access.memberships) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- As for the name, with member.contact.
  select keyring_private.open('identity.emails.address', platform.no_organization(), e.id, e.address)
    from access.memberships m
    join identity.people p on p.id = m.person_id and p.status <> 'erased'
    join identity_private.emails e on e.person_id = m.person_id and e.is_primary
    where m.organization_id = (select request.organization_id()) and m.id = membership.id
      and ((select request.can('member.contact')) or m.person_id = (select request.owner_id()))
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
  perform access_private.take_turn(v_organization);
  if not request.can('member.remove') then
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
revoke create on schema api from safetypin_definer;
