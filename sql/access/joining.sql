-- Purpose: how memberships begin and end: accepting an invitation (one token, one membership, and only as long as whoever
-- invited could still invite), and what goes with a membership.

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.live_invitation(token bytea) returns access.invitations
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select i.*
    from identity_private.tokens t
    join access.invitations i on i.organization_id = t.organization_id and i.id = t.invitation_id
    join access.organizations o on o.id = i.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
    where t.hash = sha256(live_invitation.token) and t.purpose = 'invitation'
      and t.consumed_at is null and t.expires_at > clock_timestamp()
      and i.status = 'open' and i.expires_at > clock_timestamp()
      and i.role_id is not null and i.role_valid_until > clock_timestamp()
$$;
comment on function access_private.live_invitation(bytea) is 'The open invitation of a live token; null for any other token.';

create or replace function access_private.may_invite(organization_id uuid, person_id uuid, permissions text[], until timestamptz) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select exists (
      select from access.memberships m
        join identity.people p on p.id = m.person_id and p.status = 'active'
        where m.organization_id = may_invite.organization_id and m.person_id = may_invite.person_id)
    and exists (
      select from access_private.held_permissions h
        where h.organization_id = may_invite.organization_id and h.person_id = may_invite.person_id
          and h.permission = 'member.invite' and h.valid @> clock_timestamp())
    and not exists (
      select from unnest(may_invite.permissions) as u (permission)
        where not exists (
          select from access_private.held_permissions h
            where h.organization_id = may_invite.organization_id and h.person_id = may_invite.person_id
              and h.permission = u.permission and h.valid @> tstzrange(clock_timestamp(), may_invite.until)))
$$;
comment on function access_private.may_invite(uuid, uuid, text[], timestamptz) is
  'Whether somebody is an active member who may invite now and holds all of these permissions until then: what was asked when they invited is asked again when it is accepted.';

create or replace function access_private.accept_invitation(
  token bytea, proven boolean, out outcome text, out reasons text[], out organization_id uuid
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_person uuid := request.signed_in_id();
  v_invitation access.invitations;
  v_membership uuid := platform.uuid_v7();
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  outcome := 'REFUSED';
  v_invitation := access_private.live_invitation(token);
  if v_invitation.id is null then
    reasons := access_private.refused('invitation.accept', '{TOKEN_INVALID}');
    return;
  end if;
  -- Read anew after that: others accept, revoke and remove at the same moment.
  perform access_private.take_turn(v_invitation.organization_id);
  v_invitation := access_private.live_invitation(token);
  reasons := case
    when v_invitation.id is null or request.signed_in_id() is distinct from v_person
      or not access_private.may_invite(v_invitation.organization_id, v_invitation.invited_by,
        access_private.held_by_role(v_invitation.organization_id, v_invitation.role_id), v_invitation.role_valid_until)
      then array['TOKEN_INVALID']
    when exists (
        select from access.memberships m where m.organization_id = v_invitation.organization_id and m.person_id = v_person)
      then array['ALREADY_MEMBER']
    when proven is not true and not exists (
        select from access_private.invitation_addresses a
          join identity_private.emails e on e.lookup = a.lookup
          where a.organization_id = v_invitation.organization_id and a.invitation_id = v_invitation.id
            and e.person_id = v_person and e.verified_at is not null)
      then array['CODE_NEEDED']
    when not access_private.room(v_invitation.organization_id, 'members') then array['LIMIT_REACHED']
    else '{}' end;
  if reasons <> '{}' then
    perform access_private.refused('invitation.accept', reasons);
    return;
  end if;
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.organization_id = v_invitation.organization_id and t.invitation_id = v_invitation.id and t.consumed_at is null;
  update access.invitations i set status = 'accepted', ended_at = clock_timestamp(), accepted_by = v_person
    where i.organization_id = v_invitation.organization_id and i.id = v_invitation.id;
  insert into access.memberships (organization_id, id, person_id) values (v_invitation.organization_id, v_membership, v_person);
  insert into access.membership_roles (organization_id, membership_id, role_id, valid_until, granted_by)
    values (v_invitation.organization_id, v_membership, v_invitation.role_id, v_invitation.role_valid_until, v_invitation.invited_by);
  perform audit_private.append('invitation.accept', v_invitation.organization_id, details => jsonb_build_object(
    'invitation', v_invitation.id, 'membership', v_membership, 'role', v_invitation.role_id,
    'invitedBy', v_invitation.invited_by, 'byCode', proven));
  outcome := 'ACCEPTED';
  organization_id := v_invitation.organization_id;
end $$;
comment on function access_private.accept_invitation(bytea, boolean) is
  'Makes whoever is signed in a member, once for each token. proven: a code that was sent to the invited address was given; otherwise it must be one of the person''s own. AUTHN for nobody.';

create or replace function access_private.end_membership(organization_id uuid, person_id uuid, action text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nobody walks back in with an invitation that was never needed.
  perform access_private.revoke_invitations(end_membership.organization_id, array(
    select i.id
      from identity_private.emails e
      join access_private.invitation_addresses a on a.lookup = e.lookup and a.organization_id = end_membership.organization_id
      join access.invitations i on i.organization_id = a.organization_id and i.id = a.invitation_id and i.status = 'open'
      where e.person_id = end_membership.person_id));
  -- Roles go with it, and by triggers what was held and the sessions. Jobs ask for the membership at each statement.
  delete from access.memberships m
    where m.organization_id = end_membership.organization_id and m.person_id = end_membership.person_id;
  perform audit_private.append(end_membership.action, end_membership.organization_id,
    details => jsonb_build_object('person', end_membership.person_id));
end $$;
comment on function access_private.end_membership(uuid, uuid, text) is
  'Ends a membership with all that hangs on it, under the given audit action. Whoever calls it has taken their turn and seen to the last owner.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
