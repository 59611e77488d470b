-- Purpose: who is asking. `sessions.open_request` and `platform.open_job` write one sealed context into the
-- transaction; the accessors here verify it at each use. A context that was copied from another backend, another
-- transaction or an earlier moment, or made up, verifies to nothing, and nothing means no rows.
--
-- The setting safetypin.context is the hex of the seal, then the hex of the body. Body, of fixed width up to its tail:
--    1  version, 1      also separates this use of the seal key from others
--    2  kind            0 anonymous, 1 session, 2 job
--    3  backend pid     int4
--    7  now()           timestamptz: start of this transaction
--   15  nonce           16 bytes, 122 bits of them random
--   31  deadline        timestamptz
--   39  session id      uuid (of a job: id of its job context)
--   55  person id       uuid, zero if none
--   71  organization id uuid, zero if none
--   87  credential hash 32 bytes, SHA-256 of the credential, zero if none
--  119  assurance       int2
--  121  request id      uuid
--  137  origin          the rest: JSON text with IP address and user agent
-- The seal is HMAC-SHA-256 (RFC 2104) of the body's hex. pid and now() pin it to one transaction of one backend: two
-- transactions of a backend share now() only when both stand in one message, and no request can be opened in the
-- message that began its transaction (see sessions.open_request).

grant create on schema request_private, request to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

-- Each function here is as few statements as it can be: an expression of PL/pgSQL is set up anew in every transaction,
-- which costs more than running it.

create or replace function request_private.sealed() returns bytea
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_setting bytea := convert_to(current_setting('safetypin.context', true), 'UTF8');
begin
  return (
    select b.body
      from (
        -- The seal is over the hex as it stands, so that nothing is decoded before it is known to be ours: anybody can
        -- write anything into the setting, and whatever is not ours is nobody, never an error. It is compared by a
        -- second keyed hash: the time it takes says nothing about the right seal.
        select case
            when sha256(k.outer_pad || substr(v_setting, 1, 64)) = sha256(k.outer_pad
              || convert_to(encode(sha256(k.outer_pad || sha256(k.inner_pad || substr(v_setting, 65))), 'hex'), 'UTF8'))
            then decode(convert_from(substr(v_setting, 65), 'UTF8'), 'hex')
          end as body
          from keyring_private.seal_keys k
          where k.purpose = 'request' and length(v_setting) > 336
          offset 0
      ) b
      where substr(b.body, 3, 12) = int4send(pg_backend_pid()) || timestamptz_send(now())
        and substr(b.body, 31, 8) > timestamptz_send(clock_timestamp()));
end $$;
comment on function request_private.sealed() is
  'Body of the context if its seal is good and its deadline ahead, else null. Does not ask whether the session still lives: the audit of the statement that ended it needs that.';

create or replace function request_private.job_stands(context_id uuid) returns boolean
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
-- A job is never more than who asked for it: not after a suspension, and not after leaving.
begin
  return exists (
    select from platform_private.job_contexts j
      join platform.tasks t on t.name = j.task
      where j.id = job_stands.context_id
        and (not t.needs_asker
          or (j.person_id is null or exists (
                select from identity.people p where p.id = j.person_id and p.status = 'active'))
            and (j.organization_id is null or exists (
                select from access.organizations o where o.id = j.organization_id and o.status = 'active'))
            and (j.person_id is null or j.organization_id is null or exists (
                select from access.memberships m
                where m.organization_id = j.organization_id and m.person_id = j.person_id))));
end $$;
comment on function request_private.job_stands(uuid) is
  'Whether a job may still act: its context is there, and who asked for it is active and a member, unless the task does without.';

create or replace function request_private.live() returns bytea
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_body bytea := request_private.sealed();
begin
  return (
    select v_body
      where case get_byte(v_body, 1)
        -- Read at each statement: a revocation that committed is seen by the next one.
        when 1 then exists (
          select from sessions.sessions s
          where s.id = encode(substr(v_body, 39, 16), 'hex')::uuid and s.ends_at > clock_timestamp())
        when 2 then request_private.job_stands(encode(substr(v_body, 39, 16), 'hex')::uuid)
        else true
      end);
end $$;
comment on function request_private.live() is 'Body of the context if it is sealed and its session (or job) is live now, else null.';

create or replace function request.kind() returns text
  language sql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
  select (array['anonymous', 'session', 'job'])[get_byte(request_private.live(), 1) + 1]
$$;
comment on function request.kind() is 'anonymous, session or job; null without a valid context.';

create or replace function request.user_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(encode(substr(request_private.live(), 55, 16), 'hex')::uuid, '00000000-0000-0000-0000-000000000000');
end $$;
comment on function request.user_id() is 'The person who asks; null if nobody is signed in. In policies always as (select request.user_id()).';

create or replace function request.organization_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return nullif(encode(substr(request_private.live(), 71, 16), 'hex')::uuid, '00000000-0000-0000-0000-000000000000');
end $$;
comment on function request.organization_id() is 'The active organization; null if none. In policies always as (select request.organization_id()).';

create or replace function request.session_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_body bytea := request_private.live();
begin
  if get_byte(v_body, 1) = 1 then
    return encode(substr(v_body, 39, 16), 'hex')::uuid;
  end if;
  return null;
end $$;
comment on function request.session_id() is 'The session of this request; null for anonymous requests and jobs.';

create or replace function request.assurance() returns integer
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_body bytea := request_private.live();
begin
  return get_byte(v_body, 118) * 256 + get_byte(v_body, 119);
end $$;
comment on function request.assurance() is 'Authenticator assurance level of the session, 1 to 3 (SP 800-63B); 0 for nobody.';

create or replace function request.id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return encode(substr(request_private.sealed(), 121, 16), 'hex')::uuid;
end $$;
comment on function request.id() is 'Id of the request, for correlation with the log of the API.';

create or replace function request.can(permission text) returns boolean
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_body bytea := request_private.live();
  v_can boolean;
begin
  case get_byte(v_body, 1)
    when 1 then
      -- Held permissions are kept per membership with their times, so a grant that ends is over in the next statement.
      select true into v_can
        from access_private.held_permissions h
        where h.organization_id = encode(substr(v_body, 71, 16), 'hex')::uuid
          and h.person_id = encode(substr(v_body, 55, 16), 'hex')::uuid
          and h.permission = can.permission
          and h.valid @> clock_timestamp();
    when 2 then
      select true into v_can
        from platform_private.job_contexts j
        where j.id = encode(substr(v_body, 39, 16), 'hex')::uuid
          and can.permission = any (j.permissions)
          -- The task's permission lends nothing to a person who does not hold it, or does not any more.
          and (j.person_id is null or exists (
            select from access_private.held_permissions h
            where h.organization_id = j.organization_id and h.person_id = j.person_id
              and h.permission = can.permission and h.valid @> clock_timestamp()));
    else
      null;
  end case;
  return coalesce(v_can, false);
end $$;
comment on function request.can(text) is 'Whether the asker holds a permission (noun.verb) in the active organization, now. In policies always as (select request.can(…)).';

create or replace function request.task() returns text
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_body bytea := request_private.live();
begin
  if get_byte(v_body, 1) = 2 then
    return (select j.task from platform_private.job_contexts j
            where j.id = encode(substr(v_body, 39, 16), 'hex')::uuid);
  end if;
  return null;
end $$;
comment on function request.task() is 'Name of the task, inside a job; null elsewhere.';

create or replace function request_private.context(
  kind integer, deadline timestamptz, session_id uuid, person_id uuid, organization_id uuid,
  credential_hash bytea, assurance integer, metadata jsonb
) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_zero constant bytea := '\x00000000000000000000000000000000';
begin
  return (
    -- HMAC from its definition with prepared pads: pgcrypto's looks its digest up at each call.
    select encode(sha256(k.outer_pad || sha256(k.inner_pad || convert_to(b.hex, 'UTF8'))), 'hex') || b.hex
      from keyring_private.seal_keys k
      cross join (
        select encode(
          '\x01'::bytea || set_byte('\x00'::bytea, 0, kind)
          || int4send(pg_backend_pid()) || timestamptz_send(now())
          -- 122 random bits.
          || uuid_send(gen_random_uuid())
          || timestamptz_send(deadline)
          || coalesce(uuid_send(session_id), v_zero) || coalesce(uuid_send(person_id), v_zero)
          || coalesce(uuid_send(organization_id), v_zero)
          || coalesce(credential_hash, v_zero || v_zero)
          || int2send(assurance::smallint)
          || uuid_send(coalesce((metadata ->> 'requestId')::uuid, gen_random_uuid()))
          || convert_to(jsonb_build_object('ip', left(metadata ->> 'ip', 64), 'userAgent', left(metadata ->> 'userAgent', 400))::text, 'UTF8'),
          'hex') as hex
        offset 0
      ) b
      where k.purpose = 'request');
end $$;
comment on function request_private.context(integer, timestamptz, uuid, uuid, uuid, bytea, integer, jsonb) is
  'Seal and body in hex, as the setting safetypin.context holds them.';

create or replace function request_private.write_context(context text, envelope bytea) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if coalesce(current_setting('safetypin.context', true), '') <> '' then
    raise exception 'this transaction has a context already' using errcode = 'CTXAG';
  end if;
  -- Two transactions of one message share now(), and a context would be good in both. A request that is opened in
  -- a later message than `begin` cannot be: whatever begins after it begins later.
  if statement_timestamp() <= transaction_timestamp() then
    raise exception 'open the request in a later message than begin' using errcode = 'CTXTX';
  end if;
  perform set_config('safetypin.context', context, true),
    set_config('safetypin.envelope', coalesce(encode(envelope, 'hex'), ''), true);
end $$;
comment on function request_private.write_context(text, bytea) is
  'Writes the sealed context of this transaction. CTXAG if it has one, CTXTX if it began in this very message.';

reset role;
reset row_security;
revoke create on schema request_private, request from safetypin_keeper;
