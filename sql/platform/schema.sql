-- Purpose: the ground all domains stand on: errors, limits, ids, jobs, and who is asking.

create schema if not exists platform;
comment on schema platform is 'Ground for all domains: error register, limits, ids, jobs.';
create schema if not exists platform_private;
comment on schema platform_private is 'Internal parts of platform; no run-time role reaches it.';
create schema if not exists request;
comment on schema request is 'Who is asking: accessors over the sealed context of the current transaction.';
create schema if not exists request_private;
comment on schema request_private is 'Verification of the sealed context; keeper only.';

grant usage on schema platform, platform_private, request, request_private to safetypin_keeper, safetypin_definer;
