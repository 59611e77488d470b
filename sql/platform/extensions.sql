-- Purpose: what only an administrator may do inside the database: extensions, and taking from PUBLIC what it has
-- by default. Run by `safetypin migrate` in the database itself, before the migrations. Idempotent.

do $$
declare
  v_where name;
begin
  -- A provider may have the schema already, and own it (Supabase); then it is used as it is.
  if to_regnamespace('extensions') is null then
    create schema extensions authorization safetypin_owner;
    comment on schema extensions is 'Functions of PostgreSQL extensions. Only the keeper and the definer may call them.';
  end if;
  select extnamespace::regnamespace into v_where from pg_catalog.pg_extension where extname = 'pgcrypto';
  if v_where <> 'extensions' then
    raise exception 'pgcrypto is in schema % of this database: let its owner run: alter extension pgcrypto set schema extensions', v_where;
  end if;
end $$;
create extension if not exists pgcrypto with schema extensions;

do $$
begin
  if (select pg_catalog.pg_has_role(nspowner, 'usage') from pg_catalog.pg_namespace where nspname = 'extensions') then
    revoke all on schema extensions from public;
    grant usage on schema extensions to safetypin_keeper, safetypin_definer;
  elsif not (has_schema_privilege('safetypin_keeper', 'extensions', 'usage')
      and has_schema_privilege('safetypin_definer', 'extensions', 'usage')) then
    raise exception 'schema extensions is not ours to open: let its owner run: grant usage on schema extensions to safetypin_keeper, safetypin_definer';
  end if;

  -- Temporary objects would let a caller shadow what a function names; CONNECT is for our logins.
  execute format('revoke temporary, connect on database %I from public', current_database());
  execute format('grant connect on database %I to safetypin_authenticator, safetypin_jobs, safetypin_auditor', current_database());
end $$;
revoke create on schema public from public;

-- What PostgreSQL lets everybody do and nobody here needs. Large objects have no row-level security. All requests share
-- one login, so each could end the statements and connections of all others; operators are in pg_signal_backend. On a
-- managed server, whose administrator does not own these functions, this does nothing but warn; `safetypin migrate` says so.
do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid from pg_catalog.pg_proc p, pg_catalog.aclexplode(coalesce(p.proacl, pg_catalog.acldefault('f', p.proowner))) a
      where p.pronamespace = 'pg_catalog'::pg_catalog.regnamespace and a.grantee = 0
        and p.proname ~ '^(lo_|(loread|lowrite|pg_cancel_backend|pg_terminate_backend)$)'
  loop
    if v_function::text ~ '_backend' then
      execute format('grant execute on function %s to pg_signal_backend', v_function);
    end if;
    execute format('revoke execute on function %s from public', v_function);
  end loop;
end $$;
