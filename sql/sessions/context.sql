-- Purpose: the sealed context as rows, for the keeper's own functions: no row without a good seal. The layout is written
-- down in platform/request.sql. They stand here because the live session is one of the things that they ask.

grant create on schema request_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace view request_private.sealed_context with (security_invoker = true) as
  select substr(b.body, 2, 1) as kind,
    substr(b.body, 79, 36)::uuid as subject_id,
    nullif(substr(b.body, 115, 36)::uuid, '00000000-0000-0000-0000-000000000000') as person_id,
    nullif(substr(b.body, 151, 36)::uuid, '00000000-0000-0000-0000-000000000000') as organization_id,
    decode(substr(b.body, 187, 64), 'hex') as credential_hash,
    substr(b.body, 251, 1)::integer as assurance,
    substr(b.body, 252, 36)::uuid as request_id,
    substr(b.body, 288) as metadata
  from (
    -- Nothing of the body is read before it is known to be ours: anybody can write anything into the setting, and
    -- whatever is not ours is nobody, never an error. `offset 0` keeps that order. The seals are compared by a hash of
    -- each: the time it takes says nothing about the right one.
    select case
        when sha256(convert_to(s.seal, 'UTF8')) = sha256(convert_to(request_private.seal(s.body, k.inner_pad, k.outer_pad), 'UTF8'))
        then s.body
      end as body
    from (
        select substr(c.setting, 1, 64) as seal, substr(c.setting, 65) as body
        from (select current_setting('safetypin.context', true) as setting offset 0) c
        where c.setting <> '' offset 0
      ) s
      cross join keyring_private.seal_keys k
    where k.purpose = 'request' offset 0
  ) b
  where substr(b.body, 3, 24) = encode(int4send(pg_backend_pid()) || timestamptz_send(now()), 'hex')
    and substr(b.body, 27, 16) collate "C" > encode(timestamptz_send(clock_timestamp()), 'hex');
comment on view request_private.sealed_context is
  'The context of this transaction if its seal is good and its deadline ahead. Does not ask whether the session still lives: the audit of the statement that ended it needs that.';
comment on column request_private.sealed_context.kind is '0 anonymous, 1 session, 2 job, 3 API key.';
comment on column request_private.sealed_context.subject_id is 'Session, context of the job, or API key.';
comment on column request_private.sealed_context.person_id is 'Who asks; null for nobody.';
comment on column request_private.sealed_context.organization_id is 'Active organization; null if none.';
comment on column request_private.sealed_context.credential_hash is 'SHA-256 of the credential; zero bytes if none.';
comment on column request_private.sealed_context.assurance is 'Authenticator assurance level, 0 to 3.';
comment on column request_private.sealed_context.request_id is 'Id of the request.';
comment on column request_private.sealed_context.metadata is 'JSON text, as the application gave it.';

create or replace view request_private.session_context with (security_invoker = true) as
  select c.*
  from request_private.sealed_context c
    -- Read at each statement: a revocation that committed is seen by the next one.
    join sessions.sessions s on s.id = c.subject_id
  where c.kind = '1' and s.ends_at > clock_timestamp();
comment on view request_private.session_context is 'The context of this transaction if it belongs to a session that is live now.';

create or replace view request_private.other_context with (security_invoker = true) as
  select c.*
  from request_private.sealed_context c
  where case c.kind
      when '0' then true
      when '2' then request_private.job_stands(c.subject_id)
      when '3' then request_private.key_stands(c.organization_id, c.subject_id, c.credential_hash)
      else false
    end;
comment on view request_private.other_context is 'The context of this transaction if it is anonymous or belongs to a job or an API key that may still act.';

create or replace function request_private.key_context(credential_hash bytea, metadata jsonb) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (
    select request_private.seal(o.body, o.inner_pad, o.outer_pad) || o.body
      from (
        select s.inner_pad, s.outer_pad, request_private.body(
            3, clock_timestamp() + make_interval(secs => r.value),
            k.id, k.person_id, k.organization_id, c.hash, 1, metadata) as body
          from platform.limits r
          join keyring_private.seal_keys s on s.purpose = 'request'
          join access_private.api_key_secrets c on c.hash = key_context.credential_hash
          join access.api_keys k on k.organization_id = c.organization_id and k.id = c.key_id
          -- A shell is for people.
          where r.name = 'request.seconds' and session_user <> 'safetypin_auditor'
            and request_private.key_stands(k.organization_id, k.id, c.hash)
          offset 0
      ) o);
end $$;
comment on function request_private.key_context(bytea, jsonb) is
  'The sealed context of a request with an API key, by the SHA-256 of its secret; null unless the key stands.';

reset role;
reset row_security;
revoke create on schema request_private from safetypin_keeper;
