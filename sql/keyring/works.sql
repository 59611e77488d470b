-- Purpose: long work on keys and sealed values, in batches, each a transaction of its own: killed anywhere it goes on
-- from where it was. Readers never wait for it. Two sorts of it:
-- - on keys, and on SafetyPin's own columns: a function keyring_private.work_<kind>(work, batch). It does one batch, keeps
--   where it is in `position`, and returns how many rows it did: 0 when nothing is left, null when it must wait;
-- - on rows of other tables, in the steps of keyring_private.steps(). Some are the keeper's own (waiting, a key, a state);
--   those that touch rows are the worker's (work-rows.sql), since a table of somebody else can hold code of its owner,
--   which must never run as the keeper. What the worker may ask the keeper for is bound to the work that this very
--   transaction has taken.

grant create on schema keyring_private, keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create table if not exists keyring_private.works (
  id uuid constraint works_pkey primary key default platform.uuid_v7(),
  kind text not null constraint works_kind_known check (kind in ('rewrap', 'seal', 'unseal', 'reseal', 'reindex')),
  column_id uuid,
  position jsonb not null default '{}',
  done bigint not null default 0 constraint works_done_range check (done >= 0),
  total bigint constraint works_total_range check (total >= 0),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  run_at timestamptz not null default clock_timestamp(),
  finished_at timestamptz,
  problem text constraint works_problem_is_code check (problem ~ '^[0-9A-Z]{5}$'),
  taken_by xid8
);
-- One at a time of each kind and column: two rotations at once are one and a refusal.
create unique index if not exists works_unfinished_unique on keyring_private.works (kind, column_id)
  nulls not distinct where finished_at is null;
create index if not exists works_finished_at_idx on keyring_private.works (finished_at);
alter table keyring_private.works enable row level security, force row level security;
comment on table keyring_private.works is 'Long work on keys and sealed values, done in batches by keyring.work().';
comment on column keyring_private.works.id is 'Id, in the order of their making.';
comment on column keyring_private.works.kind is 'rewrap: keys under the newest root. seal, unseal: a column''s old rows. reseal: values under the newest data key. reindex: blind indexes under the newest index key.';
comment on column keyring_private.works.column_id is 'The sealed column; null if it is about keys. Not a foreign key: a work outlives its column.';
comment on column keyring_private.works.position is 'Where it is, as its kind writes it: ids and keys of rows, never a value.';
comment on column keyring_private.works.done is 'Rows done.';
comment on column keyring_private.works.total is 'Rows to do, as estimated at its start; null if unknown.';
comment on column keyring_private.works.created_at is 'When it was asked for.';
comment on column keyring_private.works.updated_at is 'When a batch was tried last.';
comment on column keyring_private.works.run_at is 'Not tried before.';
comment on column keyring_private.works.finished_at is 'When nothing was left; null while there is.';
comment on column keyring_private.works.problem is 'SQLSTATE of the last batch if it failed. It is tried again.';
comment on column keyring_private.works.taken_by is 'Transaction of the last batch: while that runs, nobody else sees it, and it alone may do what the work needs.';

do $$
begin
  drop policy if exists keeper_select on keyring_private.works;
  create policy keeper_select on keyring_private.works for select to safetypin_keeper using (true);
  drop policy if exists keeper_insert on keyring_private.works;
  create policy keeper_insert on keyring_private.works for insert to safetypin_keeper with check (true);
  drop policy if exists keeper_update on keyring_private.works;
  create policy keeper_update on keyring_private.works for update to safetypin_keeper using (true) with check (true);
  drop policy if exists keeper_delete on keyring_private.works;
  create policy keeper_delete on keyring_private.works for delete to safetypin_keeper using (true);
end $$;

create or replace function keyring_private.add_work(kind text, column_id uuid, total bigint, "position" jsonb default '{}') returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  insert into keyring_private.works as w (kind, column_id, total, position)
    values (add_work.kind, add_work.column_id, add_work.total, add_work."position")
    on conflict do nothing
    returning w.id into v_id;
  if v_id is null then
    raise exception 'a work of this kind is not finished yet' using errcode = 'CNFLT';
  end if;
  return v_id;
end $$;
comment on function keyring_private.add_work(text, uuid, bigint, jsonb) is
  'Notes a work to be done; returns its id. CNFLT while one of its kind and column is unfinished.';

create or replace function keyring_private.at_work(column_id uuid, kinds text[] default null) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return pg_current_xact_id_if_assigned() is not null and exists (
    select from keyring_private.works w
      where w.taken_by = pg_current_xact_id_if_assigned() and w.column_id = at_work.column_id
        and (at_work.kinds is null or w.kind = any (at_work.kinds)));
end $$;
comment on function keyring_private.at_work(uuid, text[]) is
  'Whether this transaction is a batch of a work on a column: it has taken it, and can take no other.';

create or replace function keyring_private.steps(kind text, indexed boolean) returns text[]
  language sql immutable parallel safe
return case kind
    when 'seal' then case when indexed then array['rows', 'wait', 'sealed', 'wait', 'clear'] else array['rows', 'sealed'] end
    when 'unseal' then array['wait', 'rows']
    when 'reseal' then array['turn', 'rows']
    when 'reindex' then array['key', 'wait', 'fill', 'wait', 'drop', 'wait', 'clear']
  end;
comment on function keyring_private.steps(text, boolean) is
  'The steps of a work on rows. rows, fill and clear are the worker''s, see keyring.work_rows(); the others the keeper''s, see keyring_private.do_step().';

create or replace function keyring_private.has_waited(work keyring_private.works) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
-- Whoever began before the last step may still write by what held then: such a transaction can have an old snapshot
-- without having written yet, so its id alone would not tell. It holds its virtual id locked until its end.
declare
  v_wait jsonb := work.position -> 'wait';
begin
  if v_wait is null then
    select jsonb_build_object('next', pg_snapshot_xmax(pg_current_snapshot())::text, 'running', coalesce(jsonb_agg(l.virtualtransaction), '[]'))
      into v_wait
      from pg_locks l
      left join pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'virtualxid' and l.granted and l.mode = 'ExclusiveLock' and l.pid <> pg_backend_pid()
        and coalesce(a.datname, current_database()) = current_database()
        and a.backend_type is distinct from 'autovacuum worker';
    update keyring_private.works w set position = w.position || jsonb_build_object('wait', v_wait) where w.id = work.id;
  end if;
  return not exists (select from pg_locks l where l.locktype = 'virtualxid' and v_wait -> 'running' ? l.virtualtransaction)
    -- What was prepared for a commit in two phases has no virtual id any more.
    and not exists (select from pg_prepared_xacts p where p.database = current_database()
      and age(p.transaction) >= age((v_wait ->> 'next')::xid8::xid));
end $$;
comment on function keyring_private.has_waited(keyring_private.works) is
  'Whether every transaction is over that had begun when this was asked first.';

create or replace function keyring_private.note_work(work_id uuid, rows_done integer, outcome text, problem text default null, after jsonb default null)
  returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_work keyring_private.works;
  v_step integer;
  v_steps text[];
begin
  select w.* into strict v_work from keyring_private.works w where w.id = note_work.work_id;
  v_step := coalesce((v_work.position ->> 'step')::integer, 0) + (case when outcome = 'over' then 1 else 0 end);
  select keyring_private.steps(v_work.kind, c.indexed) into v_steps
    from keyring_private.sealed_columns c where c.id = v_work.column_id and c.relation is not null;
  -- A work that failed or waits stands in nobody's way.
  update keyring_private.works w
    set done = w.done + coalesce(rows_done, 0), problem = note_work.problem, updated_at = clock_timestamp(),
        position = case
          when v_steps is null or note_work.problem is not null then w.position
          when outcome = 'over' then w.position - 'after' - 'wait' || jsonb_build_object('step', v_step)
          when note_work.after is not null then w.position || jsonb_build_object('after', note_work.after)
          when rows_done is not null then w.position - 'after'
          else w.position
        end,
        finished_at = case when outcome = 'finished' or outcome = 'over' and v_step >= cardinality(v_steps) then clock_timestamp() end,
        run_at = case
          when note_work.problem is not null then clock_timestamp() + interval '30 seconds'
          when outcome = 'wait' then greatest(w.run_at, clock_timestamp() + interval '5 seconds')
          else w.run_at
        end
    where w.id = v_work.id;
  return greatest(rows_done, 1);
end $$;
comment on function keyring_private.note_work(uuid, integer, text, text, jsonb) is
  'Notes how a batch went: more, over (the step is), finished or wait, or its problem; and the key of the last row. Returns what the worker is told.';

create or replace function keyring.take_work(batch integer, out id uuid, out kind text, out step text, out column_id uuid,
  out relation oid, out "position" jsonb, out answer integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_batch integer := least(greatest(batch, 1), 10000);
  v_work keyring_private.works;
  v_column keyring_private.sealed_columns;
  v_done integer;
  v_problem text;
begin
  if request.task() is distinct from 'keyring__work' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- One in a transaction: what runs inside a batch, a trigger of a table's owner say, takes no other column's work.
  if exists (select from keyring_private.works w where w.taken_by = pg_current_xact_id_if_assigned()) then
    raise exception 'this transaction has a work already' using errcode = 'DENYD';
  end if;
  select w.* into v_work
    from keyring_private.works w
    where w.finished_at is null and w.run_at <= clock_timestamp()
    order by w.id
    limit 1 for update skip locked;
  if not found then
    answer := 0;
    return;
  end if;
  update keyring_private.works w set taken_by = pg_current_xact_id() where w.id = v_work.id;
  select c.* into v_column from keyring_private.sealed_columns c where c.id = v_work.column_id and c.relation is not null;
  if v_column.id is not null and not exists (select from pg_class c where c.oid = v_column.relation) then
    -- The table was dropped.
    answer := keyring_private.note_work(v_work.id, null, 'finished');
    return;
  end if;
  step := (keyring_private.steps(v_work.kind, v_column.indexed))[coalesce((v_work.position ->> 'step')::integer, 0) + 1];
  if v_column.id is not null and step in ('rows', 'fill', 'clear') then
    id := v_work.id;
    kind := v_work.kind;
    column_id := v_column.id;
    relation := v_column.relation;
    "position" := v_work.position;
    return;
  end if;
  begin
    if v_column.id is not null then
      answer := keyring_private.note_work(v_work.id, null,
        case when keyring_private.do_step(v_work, v_column, step) then 'over' else 'wait' end);
      return;
    end if;
    case v_work.kind
      when 'rewrap' then v_done := keyring_private.work_rewrap(v_work, v_batch);
      when 'reseal' then v_done := keyring_private.work_reseal(v_work, v_batch);
    end case;
  exception when others then
    -- The envelope of this job is of no use: the worker must hear of it, so that it makes another.
    if sqlstate = 'KEYNO' then
      raise;
    end if;
    v_problem := sqlstate;
  end;
  answer := keyring_private.note_work(v_work.id, v_done,
    case when v_done = 0 then 'finished' when v_done is null then 'wait' else 'more' end, v_problem);
end $$;
comment on function keyring.take_work(integer) is
  'Takes the oldest unfinished work that nobody is at. One that is the keeper''s is done, one batch of it, and the answer is how many rows (0: there is no work); one on rows of another table is told to the worker, for keyring.work_rows(). DENYD outside the job keyring__work, and twice in a transaction.';

create or replace function keyring.end_batch(rows_done integer, outcome text, problem text, after jsonb) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  select w.id into v_id from keyring_private.works w where w.taken_by = pg_current_xact_id_if_assigned() and w.finished_at is null;
  if v_id is null then
    raise exception 'this transaction has no work' using errcode = 'DENYD';
  end if;
  return keyring_private.note_work(v_id, rows_done, outcome, problem, after);
end $$;
comment on function keyring.end_batch(integer, text, text, jsonb) is
  'For the worker: how its batch of the work that this transaction has taken went. DENYD in any other transaction.';

reset role;
reset row_security;
revoke create on schema keyring_private, keyring from safetypin_keeper;
