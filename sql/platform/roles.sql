-- Purpose: the database roles. Run by an administrator (`safetypin migrate`), before and outside the migrations,
-- because roles belong to the whole server. Idempotent. Passwords are set apart, as SCRAM verifiers.
-- None of owner, keeper and definer is a member of another, and no login can become one of them.

do $$
declare
  v_role text;
begin
  foreach v_role in array array[
    'safetypin_owner', 'safetypin_keeper', 'safetypin_definer',
    'safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member',
    'safetypin_jobs', 'safetypin_auditor']
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
      execute format('create role %I', v_role);
    end if;
  end loop;
end $$;

alter role safetypin_owner nologin noinherit;
alter role safetypin_keeper nologin noinherit;
alter role safetypin_definer nologin noinherit;
alter role safetypin_anonymous nologin noinherit;
alter role safetypin_member nologin noinherit;
-- noinherit must come before the grants below: PostgreSQL 16 and later store it with each grant.
alter role safetypin_authenticator login noinherit connection limit -1;
alter role safetypin_jobs login noinherit;
alter role safetypin_auditor login noinherit;

grant safetypin_anonymous, safetypin_member to safetypin_authenticator;

-- Timeouts stand on the logins, since settings of a role do not apply after `set role`. They guard against
-- mistakes; a client can raise them, so no rule rests on them.
alter role safetypin_authenticator set statement_timeout = '30s';
alter role safetypin_authenticator set lock_timeout = '5s';
alter role safetypin_authenticator set idle_in_transaction_session_timeout = '15s';
-- Compiling costs more than it gains in statements as short as an API's.
alter role safetypin_authenticator set jit = off;
alter role safetypin_auditor set statement_timeout = '120s';
alter role safetypin_auditor set lock_timeout = '5s';
alter role safetypin_auditor set idle_in_transaction_session_timeout = '60s';
alter role safetypin_jobs set statement_timeout = '300s';
alter role safetypin_jobs set lock_timeout = '10s';
alter role safetypin_jobs set idle_in_transaction_session_timeout = '60s';

do $$
begin
  if current_setting('server_version_num')::int >= 170000 then
    execute 'alter role safetypin_authenticator set transaction_timeout = ''60s''';
  end if;
end $$;

comment on role safetypin_owner is 'Owns tables and types; migrations run as it. Cannot log in.';
comment on role safetypin_keeper is 'Owns the keys and the few functions that touch one. Cannot log in.';
comment on role safetypin_definer is 'Owns all other security definer functions; has table grants only, no DDL and no key. Cannot log in.';
comment on role safetypin_authenticator is 'Login of the API: may open a request and become anonymous or member, nothing else.';
comment on role safetypin_anonymous is 'What a request without a session runs as.';
comment on role safetypin_member is 'What a request with a session runs as; the sealed context decides the rest.';
comment on role safetypin_jobs is 'Login of the worker: changes rows of the job queue and calls the functions named for tasks; owns nothing.';
comment on role safetypin_auditor is 'Login for auditors: reads audit views, under a sealed permission as everybody.';
