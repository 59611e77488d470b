-- Purpose: who may use the ground.

grant usage on schema platform to safetypin_authenticator, safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor;
grant usage on schema request to safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor;
grant select on platform.errors to safetypin_authenticator, safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor;
grant execute on function platform.uuid_v7() to safetypin_keeper, safetypin_definer, safetypin_anonymous, safetypin_member, safetypin_jobs;
grant execute on function platform.no_organization() to safetypin_keeper, safetypin_definer;
grant execute on function platform.limit_value(text) to safetypin_keeper, safetypin_definer;

set local role safetypin_keeper;
grant execute on function request.kind(), request.user_id(), request.organization_id(), request.session_id(),
  request.owner_id(), request.signed_in_id(), request.api_key_id(), request.service_account_id(), request.assurance(), request.id(), request.can(text), request.task()
  to safetypin_owner, safetypin_definer, safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor;
grant execute on function request.job_value(text) to safetypin_definer;
grant execute on function platform.open_job(bigint, bytea) to safetypin_jobs;
reset role;

set local role safetypin_definer;
grant execute on function platform.beat() to safetypin_authenticator;
grant execute on function platform.queue_state() to safetypin_authenticator, safetypin_jobs;
grant execute on function platform.troubled_jobs(integer) to safetypin_owner;
grant execute on function platform.clean_up(integer) to safetypin_jobs;
reset role;
