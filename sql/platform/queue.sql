-- Purpose: who may do what with the job queue. Run by `safetypin migrate` as safetypin_owner, after graphile-worker
-- has built or upgraded its schema and before the migrations. Idempotent.
--
-- The schema belongs to safetypin_owner, not to the worker's login: whoever owns a table or a view can make it run
-- code as whoever reads it, and the keeper reads here whether a job is locked now. (Tried: a replaced view
-- graphile_worker.jobs printed the key table.) The worker itself changes rows only.

-- What definer functions enqueue with: the least that add_job can do.
drop function if exists graphile_worker.safetypin_add_job(text, json);
create or replace function graphile_worker.safetypin_add_job(task text, payload json, attempts integer, turn integer)
  returns bigint
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$ select j.id from graphile_worker.add_job(task, payload, max_attempts => attempts, priority => turn) as j $$;
comment on function graphile_worker.safetypin_add_job(text, json, integer, integer) is
  'Adds a job and returns its id; lower turns run first. Called by platform.enqueue(), which decides all of it.';

-- A worker that was killed leaves its jobs locked; graphile-worker frees them after four hours. Each worker of ours
-- keeps one connection whose application_name says which pool it is, so a pool without one is dead.
create or replace function graphile_worker.safetypin_rescue() returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_dead text[];
begin
  -- Another worker that is just starting has no name yet: next time.
  if exists (select from pg_stat_activity a
             where a.datname = current_database() and a.usename = session_user
               and a.application_name = 'safetypin worker starting' and a.pid <> pg_backend_pid()) then
    return 0;
  end if;
  select array_agg(distinct l.locked_by) into v_dead
    from (select j.locked_by from graphile_worker._private_jobs j
          union all select q.locked_by from graphile_worker._private_job_queues q) as l
    where l.locked_by is not null and not exists (
      select from pg_stat_activity a
      where a.datname = current_database() and a.usename = session_user
        and a.application_name = 'safetypin worker ' || l.locked_by);
  if v_dead is null then
    return 0;
  end if;
  perform graphile_worker.force_unlock_workers(v_dead);
  return cardinality(v_dead);
end $$;
comment on function graphile_worker.safetypin_rescue() is
  'Frees the jobs of workers that are gone; returns how many workers that were. Called by the worker.';

-- A connection that breaks after a job was locked and before the worker heard of it leaves a job that nobody runs,
-- locked by a worker that lives. Each worker says which jobs it knows.
create or replace function graphile_worker.safetypin_release(pool text, known bigint[]) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  update graphile_worker._private_jobs j
    set locked_at = null, locked_by = null, attempts = greatest(j.attempts - 1, 0)
    where j.locked_by = safetypin_release.pool and j.locked_at < now() - interval '5 seconds'
      and j.id <> all (safetypin_release.known) and j.job_queue_id is null;
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function graphile_worker.safetypin_release(text, bigint[]) is
  'Frees jobs that a living worker has locked for over five seconds without knowing of them; returns how many. Called by the worker.';

-- graphile-worker tries every failed job again. What cannot succeed is given up at once, and a try that was broken off
-- because the worker stops does not count.
create or replace function graphile_worker.safetypin_end_try(job bigint, pool text, final boolean) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update graphile_worker._private_jobs j
    set max_attempts = case when final then greatest(j.attempts, 1) else j.max_attempts end,
        attempts = case when final then greatest(j.attempts, 1) else greatest(j.attempts - 1, 0) end
    where j.id = safetypin_end_try.job and j.locked_by = safetypin_end_try.pool;
  return found;
end $$;
comment on function graphile_worker.safetypin_end_try(bigint, text, boolean) is
  'The try that runs is the last one (final), or does not count. False if the job is not this worker''s any more. Called by the worker.';

revoke all on schema graphile_worker from public;
revoke all on all tables in schema graphile_worker from public;
revoke all on all functions in schema graphile_worker from public;

-- The worker: rows and functions, no DDL.
grant usage on schema graphile_worker to safetypin_jobs;
grant select, insert, update, delete on all tables in schema graphile_worker to safetypin_jobs;
grant execute on all functions in schema graphile_worker to safetypin_jobs;
-- It may see which migrations ran, and no more.
revoke insert, update, delete on graphile_worker.migrations from safetypin_jobs;

-- Definer functions enqueue; nothing else there.
grant usage on schema graphile_worker to safetypin_definer;
grant select, insert, update on graphile_worker._private_jobs, graphile_worker._private_tasks,
  graphile_worker._private_job_queues to safetypin_definer;
-- An operator drops jobs, and those given up long ago are removed.
grant delete on graphile_worker._private_jobs to safetypin_definer;
grant execute on function
  graphile_worker.safetypin_add_job(text, json, integer, integer),
  graphile_worker.add_job(text, json, text, timestamptz, integer, text, integer, text[], text),
  graphile_worker.add_jobs(graphile_worker.job_spec[], boolean)
  to safetypin_definer;

-- The keeper opens a context only for a job that is locked now: the view shows that, without payloads.
grant usage on schema graphile_worker to safetypin_keeper;
grant select on graphile_worker.jobs to safetypin_keeper;

-- graphile-worker enables row-level security and leaves it to the installer to say who passes. Made once only: each
-- making would stop all workers for a moment.
do $$
declare
  v_table name;
  v_policy name;
  v_role name;
begin
  for v_table, v_policy, v_role in values
    ('_private_jobs', 'worker', 'safetypin_jobs'), ('_private_jobs', 'enqueue', 'safetypin_definer'),
    ('_private_tasks', 'worker', 'safetypin_jobs'), ('_private_tasks', 'enqueue', 'safetypin_definer'),
    ('_private_job_queues', 'worker', 'safetypin_jobs'), ('_private_job_queues', 'enqueue', 'safetypin_definer'),
    ('_private_known_crontabs', 'worker', 'safetypin_jobs')
  loop
    continue when exists (select from pg_policies p
      where p.schemaname = 'graphile_worker' and p.tablename = v_table and p.policyname = v_policy);
    execute format('create policy %I on graphile_worker.%I to %I using (true) with check (true)', v_policy, v_table, v_role);
  end loop;
end $$;
