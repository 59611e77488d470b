-- Purpose: making jobs and opening them. Payloads hold ids only; who a job acts for stands in job_contexts.

grant create on schema platform to safetypin_definer, safetypin_keeper;
set local role safetypin_definer;
set local row_security = on;

create or replace function platform.enqueue(task text, payload json) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_task platform.tasks;
  v_organization uuid := request.organization_id();
  v_person uuid := request.user_id();
  v_lane uuid := coalesce(v_organization, v_person, platform.no_organization());
  v_waiting integer;
  v_job bigint;
begin
  select t.* into v_task from platform.tasks t where t.name = enqueue.task and not t.scheduled;
  if not found then
    raise exception 'no task of that name' using errcode = '22023';
  end if;
  -- Ids and nothing else: a payload is kept in clear for as long as its job is. (json keeps a key that is there twice.)
  if json_typeof(payload) is distinct from 'object'
    or array(select e.key from json_each(payload) e order by e.key collate "C")
      <> array(select k.name from unnest(v_task.payload) k (name) order by k.name collate "C")
    or exists (
      select from json_each(payload) e
      where json_typeof(e.value) <> 'string'
        or (payload ->> e.key) !~ '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$') then
    raise exception 'a payload of this task holds other things' using errcode = '22023';
  end if;
  -- The n-th waiting job of an organization comes after the n-1 first ones of every other: whoever asks for a hundred
  -- thousand waits for themselves. Counted only so far that counting stays cheap.
  select count(*) into v_waiting
    from (select from platform_private.job_contexts c where c.lane = v_lane
          limit platform.limit_value('job.turn_depth')) c;
  v_job := graphile_worker.safetypin_add_job(enqueue.task, enqueue.payload, v_task.attempts, v_waiting);
  insert into platform_private.job_contexts (job_id, task, organization_id, person_id, permissions, lane, payload)
    values (v_job, v_task.name, v_organization, v_person,
      -- What an API key sets going has no more than the key.
      array(select p from unnest(v_task.permissions) p where request.kind() is distinct from 'key' or request.can(p)),
      v_lane, enqueue.payload::jsonb);
  return v_job;
end $$;
comment on function platform.enqueue(text, json) is
  'Makes a job of a known task in this transaction, on behalf of who asks now. For definer functions only. 22023 for an unknown task, or a payload that is not the ids which the task names.';

create or replace function platform.tg_jobs__forget_context() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  delete from platform_private.job_contexts c where c.job_id = old.id;
  delete from platform_private.failed_jobs f where f.job_id = old.id;
  return null;
end $$;
comment on function platform.tg_jobs__forget_context() is
  'A job is done or gone: so is whom it acted for. Otherwise a job made up under an old id would open that context.';

create or replace function platform.tg_jobs__note_failure() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Here, and not in the worker: a job whose worker died in the last try is noted as well.
begin
  if new.locked_at is null and new.attempts >= new.max_attempts then
    insert into platform_private.failed_jobs as f (job_id, task, organization_id, attempts, error)
      select new.id, t.identifier, c.organization_id, new.attempts, left(new.last_error, 200)
        from graphile_worker._private_tasks t
        left join platform_private.job_contexts c on c.job_id = new.id
        where t.id = new.task_id
      on conflict on constraint failed_jobs_pkey do nothing;
  else
    delete from platform_private.failed_jobs f where f.job_id = new.id;
  end if;
  return null;
end $$;
comment on function platform.tg_jobs__note_failure() is 'A job is not tried again, or is after all: so says platform_private.failed_jobs.';
grant execute on function platform.tg_jobs__forget_context(), platform.tg_jobs__note_failure() to safetypin_owner;

create or replace function platform.beat() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nothing is written while nobody copies this server.
  if not exists (select from pg_stat_replication) then
    return false;
  end if;
  insert into platform_private.heartbeat as h (at) values (clock_timestamp())
    on conflict on constraint heartbeat_pkey do update set at = excluded.at;
  return true;
end $$;
comment on function platform.beat() is
  'Called by each server process every second or two: lets replicas know how old their copy is. Returns whether there is a replica.';

reset role;
reset row_security;
set local role safetypin_keeper;
set local row_security = on;

create or replace function platform.open_job(job_id bigint, envelope bytea) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: reading the job and sealing a context. Instead of a credential it demands that the job is
-- locked by a worker now.
declare
  v_task platform.tasks;
  v_context platform_private.job_contexts;
begin
  -- As for a request, see sessions.open_request(): the job can be opened anew with another envelope.
  if envelope is not null and not exists (
      select from keyring_private.transport_keys t where uuid_send(t.id) = substr(envelope, 2, 16) and t.retired_at is null) then
    raise exception 'the transport key of this job is gone' using errcode = 'KEYNO';
  end if;
  select t.* into v_task
    from graphile_worker.jobs j
    join platform.tasks t on t.name = j.task_identifier
    where j.id = open_job.job_id and j.locked_at is not null;
  if not found then
    raise exception 'the job is not running now' using errcode = 'CTXJB';
  end if;
  select c.* into v_context
    from platform_private.job_contexts c
    where c.job_id = open_job.job_id and c.task = v_task.name;
  if not found then
    if not v_task.scheduled then
      raise exception 'the job has no context' using errcode = 'CTXJB';
    end if;
    insert into platform_private.job_contexts (job_id, task, permissions)
      values (open_job.job_id, v_task.name, v_task.permissions)
      returning * into v_context;
  end if;
  if not request_private.job_stands(v_context.id) then
    raise exception 'who asked for this job may not do it any more' using errcode = 'CTXRV';
  end if;
  perform request_private.write_context(
    (select request_private.seal(b.body, k.inner_pad, k.outer_pad) || b.body
      from (select request_private.body(2, clock_timestamp() + make_interval(secs => v_task.seconds),
          v_context.id, v_context.person_id, v_context.organization_id, null, 0, '{}') as body offset 0) b
        join keyring_private.seal_keys k on k.purpose = 'request'),
    open_job.envelope);
  return 'safetypin_jobs';
end $$;
comment on function platform.open_job(bigint, bytea) is
  'Opens the context of a job that is locked by a worker now; returns the role to run as. CTXJB if it is not running or was not made by platform.enqueue(), CTXRV if who asked for it may not do it any more, KEYNO if the envelope''s transport key is gone or was taken back.';

reset role;
reset row_security;
revoke create on schema platform from safetypin_definer, safetypin_keeper;

create or replace trigger safetypin_forget_context after delete on graphile_worker._private_jobs
  for each row execute function platform.tg_jobs__forget_context();
alter table graphile_worker._private_jobs enable always trigger safetypin_forget_context;
create or replace trigger safetypin_note_failure after update on graphile_worker._private_jobs
  for each row
  when ((new.locked_at is null and new.attempts >= new.max_attempts)
    is distinct from (old.locked_at is null and old.attempts >= old.max_attempts))
  execute function platform.tg_jobs__note_failure();
alter table graphile_worker._private_jobs enable always trigger safetypin_note_failure;
