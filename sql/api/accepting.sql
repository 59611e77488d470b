-- Purpose: the steps of acceptInvitation and requestInvitationCode. By token alone for an account of the invited address;
-- for another account with a code that was sent there: a guess, counted, stored and answered in three transactions.

grant create on schema api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.accept_invitation(token bytea) returns api_steps.accepted_invitation
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_done record := access_private.accept_invitation(token, false);
begin
  return (v_done.outcome, v_done.reasons, v_done.organization_id)::api_steps.accepted_invitation;
end $$;
comment on function api_steps.accept_invitation(bytea) is
  'Accepts an invitation with an account of its address: ACCEPTED, or REFUSED with TOKEN_INVALID, ALREADY_MEMBER, CODE_NEEDED (the account has another address) or LIMIT_REACHED. AUTHN for nobody.';

create or replace function api_steps.request_invitation_code(token bytea) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_person uuid := request.signed_in_id();
  v_invitation access.invitations := access_private.live_invitation(token);
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if v_invitation.id is null then
    perform access_private.refused('invitation.code', '{TOKEN_INVALID}');
  else
    perform access_private.ask_for_invitation_mail('invitation_code', v_invitation.organization_id, v_invitation.id, v_person);
    perform audit_private.append('invitation.code', v_invitation.organization_id, details => jsonb_build_object('invitation', v_invitation.id));
  end if;
  return 'SENT';
end $$;
comment on function api_steps.request_invitation_code(bytea) is
  'Sends six digits to the address of an invitation, good for whoever is signed in alone. Always SENT. AUTHN for nobody.';

create or replace function api_steps.start_invitation_code(token bytea) returns api_steps.started_code
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_invitation access.invitations := access_private.live_invitation(token);
  v_account bytea;
  v_started record;
begin
  if request.signed_in_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if v_invitation.id is null then
    return (null, 'REFUSED', access_private.refused('invitation.accept', '{TOKEN_INVALID}'), null)::api_steps.started_code;
  end if;
  select a.lookup into v_account from access_private.invitation_addresses a
    where a.organization_id = v_invitation.organization_id and a.invitation_id = v_invitation.id;
  -- The one counter of that address, over all doors.
  v_started := identity_private.start_attempt('invitation_code', v_account);
  if v_started.attempt is null then
    return (null, 'REFUSED', access_private.refused('invitation.accept', '{LOCKED}'), v_started.retry_after)::api_steps.started_code;
  end if;
  if v_started.locked then
    perform audit_private.append('login.lock', details => '{"because": "invitation"}');
  end if;
  return (v_started.attempt, null, '{}', null)::api_steps.started_code;
end $$;
comment on function api_steps.start_invitation_code(bytea) is
  'Counts an attempt at the code of an invitation; attempt is null with TOKEN_INVALID, or LOCKED and the whole seconds until another is worth making. AUTHN for nobody.';

create or replace function api_steps.submit_invitation_code(attempt uuid, code text) returns boolean
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$ select identity_private.submit_attempt(attempt, 'invitation_code', convert_to(code, 'UTF8')) $$;
comment on function api_steps.submit_invitation_code(uuid, text) is 'Stores the guessed code of a counted attempt.';

create or replace function api_steps.finish_invitation_code(attempt uuid, token bytea, code text) returns api_steps.accepted_invitation
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account bytea := identity_private.resolve_attempt(finish_invitation_code.attempt, 'invitation_code',
    convert_to(finish_invitation_code.code, 'UTF8'));
  v_invitation access.invitations := access_private.live_invitation(finish_invitation_code.token);
  v_done record;
begin
  if request.signed_in_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  -- The attempt was counted against the address of this very invitation, and the code was asked for by this very person.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    from access_private.invitation_addresses a
    where t.organization_id = v_invitation.organization_id and t.invitation_id = v_invitation.id
      and a.organization_id = t.organization_id and a.invitation_id = t.invitation_id and a.lookup = v_account
      and t.purpose = 'invitation_code' and t.person_id = request.signed_in_id()
      and t.consumed_at is null and t.code_expires_at > clock_timestamp()
      and t.code_mac = keyring_private.guess_mac(t.mail_id, convert_to(finish_invitation_code.code, 'UTF8'));
  if not found then
    return ('REFUSED', access_private.refused('invitation.accept', '{CODE_WRONG}'), null)::api_steps.accepted_invitation;
  end if;
  perform identity_private.forgive(v_account);
  v_done := access_private.accept_invitation(finish_invitation_code.token, true);
  return (v_done.outcome, v_done.reasons, v_done.organization_id)::api_steps.accepted_invitation;
end $$;
comment on function api_steps.finish_invitation_code(uuid, bytea, text) is
  'Answers a stored code, once, and accepts the invitation if it is right: ACCEPTED, or REFUSED with CODE_WRONG or as accept_invitation. GUESS in the transaction that stored it. AUTHN for nobody.';

reset role;
reset row_security;
revoke create on schema api_steps from safetypin_definer;
