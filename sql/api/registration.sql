-- Purpose: signing up. Whether the address is known already changes nothing that a caller can see: the same answer, the
-- same rows, the same mail job; the job finds out.

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.registration_reasons(email text, display_name text, organization_name text, password jsonb) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select array_remove(array[
    case when identity_private.normalize_email(email) is null then 'EMAIL_INVALID' end,
    case when not identity_private.valid_display_name(display_name) then 'DISPLAY_NAME_INVALID' end,
    case when organization_name is not null and not access_private.valid_name(organization_name) then 'ORGANIZATION_NAME_INVALID' end
  ], null) || identity_private.password_reasons(password)
$$;
comment on function api_steps.registration_reasons(text, text, text, jsonb) is 'Why a registration is refused; empty if it is not.';

create or replace function api_steps.prepare_registration(email text, display_name text, organization_name text, password jsonb) returns api_steps.password_challenge
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_reasons text[] := api_steps.registration_reasons(email, display_name, organization_name, password);
begin
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons, null, null, null)::api_steps.password_challenge;
  end if;
  return (null, '{}', 'argon2id', identity_private.new_password_parameters(), extensions.gen_random_bytes(16))::api_steps.password_challenge;
end $$;
comment on function api_steps.prepare_registration(text, text, text, jsonb) is
  'First step of register: REFUSED with reasons, or how to hash the password. `password` are facts about it, never the password.';

create or replace function api_steps.register(
  email text, display_name text, organization_name text, password jsonb, scheme text, parameters jsonb, salt bytea, tag bytea
) returns api_steps.outcome_with_reasons
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_none constant uuid := platform.no_organization();
  v_reasons text[] := api_steps.registration_reasons(email, display_name, organization_name, password);
  v_id uuid := platform.uuid_v7();
begin
  if cardinality(v_reasons) > 0 then
    return ('REFUSED', v_reasons)::api_steps.outcome_with_reasons;
  end if;
  perform identity_private.check_new_password(scheme, parameters, salt, tag);
  insert into identity_private.registrations (id, email, lookup, display_name, organization_name, scheme, parameters, salt, verifier)
    values (v_id,
      keyring_private.seal('identity.registrations.email', v_none, v_id, v_id, identity_private.normalize_email(email)),
      identity_private.email_lookup(email),
      keyring_private.seal('identity.registrations.display_name', v_none, v_id, v_id, btrim(display_name)),
      keyring_private.seal('identity.registrations.organization_name', v_none, v_id, v_id, btrim(organization_name)),
      register.scheme, register.parameters, register.salt,
      keyring_private.seal('identity.registrations.verifier', v_none, v_id, v_id, identity_private.verifier(tag)));
  perform identity_private.ask_for_mail('registration', null, v_id);
  perform audit_private.append('registration.request', details => jsonb_build_object('registration', v_id), origin_subject => v_id);
  return ('VERIFICATION_SENT', '{}')::api_steps.outcome_with_reasons;
end $$;
comment on function api_steps.register(text, text, text, jsonb, text, jsonb, bytea, bytea) is
  'Second step of register: VERIFICATION_SENT, or REFUSED with reasons. The account is made when the address is proved.';

create or replace function api_steps.complete(registration_id uuid) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_done record;
begin
  v_done := identity_private.complete_registration(registration_id);
  if v_done.person_id is null then
    perform audit_private.append('email.refuse', details => jsonb_build_object('registration', registration_id));
    return 'REFUSED';
  end if;
  perform audit_private.append('registration.complete', actor_id => v_done.person_id, origin_subject => v_done.person_id);
  perform audit_private.append('email.verify', actor_id => v_done.person_id);
  if v_done.organization_name is not null then
    perform access_private.found_organization(v_done.organization_name, v_done.person_id);
  end if;
  perform access_private.join_by_address(v_done.person_id);
  return 'VERIFIED';
end $$;
comment on function api_steps.complete(uuid) is 'Makes person and organization of a registration whose address was proved; by the address, she may join another.';

create or replace function api_steps.verify_email(token bytea) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_registration uuid;
begin
  perform identity_private.hold_address(r.lookup)
    from identity_private.tokens t
    join identity_private.registrations r on r.id = t.registration_id
    where t.hash = sha256(verify_email.token);
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.hash = sha256(verify_email.token) and t.purpose = 'verification'
      and t.consumed_at is null and t.expires_at > clock_timestamp()
    returning t.registration_id into v_registration;
  if not found then
    perform audit_private.append('email.refuse');
    return 'REFUSED';
  end if;
  return api_steps.complete(v_registration);
end $$;
comment on function api_steps.verify_email(bytea) is 'Proves an address with the token of its mail, once: VERIFIED or REFUSED.';

create or replace function api_steps.start_email_code(email text, out attempt uuid, out retry_after integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account bytea := identity_private.email_lookup(email);
  v_started record;
begin
  v_started := identity_private.start_attempt('email_code', v_account);
  if v_started.attempt is null then
    perform audit_private.append('email.refuse', details => '{"because": "locked"}');
  elsif v_started.locked then
    perform audit_private.append('login.lock',
      actor_id => (select e.person_id from identity_private.emails e where e.lookup = v_account));
  end if;
  attempt := v_started.attempt;
  retry_after := v_started.retry_after;
end $$;
comment on function api_steps.start_email_code(text) is 'Counts an attempt at the code of a mail; attempt is null while the account is locked.';

create or replace function api_steps.submit_email_code(attempt uuid, code text) returns boolean
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$ select identity_private.submit_attempt(attempt, 'email_code', convert_to(code, 'UTF8')) $$;
comment on function api_steps.submit_email_code(uuid, text) is 'Stores the guessed code of a counted attempt.';

create or replace function api_steps.finish_email_code(attempt uuid, code text) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_account bytea := identity_private.resolve_attempt(finish_email_code.attempt, 'email_code', convert_to(finish_email_code.code, 'UTF8'));
  v_registration uuid;
begin
  perform identity_private.hold_address(v_account);
  -- Two mails to one address may happen to carry the same code: one of them is meant.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.consumed_at is null and t.hash = (
      select c.hash
        from identity_private.registrations r
        join identity_private.tokens c on c.registration_id = r.id
        where r.lookup = v_account and c.purpose = 'verification'
          and c.consumed_at is null and c.code_expires_at > clock_timestamp()
          and c.code_mac = keyring_private.guess_mac(c.mail_id, convert_to(finish_email_code.code, 'UTF8'))
        order by c.created_at desc
        limit 1)
    returning t.registration_id into v_registration;
  if not found then
    perform audit_private.append('email.refuse');
    return 'REFUSED';
  end if;
  return api_steps.complete(v_registration);
end $$;
comment on function api_steps.finish_email_code(uuid, text) is 'Answers a stored code, once: VERIFIED or REFUSED. GUESS in the transaction that stored it.';

create or replace function api.resend_verification(email text) returns api.sent_outcome
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_lookup bytea := identity_private.email_lookup(email);
  v_registration uuid;
begin
  select r.id into v_registration
    from identity_private.registrations r
    where r.lookup = v_lookup and r.completed_at is null
      and r.created_at > clock_timestamp() - make_interval(secs => platform.limit_value('token.verification_seconds'))
    order by r.created_at desc
    limit 1;
  -- A mail to nobody is asked for as well, so that both cases take the same work.
  perform identity_private.ask_for_mail('registration', case when v_registration is null then v_lookup end, v_registration);
  perform audit_private.append('verification.request');
  return 'SENT';
end $$;
comment on function api.resend_verification(text) is 'Sends the mail that proves an address again, if somebody waits for it. Always SENT.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
