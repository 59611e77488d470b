-- Purpose: the state of the queue, for those who operate it. Payloads and contexts are never shown.

grant create on schema platform to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function platform.queue_state()
  returns table (task text, state text, jobs bigint, oldest_seconds double precision)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
  -- A task that is not ours is one label: nobody makes labels without end.
  select coalesce(p.name, 'unknown'), j.state, count(*),
         greatest(0, extract(epoch from clock_timestamp() - min(j.since)))::double precision
    from (select w.task_id,
            case
              when w.locked_at is not null then 'running'
              when w.attempts >= w.max_attempts then 'failed'
              when w.run_at <= clock_timestamp() then 'waiting'
              when w.attempts > 0 then 'retrying'
              else 'scheduled'
            end as state,
            case
              when w.locked_at is not null then w.locked_at
              when w.attempts >= w.max_attempts then coalesce(f.failed_at, w.updated_at)
              when w.run_at <= clock_timestamp() then w.run_at
              else w.created_at
            end as since
          from graphile_worker._private_jobs w
          left join platform_private.failed_jobs f on f.job_id = w.id) j
    join graphile_worker._private_tasks t on t.id = j.task_id
    left join platform.tasks p on p.name = t.identifier
    group by 1, 2
$$;
comment on function platform.queue_state() is
  'Jobs by task and state, and how long the oldest has been: waiting (due, age since it was due), running (since it was taken), retrying and scheduled (due later, since it was made), failed (for good, since it was given up). For metrics.';

create or replace function platform.troubled_jobs(most integer default 200)
  returns table (id bigint, task text, state text, attempts integer, attempts_allowed integer, since timestamptz, error text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select w.id, t.identifier, case when f.job_id is null then 'retrying' else 'failed' end,
         w.attempts::integer, w.max_attempts::integer, coalesce(f.failed_at, w.created_at), coalesce(f.error, left(w.last_error, 200))
    from graphile_worker._private_jobs w
    join graphile_worker._private_tasks t on t.id = w.task_id
    left join platform_private.failed_jobs f on f.job_id = w.id
    where f.job_id is not null or w.attempts > 0 and w.last_error is not null
    order by f.job_id is null, 6
    limit least(greatest(most, 1), 10000)
$$;
comment on function platform.troubled_jobs(integer) is
  'Jobs that were given up, oldest first, then those that failed and are tried again: what an operator looks at. No payload, no text of others.';

reset role;
reset row_security;
revoke create on schema platform from safetypin_definer;
