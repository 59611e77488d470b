-- Purpose: what everybody may read of the ground, and what the internal roles need of it.

drop policy if exists select_all on platform.errors;
create policy select_all on platform.errors for select
  to safetypin_authenticator, safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor using (true);

select platform_private.admit('safetypin_keeper', 'platform.limits', 'select');
select platform_private.admit('safetypin_definer', 'platform.limits', 'select');
select platform_private.admit('safetypin_owner', 'platform.limits', 'select', 'insert', 'update');
select platform_private.admit('safetypin_owner', 'platform.errors', 'select', 'insert', 'update');
select platform_private.admit('safetypin_keeper', 'platform.tasks', 'select');
select platform_private.admit('safetypin_definer', 'platform.tasks', 'select');
select platform_private.admit('safetypin_owner', 'platform.tasks', 'select', 'insert', 'update');
select platform_private.admit('safetypin_keeper', 'platform_private.job_contexts', 'select', 'insert');
select platform_private.admit('safetypin_definer', 'platform_private.job_contexts', 'select', 'insert', 'delete');
select platform_private.admit('safetypin_definer', 'platform_private.failed_jobs', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_keeper', 'platform_private.heartbeat', 'select');
select platform_private.admit('safetypin_definer', 'platform_private.heartbeat', 'select', 'insert', 'update');
