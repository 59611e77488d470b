-- Purpose: signing in with a password: count, hash (in TypeScript), store the guess, answer. Four steps, three of them
-- here, each in a transaction of its own.

grant create on schema api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.start_sign_in(email text) returns api_steps.sign_in_challenge
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account bytea := identity_private.email_lookup(email);
  v_started record;
  v_password identity_private.passwords;
begin
  v_started := identity_private.start_attempt('password', v_account);
  if v_started.attempt is null then
    perform audit_private.append('login.failure', details => '{"because": "locked"}');
    return (null, v_started.retry_after, null, null, null)::api_steps.sign_in_challenge;
  end if;
  if v_started.locked then
    perform audit_private.append('login.lock',
      actor_id => (select e.person_id from identity_private.emails e where e.lookup = v_account));
  end if;
  select p.* into v_password
    from identity_private.emails e
    join identity_private.passwords p on p.person_id = e.person_id
    where e.lookup = v_account;
  -- An unknown account has a salt too, the same each time, and the present cost.
  return (v_started.attempt, null,
    coalesce(v_password.scheme, 'argon2id'),
    coalesce(v_password.parameters, identity_private.new_password_parameters()),
    coalesce(v_password.salt, substr(keyring_private.blind_index('identity.passwords.salt', platform.no_organization(),
      encode(v_account, 'hex')), 1, 16)))::api_steps.sign_in_challenge;
end $$;
comment on function api_steps.start_sign_in(text) is
  'Counts a sign-in and says how to hash the password: scheme, cost and salt, never a hash. attempt is null while the account is locked, with retry_after in whole seconds.';

create or replace function api_steps.submit_sign_in(attempt uuid, tag bytea) returns boolean
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$ select identity_private.submit_attempt(attempt, 'password', tag) $$;
comment on function api_steps.submit_sign_in(uuid, bytea) is 'Stores the tag of a counted attempt, as HMAC; false if it has a guess already.';

create or replace function api_steps.finish_sign_in(
  attempt uuid, tag bytea, organization_id uuid, credential_hash bytea, refresh_hash bytea
) returns api_steps.sign_in_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account bytea := identity_private.resolve_attempt(finish_sign_in.attempt, 'password', finish_sign_in.tag);
  v_person uuid;
  v_status text;
  v_verifier text;
  v_organization uuid;
  v_pending boolean;
  v_right boolean;
  v_result api_steps.sign_in_result;
begin
  -- Held, so that a sign-in with the old password and a new password take their turn: either the session ends with the
  -- others, or the new password is what it is compared with.
  select e.person_id, p.status, keyring_private.open('identity.passwords.verifier', platform.no_organization(), w.person_id, w.verifier)
    into v_person, v_status, v_verifier
    from identity_private.emails e
    join identity.people p on p.id = e.person_id
    join identity_private.passwords w on w.person_id = e.person_id
    where e.lookup = v_account and e.verified_at is not null
    for no key update of p, w;
  v_right := v_verifier = identity_private.verifier(finish_sign_in.tag);
  if v_account is not null and v_right and v_status = 'active' then
    v_organization := sessions_private.choose_organization(v_person, finish_sign_in.organization_id);
    if v_organization is not null or finish_sign_in.organization_id is null then
      perform identity_private.forgive(v_account);
      v_result.session_id := sessions_private.start_session(v_person, v_organization, 1, credential_hash, refresh_hash);
      v_result.access_expires_at := sessions_private.issue(v_result.session_id, credential_hash, refresh_hash);
      select 'SIGNED_IN', s.person_id, s.organization_id, s.assurance, s.authenticated_at, s.ends_at
        into v_result.outcome, v_result.person_id, v_result.organization_id, v_result.assurance, v_result.authenticated_at, v_result.expires_at
        from sessions.sessions s where s.id = v_result.session_id;
      perform audit_private.append('login.success', v_organization, v_person,
        jsonb_build_object('session', v_result.session_id, 'method', 'password'), origin_subject => v_person);
      return v_result;
    end if;
  end if;
  -- Asked whoever it was, so that every refusal takes the same work. The reason stays in the trail.
  v_pending := exists (select from identity_private.registrations r where r.lookup = v_account and r.completed_at is null);
  perform audit_private.append('login.failure', actor_id => v_person, origin_subject => v_person,
    details => jsonb_build_object('because', case
      when v_account is null then 'no_attempt'
      when v_person is null and v_pending then 'unverified'
      when v_person is null then 'unknown'
      when v_right is not true then 'wrong_password'
      when v_status <> 'active' then 'suspended'
      else 'no_organization' end));
  v_result.outcome := 'REFUSED';
  return v_result;
end $$;
comment on function api_steps.finish_sign_in(uuid, bytea, uuid, bytea, bytea) is
  'Answers a stored guess, once: SIGNED_IN with a session under the given hashes, or REFUSED, which never says why. GUESS in the transaction that stored the guess.';

reset role;
reset row_security;
revoke create on schema api_steps from safetypin_definer;
