-- Purpose: who is asking. `sessions.open_request` and `platform.open_job` write one sealed context into the
-- transaction; the accessors here verify it at each use. A context that was copied from another backend, another
-- transaction or an earlier moment, or made up, verifies to nothing, and nothing means no rows.
--
-- The setting safetypin.context is a seal, the hex of HMAC-SHA-256 (RFC 2104) over the body, then the body: text of
-- fixed width up to its tail, written by request_private.body() and read through the views of sessions/context.sql.
--    1  version         2; also separates this use of the seal key from others
--    2  kind            0 anonymous, 1 session, 2 job, 3 API key
--    3  backend pid     hex of int4
--   11  now()           hex of timestamptz: start of this transaction
--   27  deadline        hex of timestamptz
--   43  nonce           uuid, 122 bits of it random
--   79  session id      uuid, zero if none (of a job: id of its job context; of an API key: its id)
--  115  person id       uuid, zero if none
--  151  organization id uuid, zero if none
--  187  credential hash hex of 32 bytes, SHA-256 of the credential, zero if none
--  251  assurance       one digit
--  252  request id      uuid
--  288  metadata        the rest: JSON text with IP address and user agent
-- pid and now() pin it to one transaction of one backend: two transactions of a backend share now() only when both stand
-- in one message, and no request can be opened in the message that began its transaction (see write_context).
--
-- Measured: what costs is not the hash but the number of relations, of function calls in SQL and of statements, each set
-- up anew in every transaction. So each accessor is one query over views that the planner flattens, and body() and seal()
-- are inlined.

grant create on schema request_private, request to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function request_private.body(
  kind integer, deadline timestamptz, session_id uuid, person_id uuid, organization_id uuid,
  credential_hash bytea, assurance integer, metadata jsonb
) returns text
  language sql volatile
-- No `set`: that would keep it from being inlined. Its names were resolved when it was made.
return concat('2', kind,
  encode(int4send(pg_backend_pid()) || timestamptz_send(now()) || timestamptz_send(deadline), 'hex'),
  gen_random_uuid(),
  coalesce(session_id, '00000000-0000-0000-0000-000000000000'),
  coalesce(person_id, '00000000-0000-0000-0000-000000000000'),
  coalesce(organization_id, '00000000-0000-0000-0000-000000000000'),
  coalesce(encode(credential_hash, 'hex'), repeat('0', 64)),
  assurance,
  coalesce((metadata ->> 'requestId')::uuid, gen_random_uuid()),
  metadata);
comment on function request_private.body(integer, timestamptz, uuid, uuid, uuid, bytea, integer, jsonb) is
  'Body of a context for this transaction.';

create or replace function request_private.seal(body text, inner_pad bytea, outer_pad bytea) returns text
  language sql stable parallel safe
-- HMAC from its definition with prepared pads: pgcrypto's looks its digest up at each call. Stable, as convert_to is: an
-- immutable function would not be inlined.
return encode(sha256(outer_pad || sha256(inner_pad || convert_to(body, 'UTF8'))), 'hex');
comment on function request_private.seal(text, bytea, bytea) is
  'Seal of a body: HMAC-SHA-256 in hex, under the two padded blocks of a key.';

create or replace function request_private.write_context(context text, envelope bytea) returns text
  language plpgsql volatile
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
  if octet_length(context) > 4096 then
    raise exception 'the metadata of a request are too long' using errcode = '22023';
  end if;
  return set_config('safetypin.envelope', coalesce(encode(envelope, 'hex'), ''), true)
    || set_config('safetypin.context', context, true);
end $$;
comment on function request_private.write_context(text, bytea) is
  'Writes the sealed context of this transaction. CTXAG if it has one, CTXTX if it began in this very message, 22023 for metadata of more than about 3,500 bytes.';

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
                select from access.organizations o
                where o.id = j.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()))
            and (j.person_id is null or j.organization_id is null or exists (
                select from access.memberships m
                where m.organization_id = j.organization_id and m.person_id = j.person_id))));
end $$;
comment on function request_private.job_stands(uuid) is
  'Whether a job may still act: its context is there, and who asked for it is active and a member, unless the task does without.';

create or replace function request_private.key_stands(organization_id uuid, key_id uuid, credential_hash bytea) returns boolean
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
-- Read at each statement: what was revoked, removed or ran out is over in the next one.
begin
  return exists (
    select from access_private.api_key_secrets s
      join access.api_keys k on k.organization_id = s.organization_id and k.id = s.key_id
      join access.organizations o on o.id = k.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
      where s.hash = key_stands.credential_hash and s.expires_at > clock_timestamp()
        and k.organization_id = key_stands.organization_id and k.id = key_stands.key_id
        and k.revoked_at is null and k.expires_at > clock_timestamp()
        and case
            when k.person_id is not null then exists (
              select from access.memberships m
                join identity.people p on p.id = m.person_id and p.status = 'active'
                where m.organization_id = k.organization_id and m.person_id = k.person_id)
            else exists (
              select from access.service_accounts a
                where a.organization_id = k.organization_id and a.id = k.service_account_id and a.status = 'active')
          end);
end $$;
comment on function request_private.key_stands(uuid, uuid, bytea) is
  'Whether an API key may still act: neither it nor this secret of it is over, its organization lives, and whose key it is is active and a member, or an active service account.';

-- The accessors. A session is asked for first, since nearly every request has one.

create or replace function request.kind() returns text
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from request_private.session_context) then
    return 'session';
  end if;
  return (select case c.kind when '2' then 'job' when '3' then 'key' else 'anonymous' end from request_private.other_context c);
end $$;
comment on function request.kind() is 'anonymous, session, key or job; null without a valid context.';

create or replace function request.user_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  select c.person_id into v_id from request_private.session_context c;
  if not found then
    select c.person_id into v_id from request_private.other_context c;
  end if;
  return v_id;
end $$;
comment on function request.user_id() is 'The person who asks, herself or by an API key of hers; null if nobody does. In policies always as (select request.user_id()).';

create or replace function request.owner_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  select c.person_id into v_id from request_private.session_context c;
  if not found then
    -- An API key is for the permissions that it has, and for nothing besides.
    select c.person_id into v_id from request_private.other_context c where c.kind <> '3';
  end if;
  return v_id;
end $$;
comment on function request.owner_id() is
  'The person whose own rows the asker reaches without a permission; null if there is none, as for every API key. In policies always as (select request.owner_id()).';

create or replace function request.signed_in_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select c.person_id from request_private.session_context c where c.kind = '1');
end $$;
comment on function request.signed_in_id() is
  'The person who signed in for this request; null for anybody else. For what a person does for herself alone: joining, leaving, founding.';

create or replace function request.organization_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  select c.organization_id into v_id from request_private.session_context c;
  if not found then
    select c.organization_id into v_id from request_private.other_context c;
  end if;
  return v_id;
end $$;
comment on function request.organization_id() is 'The active organization; null if none. In policies always as (select request.organization_id()).';

create or replace function request.session_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select c.subject_id from request_private.session_context c);
end $$;
comment on function request.session_id() is 'The session of this request; null for anonymous requests, API keys and jobs.';

create or replace function request.api_key_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select c.subject_id from request_private.other_context c where c.kind = '3');
end $$;
comment on function request.api_key_id() is 'The API key of this request; null for anybody else.';

create or replace function request.service_account_id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select k.service_account_id from request_private.other_context c
    join access.api_keys k on k.organization_id = c.organization_id and k.id = c.subject_id
    where c.kind = '3');
end $$;
comment on function request.service_account_id() is 'The service account that asks by an API key; null for anybody else.';

create or replace function request.assurance() returns integer
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_assurance integer;
begin
  select c.assurance into v_assurance from request_private.session_context c;
  if not found then
    select c.assurance into v_assurance from request_private.other_context c;
  end if;
  return v_assurance;
end $$;
comment on function request.assurance() is 'Authenticator assurance level of the session, 1 to 3 (SP 800-63B); 1 for API keys, 0 for nobody and for jobs.';

create or replace function request.id() returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select c.request_id from request_private.sealed_context c);
end $$;
comment on function request.id() is 'Id of the request, for correlation with the log of the API.';

create or replace function request.can(permission text) returns boolean
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_context record;
begin
  -- Held permissions are kept per membership with their times, so a grant that ends is over in the next statement.
  if exists (
      select from request_private.session_context c
        join access_private.held_permissions h
          on h.organization_id = c.organization_id and h.person_id = c.person_id
      where h.permission = can.permission and h.valid @> clock_timestamp()) then
    return true;
  end if;
  select c.kind, c.subject_id, c.organization_id into v_context from request_private.other_context c;
  if v_context.kind = '3' then
    -- A key has what it was made for, as far as whose key it is has that too, now.
    return exists (
      select from access.api_keys k
        where k.organization_id = v_context.organization_id and k.id = v_context.subject_id
          and can.permission = any (k.permissions)
          and case
              when k.person_id is not null then exists (
                select from access_private.held_permissions h
                  where h.organization_id = k.organization_id and h.person_id = k.person_id
                    and h.permission = can.permission and h.valid @> clock_timestamp())
              else exists (
                select from access.service_accounts a
                  where a.organization_id = k.organization_id and a.id = k.service_account_id
                    and can.permission = any (a.permissions))
            end);
  end if;
  return exists (
    select from platform_private.job_contexts j
    where v_context.kind = '2' and j.id = v_context.subject_id and can.permission = any (j.permissions)
      -- The task's permission lends nothing to a person who does not hold it, or does not any more.
      and (j.person_id is null or exists (
        select from access_private.held_permissions h
        where h.organization_id = j.organization_id and h.person_id = j.person_id
          and h.permission = can.permission and h.valid @> clock_timestamp())));
end $$;
comment on function request.can(text) is 'Whether the asker holds a permission (noun.verb) in the active organization, now. In policies always as (select request.can(…)).';

create or replace function request_private.standing(permission text, out organization_id uuid, out credential_hash bytea, out may boolean)
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
begin
  select c.organization_id, c.credential_hash,
      standing.permission is null or exists (
        select from access_private.held_permissions h
          where h.organization_id = c.organization_id and h.person_id = c.person_id
            and h.permission = standing.permission and h.valid @> clock_timestamp())
    into standing.organization_id, standing.credential_hash, standing.may
    from request_private.session_context c;
  if not found then
    organization_id := request.organization_id();
    may := case when permission is null then request.kind() is not null else request.can(permission) end;
  end if;
end $$;
comment on function request_private.standing(text) is
  'organization_id() and can() in one query, for what is asked once for each value: whether the asker holds a permission (null: whether there is a request at all). The hash of the credential, null if another query must ask for it.';

create or replace function request.task() returns text
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select j.task from request_private.other_context c
    join platform_private.job_contexts j on j.id = c.subject_id where c.kind = '2');
end $$;
comment on function request.task() is 'Name of the task, inside a job; null elsewhere.';

create or replace function request.job_value(name text) returns uuid
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select (j.payload ->> job_value.name)::uuid from request_private.other_context c
    join platform_private.job_contexts j on j.id = c.subject_id where c.kind = '2');
end $$;
comment on function request.job_value(text) is
  'Inside a job: an id that it was made with, by name; null elsewhere. A function of a task acts on nothing else.';

reset role;
reset row_security;
revoke create on schema request_private, request from safetypin_keeper;
