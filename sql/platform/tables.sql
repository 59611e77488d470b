-- Purpose: jobs that carry a context, and the tasks they may be.

create table if not exists platform.tasks (
  name text constraint tasks_pkey primary key
    constraint tasks_name_form check (name ~ '^[a-z]+__[a-z_]+$'),
  permissions text[] not null default '{}',
  scheduled boolean not null default false,
  seconds integer not null default 60 constraint tasks_seconds_range check (seconds between 1 and 3600),
  description text not null,
  attempts integer not null default 16 constraint tasks_attempts_range check (attempts between 1 and 25),
  payload text[] not null default '{}',
  needs_asker boolean not null default true
);
alter table platform.tasks enable row level security, force row level security;
comment on table platform.tasks is 'What the worker may run. A job acts with the permissions of its task and nothing more.';
comment on column platform.tasks.name is 'Task identifier of graphile-worker, domain__verb.';
comment on column platform.tasks.permissions is 'What request.can() answers true for, inside a job of this task.';
comment on column platform.tasks.scheduled is 'True: runs by the clock, for no organization and nobody.';
comment on column platform.tasks.seconds is 'How long one opened job context may act.';
comment on column platform.tasks.description is 'What the task does, for operators.';
comment on column platform.tasks.attempts is 'How often it is tried. The pauses grow by e: 10 tries take 3.6 hours, 16 take 40.';
comment on column platform.tasks.payload is 'Names in the payload. Each must be there, no other may, and each value is a uuid: ids, never personal data.';
comment on column platform.tasks.needs_asker is 'True: refused once who asked for it is not active or not a member any more, or the organization is not active. False: carries out what is decided already, such as a notice.';

create table if not exists platform_private.job_contexts (
  id uuid constraint job_contexts_pkey primary key default platform.uuid_v7(),
  job_id bigint not null constraint job_contexts_job_id_unique unique,
  task text not null constraint job_contexts_task_exists references platform.tasks (name) on delete restrict,
  organization_id uuid,
  person_id uuid,
  permissions text[] not null,
  created_at timestamptz not null default clock_timestamp(),
  lane uuid not null default '00000000-0000-0000-0000-000000000000',
  payload jsonb not null default '{}'
);
create index if not exists job_contexts_task_idx on platform_private.job_contexts (task);
create index if not exists job_contexts_lane_idx on platform_private.job_contexts (lane);
alter table platform_private.job_contexts enable row level security, force row level security;
comment on table platform_private.job_contexts is 'On whose behalf a job acts; written in the same transaction as the job, from the sealed context.';
comment on column platform_private.job_contexts.id is 'Stands in the sealed context of the job where a session id would.';
comment on column platform_private.job_contexts.job_id is 'Id of the job in graphile-worker.';
comment on column platform_private.job_contexts.task is 'Task of the job.';
comment on column platform_private.job_contexts.organization_id is 'Active organization when the job was made; null if none.';
comment on column platform_private.job_contexts.person_id is 'Who made the job; null if nobody was signed in.';
comment on column platform_private.job_contexts.permissions is 'Permissions of the task when the job was made.';
comment on column platform_private.job_contexts.created_at is 'When the job was made.';
comment on column platform_private.job_contexts.payload is 'What the job was made for: ids by name. Read instead of the payload in the queue, which the worker''s login could change.';
comment on column platform_private.job_contexts.lane is 'Whose jobs take turns with those of others: the organization, else the person, else the zero uuid.';

create table if not exists platform_private.failed_jobs (
  job_id bigint constraint failed_jobs_pkey primary key,
  task text not null,
  organization_id uuid,
  attempts integer not null,
  error text,
  failed_at timestamptz not null default clock_timestamp(),
  reported_at timestamptz
);
create index if not exists failed_jobs_unreported_idx on platform_private.failed_jobs (job_id) where reported_at is null;
alter table platform_private.failed_jobs enable row level security, force row level security;
comment on table platform_private.failed_jobs is 'Jobs that are not tried again, one row each, until somebody retries or drops them or they are cleaned away.';
comment on column platform_private.failed_jobs.job_id is 'Id of the job in graphile-worker.';
comment on column platform_private.failed_jobs.task is 'Task of the job.';
comment on column platform_private.failed_jobs.organization_id is 'Organization that it acted for; null if none.';
comment on column platform_private.failed_jobs.attempts is 'How often it was tried.';
comment on column platform_private.failed_jobs.error is 'What was being done, and codes: never a value.';
comment on column platform_private.failed_jobs.failed_at is 'When it was given up.';
comment on column platform_private.failed_jobs.reported_at is 'When its audit event was written.';

create table if not exists platform_private.heartbeat (
  one boolean constraint heartbeat_pkey primary key default true constraint heartbeat_is_one check (one),
  at timestamptz not null
) with (fillfactor = 50);
alter table platform_private.heartbeat enable row level security, force row level security;
comment on table platform_private.heartbeat is 'When the primary last said that it lives: how a replica knows how old what it shows is.';
comment on column platform_private.heartbeat.one is 'There is one row.';
comment on column platform_private.heartbeat.at is 'Clock of the primary.';
