-- Purpose: removing what is over. Nothing waits for it to run out: rules compare with the clock. Each call of a clean_up
-- function removes at most a batch of each kind and passes over rows that somebody holds; the worker calls until none is
-- left. Those of other domains are built alike.

grant create on schema platform to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function platform.clean_up(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_batch integer := least(greatest(batch, 1), 10000);
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'platform__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Its context and its note go with it.
  delete from graphile_worker._private_jobs j
    using (select w.id from graphile_worker._private_jobs w
           join platform_private.failed_jobs f on f.job_id = w.id
           where w.locked_at is null and w.attempts >= w.max_attempts
             and f.failed_at < clock_timestamp() - make_interval(secs => platform.limit_value('keep.failed_job_seconds'))
           limit v_batch for update of w skip locked) old
    where j.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  -- Left behind when jobs were removed past their trigger: nobody holds these.
  delete from platform_private.job_contexts c
    using (select o.id from platform_private.job_contexts o
           where o.created_at < clock_timestamp() - interval '1 day'
             and not exists (select from graphile_worker._private_jobs w where w.id = o.job_id)
           limit v_batch) old
    where c.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from platform_private.failed_jobs f
    where f.failed_at < clock_timestamp() - interval '1 day'
      and not exists (select from graphile_worker._private_jobs w where w.id = f.job_id);
  return v_total;
end $$;
comment on function platform.clean_up(integer) is
  'Task platform__clean_up: removes a batch of jobs that were given up long ago, and of contexts without a job; returns how many. DENYD outside it.';

reset role;
reset row_security;
revoke create on schema platform from safetypin_definer;
