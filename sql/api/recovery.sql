-- Purpose: a forgotten password.

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.request_password_reset(email text) returns api.sent_outcome
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform identity_private.ask_for_mail('password_reset', identity_private.email_lookup(email));
  perform audit_private.append('password_reset.request');
  return 'SENT';
end $$;
comment on function api.request_password_reset(text) is 'Sends a link to reset a password, if the address is somebody''s. Always SENT.';

create or replace function api_steps.reset_subject(token bytea) returns uuid
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select t.person_id
  from identity_private.tokens t
  join identity.people p on p.id = t.person_id and p.status = 'active'
  where t.hash = sha256(reset_subject.token) and t.purpose = 'password_reset'
    and t.consumed_at is null and t.expires_at > clock_timestamp()
$$;
comment on function api_steps.reset_subject(bytea) is 'Whose password a live token resets; null for any other token.';

create or replace function api_steps.prepare_password_reset(token bytea, password jsonb) returns api_steps.password_challenge
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_reasons text[] := identity_private.password_reasons(password);
begin
  if api_steps.reset_subject(token) is null then
    perform audit_private.append('password_reset.refuse');
    return ('REFUSED', '{TOKEN_INVALID}', null, null, null)::api_steps.password_challenge;
  end if;
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons, null, null, null)::api_steps.password_challenge;
  end if;
  return (null, '{}', 'argon2id', identity_private.new_password_parameters(), extensions.gen_random_bytes(16))::api_steps.password_challenge;
end $$;
comment on function api_steps.prepare_password_reset(bytea, jsonb) is
  'First step of resetPassword: REFUSED with reasons, or how to hash the new password. Uses nothing up.';

create or replace function api_steps.reset_password(
  token bytea, password jsonb, scheme text, parameters jsonb, salt bytea, tag bytea
) returns api_steps.outcome_with_reasons
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_reasons text[] := identity_private.password_reasons(password);
  v_person uuid := api_steps.reset_subject(token);
begin
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons)::api_steps.outcome_with_reasons;
  end if;
  perform identity_private.check_new_password(scheme, parameters, salt, tag);
  -- One person's resets and sign-ins take their turn.
  perform from identity.people p where p.id = v_person for no key update;
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.hash = sha256(reset_password.token) and t.person_id = v_person and t.purpose = 'password_reset'
      and t.consumed_at is null and t.expires_at > clock_timestamp();
  if not found then
    perform audit_private.append('password_reset.refuse');
    return ('REFUSED', '{TOKEN_INVALID}')::api_steps.outcome_with_reasons;
  end if;
  perform identity_private.set_password(v_person, scheme, parameters, salt, identity_private.verifier(tag));
  -- Whoever knew the old password is out, and the owner of the address is told. The lock goes too: the mailbox proved more.
  perform sessions_private.end_sessions(v_person, 'password');
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.person_id = v_person and t.purpose = 'password_reset' and t.consumed_at is null;
  perform identity_private.forgive(e.lookup) from identity_private.emails e where e.person_id = v_person;
  perform identity_private.ask_for_mail('password_changed', null, null, v_person);
  perform audit_private.append('password_reset.success', actor_id => v_person, origin_subject => v_person);
  return ('CHANGED', '{}')::api_steps.outcome_with_reasons;
end $$;
comment on function api_steps.reset_password(bytea, jsonb, text, jsonb, bytea, bytea) is
  'Second step of resetPassword: uses the token once, sets the password and ends all sessions: CHANGED, or REFUSED with reasons.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
