-- Purpose: an operator's SQL session (`safetypin shell`). It acts as its person and may what she may; what is here says that
-- it began, what it was told to run, and that it ended. A statement is recorded in a transaction of its own that commits
-- before the statement is sent: no rollback, cancel or crash takes the record back.

grant create on schema api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.start_shell(out organization text, out request_seconds integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.session_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  perform audit_private.append('shell.start', origin_subject => request.user_id());
  select o.name into start_shell.organization from access.organizations o where o.id = request.organization_id();
  request_seconds := platform.limit_value('request.seconds');
end $$;
comment on function api_steps.start_shell() is
  'Records that this session is a shell; answers the name of its organization and how many seconds a request may last. AUTHN for nobody.';

create or replace function api_steps.record_statement(statement text) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.session_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if coalesce(btrim(statement), '') = '' then
    raise exception 'there is no statement' using errcode = '22023';
  end if;
  -- Kept whole or not run: half a statement says nothing of what the other half did.
  if octet_length(statement) > 64000 then
    raise exception 'a statement of more than 64000 bytes is not recorded' using errcode = '54000';
  end if;
  perform audit_private.append('shell.statement', statement => record_statement.statement);
end $$;
comment on function api_steps.record_statement(text) is
  'Records a statement of a shell, sealed for its operator, before it runs. AUTHN for nobody, 22023 for none, 54000 for one of more than 64000 bytes, KEYNO without an application key.';

create or replace function api_steps.end_shell() returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.session_id() is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  perform audit_private.append('shell.end');
  perform sessions_private.end_session(request.session_id(), 'logout');
end $$;
comment on function api_steps.end_shell() is 'Records that this shell was closed and ends its session. AUTHN for nobody.';

reset role;
reset row_security;
revoke create on schema api_steps from safetypin_definer;
