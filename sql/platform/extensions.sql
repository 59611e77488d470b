-- Purpose: what only an administrator may do inside the database: extensions, and taking from PUBLIC what it has
-- by default. Run by `safetypin migrate` in the database itself, before the migrations. Idempotent.

create schema if not exists extensions authorization safetypin_owner;
comment on schema extensions is 'Functions of PostgreSQL extensions. Only the keeper and the definer may call them.';
create extension if not exists pgcrypto with schema extensions;
revoke all on schema extensions from public;
grant usage on schema extensions to safetypin_keeper, safetypin_definer;

do $$
begin
  -- Temporary objects would let a caller shadow what a function names; CONNECT is for our logins.
  execute format('revoke temporary, connect on database %I from public', current_database());
  execute format('grant connect on database %I to safetypin_authenticator, safetypin_jobs, safetypin_auditor', current_database());
end $$;
revoke create on schema public from public;
