-- Purpose: inviting people, sending again, taking back. Whether an address has an account is asked nowhere here: only
-- whether it belongs to a member, which is known inside.

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.invite_member(email text, role text, valid_until timestamptz default null) returns api.created_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_until constant timestamptz := coalesce(invite_member.valid_until, 'infinity');
  v_address constant text := identity_private.normalize_email(invite_member.email);
  v_lookup bytea;
  v_role uuid;
  v_id uuid := platform.uuid_v7();
  v_reasons text[];
begin
  if not access_private.take_turn_to('member.invite') then
    return ('REFUSED', access_private.refused('member.invite', '{NOT_PERMITTED}'), null)::api.created_result;
  end if;
  select r.id into v_role from access.roles r where r.organization_id = v_organization and r.name = invite_member.role;
  v_reasons := array_remove(array[
    case when v_address is null then 'EMAIL_INVALID' end,
    case when v_role is null then 'ROLE_UNKNOWN' end,
    case when v_until <= clock_timestamp() then 'WINDOW_INVALID' end], null);
  if v_reasons <> '{}' then
    return ('REFUSED', v_reasons, null)::api.created_result;
  end if;
  if access_private.not_held(access_private.held_by_role(v_organization, v_role), tstzrange(clock_timestamp(), v_until)) <> '{}' then
    return ('REFUSED', access_private.refused('member.invite', '{NOT_HELD}'), null)::api.created_result;
  end if;
  v_lookup := identity_private.email_lookup(v_address);
  v_reasons := case
    when exists (
        select from identity_private.emails e
          join access.memberships m on m.person_id = e.person_id and m.organization_id = v_organization
          where e.lookup = v_lookup)
      then array['ALREADY_MEMBER']
    when exists (
        select from access_private.invitation_addresses a
          join access.invitations i on i.organization_id = a.organization_id and i.id = a.invitation_id
          where a.organization_id = v_organization and a.lookup = v_lookup
            and i.status = 'open' and i.expires_at > clock_timestamp())
      then array['ALREADY_INVITED']
    when not access_private.room(v_organization, 'invitations')
        or (select count(*) from access.invitations i
          where i.organization_id = v_organization and i.created_at > clock_timestamp() - interval '1 hour')
        >= platform.limit_value('invitation.per_hour')
      then access_private.refused('member.invite', '{LIMIT_REACHED}')
    else '{}' end;
  if v_reasons <> '{}' then
    return ('REFUSED', v_reasons, null)::api.created_result;
  end if;
  insert into access.invitations (organization_id, id, role_id, role_valid_until, invited_by, expires_at)
    values (v_organization, v_id, v_role, v_until, request.user_id(),
      clock_timestamp() + make_interval(secs => access_private.setting_number(v_organization, 'invitation.seconds')));
  insert into access_private.invitation_addresses (organization_id, invitation_id, address, lookup)
    values (v_organization, v_id,
      keyring_private.seal('access.invitations.address', v_organization, v_id, v_organization, v_address), v_lookup);
  perform access_private.ask_for_invitation_mail('invitation', v_organization, v_id);
  perform audit_private.append('invitation.create', v_organization,
    details => jsonb_build_object('invitation', v_id, 'role', v_role));
  return ('CREATED', '{}', v_id)::api.created_result;
end $$;
comment on function api.invite_member(text, text, timestamptz) is
  'Invites an address to the active organization with one of its roles, by name, for as long as validUntil says. REFUSED with NOT_PERMITTED (member.invite), EMAIL_INVALID, ROLE_UNKNOWN, WINDOW_INVALID, NOT_HELD (the role permits what the caller does not hold, or not for that long), ALREADY_MEMBER, ALREADY_INVITED or LIMIT_REACHED.';

create or replace function api.resend_invitation(invitation_id uuid) returns api.resent_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_invitation access.invitations;
  v_reason text;
begin
  if not access_private.take_turn_to('member.invite') then
    return ('REFUSED', access_private.refused('invitation.resend', '{NOT_PERMITTED}'))::api.resent_result;
  end if;
  select i.* into v_invitation from access.invitations i
    where i.organization_id = v_organization and i.id = resend_invitation.invitation_id
      and i.status = 'open' and i.role_id is not null and i.role_valid_until > clock_timestamp();
  v_reason := case
    when not found then 'NOT_FOUND'
    -- Who sends it again is who invites from now on.
    when access_private.not_held(access_private.held_by_role(v_organization, v_invitation.role_id),
        tstzrange(clock_timestamp(), v_invitation.role_valid_until)) <> '{}' then 'NOT_HELD'
    when (select count(*) from identity_private.mails m
          where m.organization_id = v_organization and m.invitation_id = v_invitation.id and m.kind = 'invitation'
            and m.created_at > clock_timestamp() - interval '1 hour') >= platform.limit_value('mail.per_address_per_hour')
      then 'LIMIT_REACHED'
    end;
  if v_reason is not null then
    return ('REFUSED', access_private.refused('invitation.resend', array[v_reason]))::api.resent_result;
  end if;
  -- The old token is void now, not only when the mail is written.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.organization_id = v_organization and t.invitation_id = v_invitation.id and t.consumed_at is null;
  update access.invitations i
    set invited_by = request.user_id(),
        expires_at = clock_timestamp() + make_interval(secs => access_private.setting_number(v_organization, 'invitation.seconds'))
    where i.organization_id = v_organization and i.id = v_invitation.id;
  perform access_private.ask_for_invitation_mail('invitation', v_organization, v_invitation.id);
  perform audit_private.append('invitation.resend', v_organization, details => jsonb_build_object('invitation', v_invitation.id));
  return ('SENT', '{}')::api.resent_result;
end $$;
comment on function api.resend_invitation(uuid) is
  'Sends an open invitation again, under a new token and with its whole time ahead, in the name of the caller. The old token is void. REFUSED with NOT_PERMITTED (member.invite), NOT_FOUND, NOT_HELD or LIMIT_REACHED.';

create or replace function api.revoke_invitation(invitation_id uuid) returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not access_private.take_turn_to('member.invite') then
    return ('REFUSED', access_private.refused('invitation.revoke', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  if access_private.revoke_invitations(v_organization, array[revoke_invitation.invitation_id]) = 0 then
    return ('REFUSED', access_private.refused('invitation.revoke', '{NOT_FOUND}'))::api.removed_result;
  end if;
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.revoke_invitation(uuid) is
  'Takes an open invitation back; its token is void at once. REFUSED with NOT_PERMITTED (member.invite) or NOT_FOUND.';

create or replace function api_steps.invitation_addresses(ids uuid[]) returns text[]
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows opening; the checks are the active organization, whose key seals them, and invitation.read.
declare
  v_organization uuid := request.organization_id();
  v_may boolean := request.can('invitation.read');
  v_sealed bytea[];
begin
  select array_agg(a.address order by u.n) into v_sealed
    from unnest(ids) with ordinality as u (id, n)
    left join access_private.invitation_addresses a
      on a.organization_id = v_organization and a.invitation_id = u.id and v_may;
  return keyring_private.open_set('access.invitations.address', v_organization, ids, v_sealed);
end $$;
comment on function api_steps.invitation_addresses(uuid[]) is
  'Addresses that were invited, by invitation, in the order given; null for what is not here, or without invitation.read.';

create or replace function api.invitations_email(invitation access.invitations) returns text
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Of the row given only the key is believed.
  select (api_steps.invitation_addresses(array[invitation.id]))[1]
$$;
comment on function api.invitations_email(access.invitations) is 'Address that was invited.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
