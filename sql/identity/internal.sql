-- Purpose: steps about people that the functions of `identity` and `api` are made of. All belong to the definer and are
-- granted to nobody: they run inside its security definer functions only.

grant create on schema identity_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function identity_private.normalize_email(email text) returns text
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$
  -- Looked at after composing, which makes a semicolon of U+037E. Case is folded in ASCII only and nothing else is, so
  -- that no two mailboxes become one; by the rules of "C", since with those of a language (Turkish: I to dotless i) a
  -- server would write to another mailbox than was typed, and another server would not find the account again. No
  -- backslash outside E'': what it means there is the caller's choice (standard_conforming_strings).
  select case
    when octet_length(t.address) <= 254
      and t.address ~ '^[^@]{1,64}@[^@]+[.][^@.]{2,}$' and t.address !~ '[.][.]|^[.]|[.]@|@[.]|@-'
      and t.address !~ E'[][\\\\"(),:;<>\u0001-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff]'
    then lower(t.address)
  end
  from (select case when octet_length(normalize_email.email) <= 2000
          then normalize(btrim(normalize_email.email), nfc) end collate "C" as address) t
$$;
comment on function identity_private.normalize_email(text) is 'The address in the form that is compared and written to; null if it is not one.';

create or replace function identity_private.valid_display_name(name text) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- Neither control signs nor those that turn the direction of what stands around the name in a mail.
  select coalesce(length(btrim(name)) between 1 and platform.limit_value('person.name_length')
    and name collate "C" !~ E'[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]', false)
$$;
comment on function identity_private.valid_display_name(text) is 'Whether a text can be the name of a person.';

create or replace function identity_private.email_lookup(email text) returns bytea
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- What is not an address is looked up as it was typed: it is nobody's, and takes the same work.
  select keyring_private.blind_index('identity.emails.address', platform.no_organization(),
    coalesce(identity_private.normalize_email(email), 'malformed ' || coalesce(email, '')))
$$;
comment on function identity_private.email_lookup(text) is 'Blind index of a typed address. KEYNO without an application key.';

create or replace function identity_private.password_reasons(facts jsonb) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- Facts that cannot be true of any text, or are missing, refuse. A code point has one to four bytes in UTF-8.
  select array_remove(array[
    case when f.characters >= 0 and f.characters = trunc(f.characters) and f.bytes = trunc(f.bytes)
           and f.bytes between f.characters and 4 * f.characters then null else 'PASSWORD_INVALID' end,
    case when f.characters < platform.limit_value('password.minimum_length') then 'PASSWORD_TOO_SHORT' end,
    case when f.bytes > platform.limit_value('password.maximum_bytes') then 'PASSWORD_TOO_LONG' end,
    case when facts -> 'common' is distinct from 'false' then 'PASSWORD_COMMON' end,
    case when facts -> 'context' is distinct from 'false' then 'PASSWORD_CONTEXT' end
  ], null)
  from (select
    case jsonb_typeof(facts -> 'characters') when 'number' then (facts ->> 'characters')::numeric end as characters,
    case jsonb_typeof(facts -> 'bytes') when 'number' then (facts ->> 'bytes')::numeric end as bytes) f
$$;
comment on function identity_private.password_reasons(jsonb) is
  'Why a password is refused, from facts about it: characters (code points), bytes, common (stands in the list), context (is the person''s or the organization''s name). Empty if it is good. SP 800-63B-4 section 3.1.1.2.';

create or replace function identity_private.new_password_parameters() returns jsonb
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object(
    'memory', platform.limit_value('password.memory'),
    'passes', platform.limit_value('password.passes'),
    'parallelism', platform.limit_value('password.parallelism'),
    'length', 32)
$$;
comment on function identity_private.new_password_parameters() is 'Present cost of Argon2id: memory in KiB, passes, parallelism, tag length in bytes.';

create or replace function identity_private.verifier(tag bytea) returns text
  language sql immutable
  set search_path = pg_catalog, pg_temp
as $$ select encode(sha256(tag), 'hex') $$;
comment on function identity_private.verifier(bytea) is 'What is kept of a tag.';

create or replace function identity_private.check_new_password(scheme text, parameters jsonb, salt bytea, tag bytea) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if scheme is distinct from 'argon2id' or parameters is distinct from identity_private.new_password_parameters()
    or length(salt) is distinct from 16 or length(tag) is distinct from 32 then
    raise exception 'the password was not hashed as asked' using errcode = '22023';
  end if;
end $$;
comment on function identity_private.check_new_password(text, jsonb, bytea, bytea) is '22023 unless a tag was made with the present cost.';

create or replace function identity_private.start_attempt(
  door text, account bytea, out attempt uuid, out retry_after integer, out locked boolean
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
-- Counts first, in one statement: whoever is counted may guess once. The attempt that reaches the limit still counts
-- as one; it locks what comes after it.
declare
  v_now timestamptz := clock_timestamp();
  v_failures integer;
begin
  insert into identity_private.lockouts as l (key, failures, last_at)
    values (start_attempt.account, 1, v_now)
    on conflict on constraint lockouts_pkey do update
      set failures = case
            when l.last_at < v_now - make_interval(secs => platform.limit_value('attempt.forget_seconds')) then 1
            else l.failures + 1 end,
          last_at = greatest(l.last_at, v_now),
          locked_until = case
            when l.last_at < v_now - make_interval(secs => platform.limit_value('attempt.forget_seconds')) then null
            when l.failures + 1 >= platform.limit_value('attempt.failures') then v_now + make_interval(secs => least(
              platform.limit_value('attempt.lock_maximum_seconds'),
              platform.limit_value('attempt.lock_seconds')
                * 2 ^ least(l.failures + 1 - platform.limit_value('attempt.failures'), 20))::double precision)
            else null end
      where l.locked_until is null or l.locked_until <= v_now
    returning l.failures, l.locked_until is not null into v_failures, start_attempt.locked;
  if v_failures is null then
    -- By the clock as it is now: this call may have waited for the one that locked.
    select greatest(1, ceil(extract(epoch from l.locked_until - clock_timestamp())))::integer
      into start_attempt.retry_after
      from identity_private.lockouts l
      where l.key = start_attempt.account;
    retry_after := coalesce(retry_after, 1);
    locked := false;
    return;
  end if;
  insert into identity_private.attempts (door, account) values (start_attempt.door, start_attempt.account)
    returning id into start_attempt.attempt;
end $$;
comment on function identity_private.start_attempt(text, bytea) is
  'Counts an attempt on an account, over all doors, and gives its id; null with retry_after in whole seconds while the account is locked. locked: this attempt reached the limit.';

create or replace function identity_private.submit_attempt(attempt uuid, door text, guess bytea) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update identity_private.attempts a
    set guess_mac = keyring_private.guess_mac(a.id, submit_attempt.guess), guess_transaction = pg_current_xact_id()
    where a.id = submit_attempt.attempt and a.door = submit_attempt.door and a.guess_mac is null and a.resolved_at is null
      and submit_attempt.guess is not null
      and a.created_at > clock_timestamp() - make_interval(secs => platform.limit_value('attempt.answer_seconds'));
  return found;
end $$;
comment on function identity_private.submit_attempt(uuid, text, bytea) is 'Stores the one guess of a counted attempt; false if it has one already or took too long.';

create or replace function identity_private.resolve_attempt(attempt uuid, door text, guess bytea) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
-- A guess of this very transaction could be rolled back after the answer, and with it the count. (pg_current_xact_id is
-- the top-level transaction's, so a savepoint does not help.)
declare
  v_attempt identity_private.attempts;
begin
  update identity_private.attempts a
    set resolved_at = clock_timestamp()
    where a.id = resolve_attempt.attempt and a.door = resolve_attempt.door and a.resolved_at is null
      and a.guess_mac = keyring_private.guess_mac(a.id, resolve_attempt.guess)
      -- Otherwise guesses could be counted, and forgotten, before what they guess at is made.
      and a.created_at > clock_timestamp() - make_interval(secs => platform.limit_value('attempt.answer_seconds'))
    returning a.* into v_attempt;
  if v_attempt.guess_transaction = pg_current_xact_id() then
    raise exception 'attempt is not committed' using errcode = 'GUESS';
  end if;
  return v_attempt.account;
end $$;
comment on function identity_private.resolve_attempt(uuid, text, bytea) is
  'The account of a stored guess, once, and only in a later transaction (GUESS); null for any other guess.';

create or replace function identity_private.forgive(account bytea) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  update identity_private.lockouts l set failures = 0, locked_until = null where l.key = forgive.account
$$;
comment on function identity_private.forgive(bytea) is 'Forgets the failures of an account, after a success.';

create or replace function identity_private.hold_address(lookup bytea) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  -- A lock of the transaction, keyed by the address: there may be no row yet that could be locked instead.
  select pg_advisory_xact_lock(hashtextextended('safetypin address ' || encode(hold_address.lookup, 'hex'), 0))
$$;
comment on function identity_private.hold_address(bytea) is 'Whoever proves an address, or writes to it, takes their turn until the end of the transaction.';

create or replace function identity_private.ask_for_mail(kind text, lookup bytea, registration_id uuid default null, person_id uuid default null) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  insert into identity_private.mails (kind, lookup, registration_id, person_id)
    values (ask_for_mail.kind, ask_for_mail.lookup, ask_for_mail.registration_id, ask_for_mail.person_id)
    returning id into v_id;
  perform platform.enqueue('mail__send', json_build_object('id', v_id));
end $$;
comment on function identity_private.ask_for_mail(text, bytea, uuid, uuid) is 'Puts a mail into the outbox, with its job, in this transaction.';

create or replace function identity_private.set_password(person_id uuid, scheme text, parameters jsonb, salt bytea, verifier text) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  insert into identity_private.passwords (person_id, scheme, parameters, salt, verifier)
    values (set_password.person_id, set_password.scheme, set_password.parameters, set_password.salt,
      keyring_private.seal('identity.passwords.verifier', platform.no_organization(), set_password.person_id,
        set_password.person_id, set_password.verifier))
    on conflict on constraint passwords_pkey do update
      set scheme = excluded.scheme, parameters = excluded.parameters, salt = excluded.salt,
          verifier = excluded.verifier, changed_at = clock_timestamp()
$$;
comment on function identity_private.set_password(uuid, text, jsonb, bytea, text) is 'Sets the password of a person from the verifier of its tag.';

create or replace function identity_private.complete_registration(
  registration_id uuid, out person_id uuid, out organization_name text
)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_none constant uuid := platform.no_organization();
  v_registration identity_private.registrations;
  v_email_id uuid := platform.uuid_v7();
begin
  update identity_private.registrations r set completed_at = clock_timestamp()
    where r.id = complete_registration.registration_id and r.completed_at is null
    returning r.* into v_registration;
  if not found or exists (select from identity_private.emails e where e.lookup = v_registration.lookup) then
    return;
  end if;
  person_id := platform.uuid_v7();
  insert into identity.people (id, locale) values (complete_registration.person_id, v_registration.locale);
  insert into identity_private.emails (id, person_id, address, lookup, verified_at)
    values (v_email_id, complete_registration.person_id,
      keyring_private.seal('identity.emails.address', v_none, v_email_id, complete_registration.person_id,
        keyring_private.open('identity.registrations.email', v_none, v_registration.id, v_registration.email)),
      v_registration.lookup, clock_timestamp());
  insert into identity_private.profiles (person_id, display_name)
    values (complete_registration.person_id,
      keyring_private.seal('identity.people.display_name', v_none, complete_registration.person_id, complete_registration.person_id,
        keyring_private.open('identity.registrations.display_name', v_none, v_registration.id, v_registration.display_name)));
  perform identity_private.set_password(complete_registration.person_id, v_registration.scheme, v_registration.parameters,
    v_registration.salt,
    keyring_private.open('identity.registrations.verifier', v_none, v_registration.id, v_registration.verifier));
  organization_name := keyring_private.open('identity.registrations.organization_name', v_none, v_registration.id,
    v_registration.organization_name);
  -- What was asked for under the same address is void now, and so is what others tried at it before it was proved. The
  -- registration's own key has done its work.
  update identity_private.tokens t set consumed_at = clock_timestamp()
    from identity_private.registrations r
    where t.registration_id = r.id and r.lookup = v_registration.lookup and t.consumed_at is null;
  perform identity_private.forgive(v_registration.lookup);
  perform keyring_private.destroy_data_key(v_registration.id);
end $$;
comment on function identity_private.complete_registration(uuid) is
  'Makes the person of a registration whose address was just proved; person_id is null if the address has an account by now. The caller holds the address (hold_address), so that of two at once the second sees the account of the first.';

reset role;
reset row_security;
revoke create on schema identity_private from safetypin_definer;
