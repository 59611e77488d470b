-- Purpose: columns of class sensitive. Each value that is opened leaves an event in the trail, in the same transaction. A
-- rollback takes that event back and cannot take back what was read, so each value also takes a number from a sequence,
-- which no rollback returns: a number without a row here is a value that was read and not recorded (F5).
--
-- What makes the comparison sure: the lock on keyring_private.openings is taken before the number (an insert locks its
-- table before it computes a row) and let go with the transaction or savepoint, after its rows are visible or gone. So a
-- number below the counter is settled as soon as whoever held that lock when the counter was read has let go. No
-- transaction of another database, and none that opened nothing, can hold the comparison up.

grant create on schema keyring_private, keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create sequence if not exists keyring_private.opening_numbers as bigint;
comment on sequence keyring_private.opening_numbers is 'Counts what was read of sensitive columns. Never goes back.';

create table if not exists keyring_private.openings (
  number bigint constraint openings_pkey primary key,
  event_id uuid not null,
  opened_at timestamptz not null default clock_timestamp()
);
alter table keyring_private.openings enable row level security, force row level security;
comment on table keyring_private.openings is 'Numbers of readings that are recorded; removed when they were compared with the counter.';
comment on column keyring_private.openings.number is 'From opening_numbers.';
comment on column keyring_private.openings.event_id is 'The event that records it.';
comment on column keyring_private.openings.opened_at is 'When it was read.';

create table if not exists keyring_private.opening_checks (
  is_only boolean constraint opening_checks_pkey primary key default true constraint opening_checks_is_only check (is_only),
  judged_to bigint not null default 0,
  judged_at timestamptz,
  boundary bigint,
  bounded_at timestamptz,
  holders text[] not null default '{}',
  has_jump boolean not null default false,
  constraint opening_checks_boundary_ahead check (boundary >= judged_to)
);
alter table keyring_private.opening_checks enable row level security, force row level security;
comment on table keyring_private.opening_checks is 'How far the comparison is: one row.';
comment on column keyring_private.opening_checks.is_only is 'True: there is one row.';
comment on column keyring_private.opening_checks.judged_to is 'Numbers up to here were compared, once and for all.';
comment on column keyring_private.opening_checks.judged_at is 'When that was; null before the first time.';
comment on column keyring_private.opening_checks.boundary is 'Numbers up to here are next; null when none were seen.';
comment on column keyring_private.opening_checks.bounded_at is 'When the boundary was read from the counter.';
comment on column keyring_private.opening_checks.holders is 'Transactions that were reading then: the comparison waits for these.';
comment on column keyring_private.opening_checks.has_jump is 'The server crashed or the database was restored since the last comparison: the counter may have jumped.';

-- Unlogged: a crash, a replica''s promotion and a physical restore empty it. That is what tells that the counter jumped.
create unlogged table if not exists keyring_private.opening_marks (
  place text constraint opening_marks_pkey primary key
);
alter table keyring_private.opening_marks enable row level security, force row level security;
comment on table keyring_private.opening_marks is 'Says that the counter has stood here without a crash since the last comparison.';
comment on column keyring_private.opening_marks.place is 'Cluster and database: a logical restore puts the row back, elsewhere.';

do $$
declare
  v_table text;
begin
  foreach v_table in array array['openings', 'opening_checks', 'opening_marks'] loop
    execute format('drop policy if exists keeper_select on keyring_private.%I', v_table);
    execute format('create policy keeper_select on keyring_private.%I for select to safetypin_keeper using (true)', v_table);
    execute format('drop policy if exists keeper_insert on keyring_private.%I', v_table);
    execute format('create policy keeper_insert on keyring_private.%I for insert to safetypin_keeper with check (true)', v_table);
    execute format('drop policy if exists keeper_update on keyring_private.%I', v_table);
    execute format('create policy keeper_update on keyring_private.%I for update to safetypin_keeper using (true) with check (true)', v_table);
    execute format('drop policy if exists keeper_delete on keyring_private.%I', v_table);
    execute format('create policy keeper_delete on keyring_private.%I for delete to safetypin_keeper using (true)', v_table);
  end loop;
end $$;

create or replace function keyring_private.demand_record() returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if current_setting('transaction_read_only')::boolean then
    raise exception 'reading this column is recorded, and nothing can be recorded in a read-only transaction' using errcode = 'KEYRO',
      hint = 'Ask for it in a transaction that may write, on the primary.';
  end if;
end $$;
comment on function keyring_private.demand_record() is 'KEYRO where a reading cannot be recorded: in a read-only transaction, on a replica.';

create or replace function keyring_private.record_reading(
  action text, sealed_column keyring_private.sealed_columns, row_ids uuid[], subjects uuid[]
) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- One plan for all: one for each call would cost a third of it.
-- The numbers are taken by the insert itself, so the lock on the table comes first: see above.
declare
  v_details jsonb;
  v_relation text;
  v_events uuid[];
  v_numbers bigint[];
begin
  -- As in keyring_private.doors, where the door is the first in the trigger's list of columns.
  select format('%s.%s', n.nspname, c.relname), jsonb_build_object('column', sealed_column.id, 'name', a.attname)
    into v_relation, v_details
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    join pg_trigger t on t.tgrelid = c.oid and t.tgname = '~seal_' || sealed_column.id
    join pg_attribute a on a.attrelid = c.oid and a.attnum = t.tgattr[0]
    where c.oid = sealed_column.relation;
  with kept as (
    insert into keyring_private.openings (number, event_id)
      select nextval('keyring_private.opening_numbers'), platform.uuid_v7()
      from generate_series(1, cardinality(record_reading.row_ids))
      returning number, event_id)
  select array_agg(k.number order by k.number), array_agg(k.event_id order by k.number) into v_numbers, v_events from kept k;
  perform audit_private.append_set(record_reading.action, v_events, v_relation, record_reading.row_ids::text[], (
    select array_agg(v_details || jsonb_build_object('number', u.number)
        || case when u.subject is null then '{}' else jsonb_build_object('subject', u.subject) end order by u.position)
      from unnest(v_numbers, record_reading.subjects) with ordinality as u (number, subject, position)));
end $$;
comment on function keyring_private.record_reading(text, keyring_private.sealed_columns, uuid[], uuid[]) is
  'Numbers and records readings of a sensitive column, one event each: column, row, and the subject whose key sealed it; never the value.';

create or replace function keyring.compare_openings(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_check keyring_private.opening_checks;
  v_counter bigint;
  v_holders text[];
  v_held boolean;
  v_place text;
  v_ranges jsonb;
  v_jump jsonb;
  v_missing bigint;
  v_judged integer;
begin
  if request.task() is distinct from 'keyring__compare_openings' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Rows are looked at after the locks: by a snapshot from before, what was settled in between would be missing.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'the comparison needs read committed' using errcode = '22023';
  end if;
  select c.* into v_check from keyring_private.opening_checks c for update skip locked;
  if not found then
    return 0;
  end if;
  select format('%s/%s', s.system_identifier, d.oid) into v_place
    from pg_control_system() s cross join pg_database d where d.datname = current_database();
  select case when s.is_called then s.last_value else 0 end into v_counter from keyring_private.opening_numbers s;
  if not exists (select from keyring_private.opening_marks m where m.place = v_place) then
    delete from keyring_private.opening_marks;
    insert into keyring_private.opening_marks (place) values (v_place);
    if v_check.judged_at is not null then
      -- The jump is somewhere between what was judged and the counter: looked at as one.
      v_check.has_jump := true;
      v_check.boundary := null;
    end if;
  end if;
  select coalesce(array_agg(distinct l.virtualtransaction), '{}') into v_holders
    from pg_locks l
    where l.relation = 'keyring_private.openings'::regclass and l.mode = 'RowExclusiveLock'
      and l.database = (select d.oid from pg_database d where d.datname = current_database())
      and l.pid is distinct from pg_backend_pid();
  if v_check.boundary is null then
    v_check.judged_to := least(v_check.judged_to, v_counter);
    v_check.boundary := case when v_check.has_jump then v_counter
      else least(v_counter, v_check.judged_to + least(greatest(batch, 1), 100000)) end;
    v_check.bounded_at := clock_timestamp();
    v_check.holders := v_holders;
  end if;
  v_held := v_holders && v_check.holders;
  if v_held and v_check.bounded_at > clock_timestamp() - make_interval(secs => platform.limit_value('opening.held_seconds')) then
    update keyring_private.opening_checks c
      set judged_to = v_check.judged_to, boundary = v_check.boundary, bounded_at = v_check.bounded_at, holders = v_check.holders,
          has_jump = v_check.has_jump;
    return 0;
  end if;

  with compared as (
    delete from keyring_private.openings o where o.number <= v_check.boundary returning o.number, o.opened_at
  ), ends as (
    select c.number, c.opened_at from compared c where c.number > v_check.judged_to
    union all select v_check.judged_to, v_check.judged_at
    union all select v_check.boundary + 1, null
  ), gaps as (
    select lag(e.number) over o + 1 as first, e.number - 1 as last, lag(e.opened_at) over o as after, e.opened_at as before
      from ends e window o as (order by e.number)
  ), jump as (
    -- A crash skips no more numbers than are logged ahead, all in a row.
    select g.first from gaps g
      where v_check.has_jump and g.last - g.first between 0 and 31
      order by g.last - g.first desc, g.first desc limit 1
  ), told as (
    select g.last - g.first + 1 as count, j.first is not null as is_jump, row_number() over (order by g.first) as position,
        jsonb_build_object('first', g.first, 'last', g.last, 'after', g.after, 'before', coalesce(g.before, v_check.bounded_at)) as said
      from gaps g left join jump j on j.first = g.first
      where g.last >= g.first)
  select jsonb_agg(t.said order by t.position) filter (where not t.is_jump and t.position <= 100),
      jsonb_agg(t.said) filter (where t.is_jump), sum(t.count) filter (where not t.is_jump)
    into v_ranges, v_jump, v_missing
    from told t;
  if v_jump is not null then
    perform audit_private.append('value.skip', details => jsonb_build_object('because', 'crash', 'numbers', v_jump));
  end if;
  if v_missing > 0 then
    perform audit_private.append('value.mismatch', details => jsonb_build_object('count', v_missing, 'numbers', v_ranges,
      'because', case when v_held then 'held' else 'unrecorded' end, 'from', v_check.judged_to + 1, 'to', v_check.boundary));
  end if;
  v_judged := v_check.boundary - v_check.judged_to;
  update keyring_private.opening_checks c
    set judged_to = v_check.boundary, judged_at = clock_timestamp(), boundary = null, bounded_at = null, holders = '{}', has_jump = false;
  return v_judged;
end $$;
comment on function keyring.compare_openings(integer) is
  'Task keyring__compare_openings: compares a batch of numbers that were taken for readings of sensitive columns with those that are recorded; returns how many. What is missing is an event value.mismatch, once; what a crash skipped is value.skip. Waits for transactions that are still reading, at most opening.held_seconds. DENYD outside it.';

create or replace function keyring.openings_state(out judged_at timestamptz, out waiting bigint)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select c.judged_at, greatest(case when s.is_called then s.last_value else 0 end - c.judged_to, 0)
    from keyring_private.opening_checks c cross join keyring_private.opening_numbers s
$$;
comment on function keyring.openings_state() is 'When readings of sensitive columns were compared last, and how many wait for it. For the owner.';

reset role;
reset row_security;
revoke create on schema keyring_private, keyring from safetypin_keeper;
