-- Purpose: jobs that were given up: what the audit trail says of them, and what an operator may do.

grant create on schema api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.report_failed_jobs() returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  if request.task() is distinct from 'platform__report_failures' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- A task that nobody knows has no worker, ever. Not at once: it may be that of a newer release, whose migration is on
  -- its way.
  update graphile_worker._private_jobs j set attempts = j.max_attempts, last_error = 'no task of that name'
    where j.id in (
      select w.id from graphile_worker._private_jobs w
        join graphile_worker._private_tasks t on t.id = w.task_id
        where w.locked_at is null and w.attempts < w.max_attempts and w.created_at < clock_timestamp() - interval '10 minutes'
          and not exists (select from platform.tasks p where p.name = t.identifier)
        limit 1000 for update of w skip locked);
  with told as (
    update platform_private.failed_jobs f set reported_at = clock_timestamp()
      where f.job_id in (
        select n.job_id from platform_private.failed_jobs n
          where n.reported_at is null
          limit 1000 for update skip locked)
      returning f.*)
  select count(audit_private.append('job.fail', t.organization_id, details =>
      jsonb_build_object('job', t.job_id, 'task', t.task, 'attempts', t.attempts, 'error', t.error)))
    into v_count
    from told t;
  return v_count;
end $$;
comment on function api_steps.report_failed_jobs() is
  'Task platform__report_failures: an event of severity alert for each job that was given up since the last time; returns how many. DENYD outside it.';

create or replace function api_steps.retry_jobs(ids bigint[]) returns bigint[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_done bigint[];
begin
  with again as (
    update graphile_worker._private_jobs j
      set attempts = 0, max_attempts = coalesce(p.attempts, j.max_attempts), run_at = clock_timestamp(), last_error = null
      from graphile_worker._private_tasks t
      left join platform.tasks p on p.name = t.identifier
      where j.id = any (ids) and t.id = j.task_id and j.locked_at is null
      returning j.id, t.identifier as task)
  select array_agg(a.id order by a.id) filter (where audit_private.append('job.retry',
      details => jsonb_build_object('job', a.id, 'task', a.task)) is not null)
    into v_done
    from again a;
  perform pg_notify('jobs:insert', '');
  return coalesce(v_done, '{}');
end $$;
comment on function api_steps.retry_jobs(bigint[]) is
  'Lets jobs run again from the first try, now; returns those that were there and not running. For operators; recorded.';

create or replace function api_steps.drop_jobs(ids bigint[]) returns bigint[]
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_done bigint[];
begin
  with gone as (
    delete from graphile_worker._private_jobs j
      using graphile_worker._private_tasks t
      where j.id = any (ids) and t.id = j.task_id and j.locked_at is null
      returning j.id, t.identifier as task)
  select array_agg(g.id order by g.id) filter (where audit_private.append('job.drop',
      details => jsonb_build_object('job', g.id, 'task', g.task)) is not null)
    into v_done
    from gone g;
  return coalesce(v_done, '{}');
end $$;
comment on function api_steps.drop_jobs(bigint[]) is
  'Removes jobs for good; returns those that were there and not running. For operators; recorded.';

reset role;
reset row_security;
revoke create on schema api_steps from safetypin_definer;
