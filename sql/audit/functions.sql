-- Purpose: writing events. Three owners, for three reasons: the keeper appends, because it reads the sealed context and
-- seals personal values; the owner makes partitions; nobody else can write an event.
--
-- Canonical entry, version 1: the byte 1, then each field as a length (int4, -1 for null) and its bytes, in this order:
-- id (16), occurred_at (timestamptz, 8), organization (16), action, actor (16), session (16), request (16),
-- database role, relation, row id, details (JSON text as stored). Texts are UTF-8.

grant create on schema audit, audit_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function audit_private.field(value bytea) returns bytea
  language sql immutable parallel safe
-- This and the next without `set` and as `return`: so they are inlined, which takes two thirds off an entry.
return coalesce(int4send(length(value)) || value, int4send(-1));
comment on function audit_private.field(bytea) is 'One field of a canonical entry: length and bytes, or -1 for null.';

create or replace function audit_private.encode_entry(
  id uuid, occurred_at timestamptz, organization_id uuid, action text, actor_id uuid, session_id uuid,
  request_id uuid, database_role text, relation text, row_id text, details jsonb
) returns bytea
  language sql stable parallel safe
return '\x01'::bytea
    || audit_private.field(uuid_send(id)) || audit_private.field(timestamptz_send(occurred_at))
    || audit_private.field(uuid_send(organization_id)) || audit_private.field(convert_to(action, 'UTF8'))
    || audit_private.field(uuid_send(actor_id)) || audit_private.field(uuid_send(session_id))
    || audit_private.field(uuid_send(request_id)) || audit_private.field(convert_to(database_role, 'UTF8'))
    || audit_private.field(convert_to(relation, 'UTF8')) || audit_private.field(convert_to(row_id, 'UTF8'))
    || audit_private.field(convert_to(details::text, 'UTF8'));
comment on function audit_private.encode_entry(uuid, timestamptz, uuid, text, uuid, uuid, uuid, text, text, text, jsonb) is
  'The canonical entry of an event, version 1.';

create or replace function audit_private.append(
  action text, organization_id uuid default null, actor_id uuid default null, details jsonb default '{}',
  relation text default null, row_id text default null, origin_subject uuid default null, statement text default null
) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Who acts comes from the seal, which is verified here and not taken from any caller. A caller may name an actor only
-- where nobody is signed in yet.
declare
  v_context record;
  v_metadata jsonb;
  v_zero constant uuid := '00000000-0000-0000-0000-000000000000';
  v_action audit.actions;
  v_id uuid := platform.uuid_v7();
  v_now timestamptz := clock_timestamp();
  v_organization uuid;
  v_actor uuid;
  v_session uuid;
  v_request uuid;
  v_details jsonb := append.details;
begin
  select c.* into v_context from request_private.sealed_context c;
  if not found and session_user in ('safetypin_authenticator', 'safetypin_jobs', 'safetypin_auditor') then
    raise exception 'no sealed context' using errcode = 'CTXNO';
  end if;
  select a.* into v_action from audit.actions a where a.name = append.action;
  if not found then
    raise exception 'no such action' using errcode = '22023';
  end if;
  v_actor := v_context.person_id;
  v_organization := v_context.organization_id;
  v_request := v_context.request_id;
  if v_context.kind = '1' then
    v_session := v_context.subject_id;
  elsif v_context.kind = '3' then
    v_details := v_details || jsonb_build_object('apiKey', v_context.subject_id);
  end if;
  v_actor := coalesce(v_actor, append.actor_id);
  v_organization := coalesce(append.organization_id, v_organization, v_zero);
  v_metadata := v_context.metadata;
  if append.origin_subject is not null and v_metadata is not null then
    v_details := v_details || jsonb_build_object('origin', encode(keyring_private.seal(
      'audit.events.origin', v_organization, v_id, append.origin_subject,
      jsonb_build_object('ip', left(v_metadata ->> 'ip', 64), 'userAgent', left(v_metadata ->> 'userAgent', 400))::text), 'hex'));
  end if;
  if append.statement is not null then
    -- Its literals can be anything about anybody. No hash beside it: that of a short text is guessed.
    v_details := v_details || jsonb_build_object('statement', encode(keyring_private.seal(
      'audit.events.statement', v_organization, v_id, v_actor, append.statement), 'hex'));
  end if;
  insert into audit.events (organization_id, id, occurred_at, action, category, severity, actor_id, session_id,
      request_id, database_role, relation, row_id, details, entry)
    values (v_organization, v_id, v_now, v_action.name, v_action.category, v_action.severity, v_actor, v_session,
      v_request, session_user, append.relation, append.row_id, v_details,
      audit_private.encode_entry(v_id, v_now, v_organization, v_action.name, v_actor, v_session,
        v_request, session_user, append.relation, append.row_id, v_details));
  return v_id;
end $$;
comment on function audit_private.append(text, uuid, uuid, jsonb, text, text, uuid, text) is
  'Appends one event and returns its id. From a run-time login only under a valid seal (CTXNO); 22023 for an unknown action. With origin_subject, IP address and user agent are sealed for that person; a statement of SQL is sealed for the actor.';

create or replace function audit_private.append_set(action text, ids uuid[], relation text, row_ids text[], details jsonb[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- What append() does, for many events of one action at once; the context is verified once.
declare
  v_context record;
  v_action audit.actions;
  v_now timestamptz := clock_timestamp();
  v_organization uuid;
  v_session uuid;
  v_said jsonb := '{}';
begin
  select c.* into v_context from request_private.sealed_context c;
  if not found then
    raise exception 'no sealed context' using errcode = 'CTXNO';
  end if;
  select a.* into v_action from audit.actions a where a.name = append_set.action;
  if not found then
    raise exception 'no such action' using errcode = '22023';
  end if;
  v_organization := coalesce(v_context.organization_id, '00000000-0000-0000-0000-000000000000');
  if v_context.kind = '1' then
    v_session := v_context.subject_id;
  elsif v_context.kind = '3' then
    v_said := jsonb_build_object('apiKey', v_context.subject_id);
  end if;
  -- A word, not a text, which could be about anybody: it stands here in clear.
  if v_context.metadata::jsonb ->> 'purpose' ~* '^[a-z0-9][a-z0-9._:/-]{0,63}$' then
    v_said := v_said || jsonb_build_object('purpose', v_context.metadata::jsonb ->> 'purpose');
  end if;
  insert into audit.events (organization_id, id, occurred_at, action, category, severity, actor_id, session_id,
      request_id, database_role, relation, row_id, details, entry)
    select v_organization, e.id, v_now, v_action.name, v_action.category, v_action.severity, v_context.person_id, v_session,
        v_context.request_id, session_user, append_set.relation, e.row_id, e.details,
        audit_private.encode_entry(e.id, v_now, v_organization, v_action.name, v_context.person_id, v_session,
          v_context.request_id, session_user, append_set.relation, e.row_id, e.details)
      from (select u.id, u.row_id, u.details || v_said as details
        from unnest(append_set.ids, append_set.row_ids, append_set.details) as u (id, row_id, details) offset 0) e;
end $$;
comment on function audit_private.append_set(text, uuid[], text, text[], jsonb[]) is
  'Appends events of one action and table, with the purpose that the request gave. Only under a valid seal (CTXNO); 22023 for an unknown action.';

create or replace function audit.append_change(relation oid, operation text, old_row jsonb, new_row jsonb, arguments text[]) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: appending. Nothing but a trigger may call it, and it takes what stands in a row as JSON: the
-- conversion may run code of the table's owner (a cast to json), which must never run as the keeper.
declare
  v_old jsonb := old_row;
  v_new jsonb := new_row;
  v_arguments text[] := array(select a from unnest(arguments) with ordinality as u (a, n) order by n);
  v_hidden text[];
  v_row jsonb;
  v_changed jsonb;
  v_key text;
  v_table text;
begin
  if pg_trigger_depth() = 0 then
    raise exception 'changes of rows are recorded by triggers alone' using errcode = 'DENYD';
  end if;
  if v_arguments[cardinality(v_arguments)] = '~doors' then
    -- An old value that is only being sealed now, or one that is being unsealed, must not stand here in clear.
    v_hidden := keyring_private.hidden_from_audit(append_change.relation);
    v_old := v_old - v_hidden;
    v_new := v_new - v_hidden;
  end if;
  v_row := coalesce(v_new, v_old);
  if operation = 'UPDATE' then
    select jsonb_object_agg(n.key, jsonb_build_array(v_old -> n.key, n.value))
      into v_changed
      from jsonb_each(v_new) n
      where n.value is distinct from v_old -> n.key;
    if v_changed is null then
      return null;
    end if;
    v_changed := jsonb_build_object('changed', v_changed);
  else
    v_changed := jsonb_build_object('row', v_row);
  end if;
  select string_agg(v_row ->> k.name, ',' order by k.position)
    into v_key
    from unnest(v_arguments) with ordinality as k (name, position)
    where k.position > 1;
  select concat(n.nspname, '.', c.relname) into strict v_table
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = append_change.relation;
  return audit_private.append(
    'row.' || lower(operation),
    case when v_arguments[1] <> '' then (v_row ->> v_arguments[1])::uuid end,
    null, v_changed, v_table, v_key);
end $$;
comment on function audit.append_change(oid, text, jsonb, jsonb, text[]) is
  'For record_change(): appends what changed in a row; null if nothing did. DENYD outside a trigger, CTXNO from a run-time login without a valid seal.';

create or replace function audit.let_record(role name) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant execute on function audit.append_change(oid, text, jsonb, jsonb, text[]) to %I', role);
end $$;
comment on function audit.let_record(name) is
  'Lets a role write tables whose changes are recorded. For owners of tables: access.protect() calls it. It lends nothing by itself: outside of a trigger append_change() refuses.';

create or replace function audit.statement(event_id uuid) returns text
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows the key of whoever gave the statement; the checks are the permission, and the organization it was given in.
declare
  v_event record;
begin
  if not request.can('audit.read') then
    raise exception 'reading the audit trail is not permitted' using errcode = 'DENYD';
  end if;
  select e.organization_id, e.id, e.details ->> 'statement' as statement into v_event
    from audit.events e
    where e.organization_id = request.organization_id() and e.id = statement.event_id and e.action = 'shell.statement';
  if not found then
    return null;
  end if;
  return keyring_private.open('audit.events.statement', v_event.organization_id, v_event.id, decode(v_event.statement, 'hex'));
end $$;
comment on function audit.statement(uuid) is
  'The SQL that an event shell.statement of the active organization recorded; null for any other event. DENYD without audit.read, KEYER if its operator was erased.';

create or replace function audit.count_events(since text, out until text, out counts jsonb)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: reading events of all organizations; gives numbers only. An event is counted once, by the
-- first call whose snapshot has its transaction: times would miss what was written early and committed late. Bounded by
-- the rows it looks at, and by the index on the transaction.
declare
  v_since pg_snapshot := count_events.since::pg_snapshot;
  v_until pg_snapshot := pg_current_snapshot();
begin
  until := v_until::text;
  select coalesce(jsonb_agg(to_jsonb(c)), '[]') into counts
    from (
      select e.action, left(e.details ->> 'because', 40) as because, count(*) as count
      from (
        select a.action, a.details
        from audit.events a
        where a.transaction_id >= pg_snapshot_xmin(v_since)
          and not pg_visible_in_snapshot(a.transaction_id, v_since)
          and pg_visible_in_snapshot(a.transaction_id, v_until)
        limit 50000) e
      group by e.action, left(e.details ->> 'because', 40)) c;
end $$;
comment on function audit.count_events(text) is
  'How many events of each action, and of each reason, became visible since the given pg_snapshot (none for null), and the one to give next time. For metrics: no event, no organization and no person is named.';

reset role;
reset row_security;
revoke create on schema audit, audit_private from safetypin_keeper;

create or replace function audit.record_change() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
-- Runs with the rights of who writes: see append_change().
begin
  perform audit.append_change(tg_relid, tg_op, case when tg_op <> 'INSERT' then to_jsonb(old) end,
    case when tg_op <> 'DELETE' then to_jsonb(new) end, tg_argv);
  return null;
end $$;
comment on function audit.record_change() is
  'Trigger: records what changed in a row, in the same transaction. Arguments: column of the organization or empty, then the key columns; ~doors at the end for a table with sealed columns, whose values in clear and blind indexes are left out.';

create or replace function audit_private.refuse_change() returns trigger
  language plpgsql
  set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'audit events are never changed' using errcode = 'AUDAP';
end $$;
comment on function audit_private.refuse_change() is 'Trigger: refuses update, delete and truncate of events, for the owner too.';

create or replace function audit_private.make_partitions(months integer default 3) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Owned by the owner of the table, since it makes tables; takes nothing from outside but a number.
declare
  v_from timestamptz;
  v_until timestamptz;
  v_name text;
  v_made integer := 0;
begin
  for i in 0..least(greatest(months, 0), 24) loop
    v_from := date_trunc('month', (clock_timestamp() at time zone 'UTC') + make_interval(months => i)) at time zone 'UTC';
    v_name := 'events_' || to_char(v_from at time zone 'UTC', 'YYYY_MM');
    v_until := date_trunc('month', (v_from at time zone 'UTC') + interval '1 month') at time zone 'UTC';
    -- Events that the default partition caught already stay there: a partition cannot be made over them.
    continue when to_regclass('audit.' || v_name) is not null
      or exists (select from audit.events_default e where e.occurred_at >= v_from and e.occurred_at < v_until);
    execute format('create table audit.%I partition of audit.events for values from (%L) to (%L)',
      v_name, v_from, v_until);
    execute format('alter table audit.%I enable row level security, force row level security', v_name);
    execute format('alter table audit.%I enable always trigger _200_refuse_change', v_name);
    -- Triggers on truncate are not inherited.
    execute format('create trigger _210_refuse_truncate before truncate on audit.%I for each statement execute function audit_private.refuse_change()', v_name);
    execute format('alter table audit.%I enable always trigger _210_refuse_truncate', v_name);
    v_made := v_made + 1;
  end loop;
  return v_made;
end $$;
comment on function audit_private.make_partitions(integer) is 'Makes the monthly partitions of this month and the given number of months ahead; returns how many were missing.';

grant create on schema audit to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function audit.ensure_partitions() returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.task() is distinct from 'audit__ensure_partitions' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  return audit_private.make_partitions();
end $$;
comment on function audit.ensure_partitions() is 'Task audit__ensure_partitions: makes partitions ahead of time; returns how many.';

reset role;
reset row_security;
revoke create on schema audit from safetypin_definer;
