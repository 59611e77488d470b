-- Purpose: who may do what with the job queue. Run by `safetypin migrate` as safetypin_owner, after graphile-worker
-- has built or upgraded its schema and before the migrations. Idempotent.
--
-- The schema belongs to safetypin_owner, not to the worker's login: whoever owns a table or a view can make it run
-- code as whoever reads it, and the keeper reads here whether a job is locked now. (Tried: a replaced view
-- graphile_worker.jobs printed the key table.) The worker itself changes rows only.

revoke all on schema graphile_worker from public;
revoke all on all tables in schema graphile_worker from public;
revoke all on all functions in schema graphile_worker from public;

-- The worker: rows and functions, no DDL.
grant usage on schema graphile_worker to safetypin_jobs;
grant select, insert, update, delete on all tables in schema graphile_worker to safetypin_jobs;
-- It may see which migrations ran, and no more.
revoke insert, update, delete on graphile_worker.migrations from safetypin_jobs;
grant execute on all functions in schema graphile_worker to safetypin_jobs;

-- What definer functions enqueue with: the least that add_job can do.
create or replace function graphile_worker.safetypin_add_job(task text, payload json) returns bigint
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$ select j.id from graphile_worker.add_job(task, payload) as j $$;
comment on function graphile_worker.safetypin_add_job(text, json) is
  'Adds a job and returns its id. Called by platform.enqueue(), which decides whether the task is known.';
revoke all on function graphile_worker.safetypin_add_job(text, json) from public, safetypin_jobs;
grant execute on function graphile_worker.safetypin_rescue() to safetypin_jobs;

grant usage on schema graphile_worker to safetypin_definer;
grant select, insert, update on graphile_worker._private_jobs, graphile_worker._private_tasks,
  graphile_worker._private_job_queues to safetypin_definer;
grant execute on function
  graphile_worker.safetypin_add_job(text, json),
  graphile_worker.add_job(text, json, text, timestamptz, integer, text, integer, text[], text),
  graphile_worker.add_jobs(graphile_worker.job_spec[], boolean)
  to safetypin_definer;

-- The keeper opens a context only for a job that is locked now: the view shows that, without payloads.
grant usage on schema graphile_worker to safetypin_keeper;
grant select on graphile_worker.jobs to safetypin_keeper;

-- graphile-worker enables row-level security and leaves it to the installer to say who passes.
do $$
declare
  v_table name;
begin
  foreach v_table in array array['_private_jobs', '_private_tasks', '_private_job_queues', '_private_known_crontabs']
  loop
    execute format('drop policy if exists worker on graphile_worker.%I', v_table);
    execute format('create policy worker on graphile_worker.%I to safetypin_jobs using (true) with check (true)', v_table);
  end loop;
  foreach v_table in array array['_private_jobs', '_private_tasks', '_private_job_queues']
  loop
    execute format('drop policy if exists enqueue on graphile_worker.%I', v_table);
    execute format('create policy enqueue on graphile_worker.%I to safetypin_definer using (true) with check (true)', v_table);
  end loop;
end $$;
