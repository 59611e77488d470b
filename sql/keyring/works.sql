-- Purpose: long work on keys and sealed values, in batches, each a transaction of its own: killed anywhere it goes on
-- from where it was. A kind of work is a function keyring_private.work_<kind>(work, batch), named in the check and in
-- keyring.work() below. It does one batch, keeps where it is in `position`, and returns how many rows it did: 0 when
-- nothing is left, null when it must wait. Readers never wait for it.

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
  problem text constraint works_problem_is_code check (problem ~ '^[0-9A-Z]{5}$')
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

create or replace function keyring.work(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_batch integer := least(greatest(batch, 1), 10000);
  v_work keyring_private.works;
  v_done integer;
  v_problem text;
begin
  if request.task() is distinct from 'keyring__work' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  select w.* into v_work
    from keyring_private.works w
    where w.finished_at is null and w.run_at <= clock_timestamp()
    order by w.id
    limit 1 for update skip locked;
  if not found then
    return 0;
  end if;
  begin
    case v_work.kind
      when 'rewrap' then v_done := keyring_private.work_rewrap(v_work, v_batch);
      when 'seal' then v_done := keyring_private.work_seal(v_work, v_batch);
      when 'unseal' then v_done := keyring_private.work_unseal(v_work, v_batch);
      when 'reseal' then v_done := keyring_private.work_reseal(v_work, v_batch);
      when 'reindex' then v_done := keyring_private.work_reindex(v_work, v_batch);
    end case;
  exception when others then
    -- The envelope of this job is of no use: the worker must hear of it, so that it makes another.
    if sqlstate = 'KEYNO' then
      raise;
    end if;
    v_problem := sqlstate;
  end;
  -- A work that failed or waits stands in nobody's way.
  update keyring_private.works w
    set done = w.done + coalesce(v_done, 0), problem = v_problem, updated_at = clock_timestamp(),
        finished_at = case when v_done = 0 then clock_timestamp() end,
        run_at = case
          when v_problem is not null then clock_timestamp() + interval '30 seconds'
          when v_done is null then greatest(w.run_at, clock_timestamp() + interval '5 seconds')
          else w.run_at
        end
    where w.id = v_work.id;
  return greatest(v_done, 1);
end $$;
comment on function keyring.work(integer) is
  'Task keyring__work: does one batch of the oldest unfinished work that nobody is at; 0 when there is none. A batch that fails leaves its SQLSTATE and is tried again. DENYD outside its job.';

create or replace function keyring.works()
  returns table (
    id uuid, kind text, column_id uuid, column_name text, done bigint, total bigint, percent integer,
    created_at timestamptz, updated_at timestamptz, finished_at timestamptz, problem text
  )
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select w.id, w.kind, w.column_id, coalesce(c.name, c.relation::text), w.done, w.total,
         case when w.finished_at is not null then 100
              else least(99, 100 * w.done / nullif(w.total, 0))::integer end,
         w.created_at, w.updated_at, w.finished_at, w.problem
    from keyring_private.works w
    left join keyring_private.sealed_columns c on c.id = w.column_id
    order by w.id
$$;
comment on function keyring.works() is 'All works on keys and values, oldest first, and how far they are. For the owner.';

reset role;
reset row_security;
revoke create on schema keyring_private, keyring from safetypin_keeper;
