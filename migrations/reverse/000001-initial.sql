-- Takes back the first migration: everything that SafetyPin has in this database. Roles, extension and job queue were
-- made before it and stay. `npm run migrate:down` asks for --yes, and for --force while people or organizations are
-- there.

-- Its trigger stands on a table of the queue, which stays.
drop trigger if exists safetypin_forget_context on graphile_worker._private_jobs;
-- What is queued can be run by nobody any more.
delete from graphile_worker._private_jobs;

drop schema if exists api, api_steps cascade;
drop schema if exists sessions, sessions_private cascade;
drop schema if exists access, access_private cascade;
drop schema if exists identity, identity_private cascade;
drop schema if exists audit, audit_private cascade;
drop schema if exists keyring, keyring_private cascade;
drop schema if exists request, request_private cascade;
drop schema if exists platform, platform_private cascade;

alter default privileges grant execute on functions to public;
set role safetypin_keeper;
alter default privileges grant execute on functions to public;
set role safetypin_definer;
alter default privileges grant execute on functions to public;
set role safetypin_owner;
