-- Purpose: explainAccess: why somebody may or may not do something. What is said of a row is looked up with the rights of
-- who asks; the rest by the steps of access/explain.sql, which read the rows that access.protect() compiles.

do $$
begin
  if to_regtype('api.explained_verdict') is null then
    create type api.explained_verdict as enum ('ALLOWED', 'DENIED', 'REFUSED');
    create type api.access_explanation as (
      verdict api.explained_verdict, reason text, sentence text, change text, deciding jsonb);
  end if;
end $$;
comment on type api.explained_verdict is 'ALLOWED, DENIED, or REFUSED: no answer.';
comment on type api.access_explanation is 'Why somebody may or may not do something.';
comment on column api.access_explanation.verdict is 'What the statement would do now; REFUSED is no answer, and the reason says why there is none.';
comment on column api.access_explanation.reason is
  'In one word. Allowed: HELD, OWN_ROW, OWN_ROWS (only those), ASSIGN. Denied: NOT_HELD, NOT_YET, ENDED, SCOPE and KEY_OVER (of an API key), NOT_OWN, ASSURANCE, ROW_NOT_FOUND, CLOSED (no rule), COLUMN_CLOSED, PARTITION, NOT_GRANTED, OTHER_ROLES, PERSON_INACTIVE, ORGANIZATION_INACTIVE. Refused: NOT_PERMITTED, NOT_FOUND (no such member), QUESTION_UNCLEAR, PERMISSION_UNKNOWN, COMMAND_UNKNOWN, TABLE_UNKNOWN, TABLE_UNRULED, ROW_NOT_FOUND, OWNER_HIDDEN.';
comment on column api.access_explanation.sentence is 'For people.';
comment on column api.access_explanation.change is 'The smallest change that would allow it; null where it is allowed or none would.';
comment on column api.access_explanation.deciding is
  'The rows that decided, a list of objects by kind: organization, person, key, session, row, rule, grant.';

grant create on schema api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.explain_access(
  person_id uuid, key_id uuid, permission text, command text, table_name text, column_name text, owner_id uuid,
  row_seen text, row_owner uuid
) returns api.access_explanation
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows the reading of rules, roles and grants. Oneself needs nothing, others access.explain, and both end at the active
-- organization. What it is told of the row it believes: who would lie is answered about a row that is not there.
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := coalesce(explain_access.person_id, request.user_id());
  v_self boolean := v_person = request.user_id();
  v_key access.api_keys;
  v_explained record;
begin
  if explain_access.key_id is not null then
    select k.* into v_key from access.api_keys k
      where k.organization_id = v_organization and k.id = explain_access.key_id;
    v_person := v_key.person_id;
    v_self := coalesce(v_person = request.user_id(), false);
  end if;
  if not v_self and not coalesce(request.can('access.explain'), false) then
    -- Nothing can be recorded in a transaction that only reads; nothing is told there either.
    if not current_setting('transaction_read_only')::boolean then
      perform access_private.refused('access.explain', '{NOT_PERMITTED}');
    end if;
    return ('REFUSED', 'NOT_PERMITTED',
      access_private.explain_sentence('REFUSED', 'NOT_PERMITTED', null, null, null, null, null), null, '[]')::api.access_explanation;
  end if;
  -- One's own key is not oneself: it does less, and has no session.
  v_self := v_self and v_key.id is null;
  v_explained := access_private.explain(v_organization, v_person, v_key, explain_access.permission, explain_access.command,
    explain_access.table_name, explain_access.column_name, explain_access.owner_id, explain_access.row_seen,
    explain_access.row_owner, v_self,
    case
      when v_self then request.assurance()
      when v_key.id is not null then 1
      -- The strongest session there is, for who may see sessions; without one, what a password gives.
      when coalesce(request.can('session.read'), false) then coalesce((
        select max(s.assurance) from sessions.sessions s
        where s.person_id = v_person and s.organization_id = v_organization and s.ends_at > clock_timestamp()), 1)
      else 1 end,
    coalesce(request.can('role.read'), false), false);
  return (v_explained.verdict, v_explained.reason, v_explained.sentence, v_explained.change, v_explained.deciding)::api.access_explanation;
end $$;
comment on function api_steps.explain_access(uuid, uuid, text, text, text, text, uuid, text, uuid) is
  'What api.explain_access() asks, once it has looked the row up as whoever asks. REFUSED with NOT_PERMITTED, recorded, about somebody else without access.explain.';

reset role;
reset row_security;
revoke create on schema api_steps from safetypin_definer;

create or replace function api.explain_access(
  person_id uuid default null, permission text default null, command text default null, table_name text default null,
  row_id uuid default null, row_key text default null, column_name text default null, owner_id uuid default null,
  key_id uuid default null
) returns api.access_explanation
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
-- Invoker: the row is looked up with the rights of who asks.
declare
  v_key text := coalesce(row_key, row_id::text);
  v_place record;
  v_row record;
begin
  if v_key is null then
    return api_steps.explain_access(person_id, key_id, permission, command, table_name, column_name, owner_id, null, null);
  end if;
  v_place := access.explain_place(table_name, lower(command));
  v_row := access.row_seen(v_place.relation, v_place.key_column, v_place.organization_column, v_place.owner_column, v_key);
  return api_steps.explain_access(person_id, key_id, permission, command, table_name, column_name, owner_id, v_row.seen, v_row.owner_id);
end $$;
comment on function api.explain_access(uuid, text, text, text, uuid, text, text, uuid, uuid) is
  'Why a member of the active organization may or may not do something now: hold a permission, or run a command (select, insert, update, delete) on a table (schema.table) under access.protect(), on a column of it, on one row by rowId (rowKey where keys are no UUIDs), or adding one in the name of ownerId. About oneself without personId, or an API key of one''s own by keyId; about others it needs access.explain. A row that the asker cannot see does not exist here. An update or delete is of rows that the statement names, which must be readable too.';
