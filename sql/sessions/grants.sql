-- Purpose: who may open a request, and read sessions.

grant usage on schema sessions to safetypin_authenticator, safetypin_auditor, safetypin_member, safetypin_jobs;
grant select on sessions.sessions, sessions.activity to safetypin_member;
set local role safetypin_keeper;
grant execute on function sessions.open_request(bytea, bytea, jsonb) to safetypin_authenticator, safetypin_auditor;
reset role;
set local role safetypin_definer;
grant execute on function sessions.record_activity(bytea[], timestamptz[]) to safetypin_authenticator;
grant execute on function sessions.clean_up(integer) to safetypin_jobs;
reset role;
