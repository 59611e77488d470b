-- Purpose: what composes several domains. `api` is served as GraphQL as it stands; `api_steps` is what the TypeScript
-- layer calls, one function per step, each in a transaction of its own.

create schema if not exists api;
comment on schema api is 'Functions of the GraphQL API that compose several domains.';
create schema if not exists api_steps;
comment on schema api_steps is 'Steps of sign-up, sign-in and recovery, called by the TypeScript layer; not served by themselves.';
grant usage on schema api, api_steps to safetypin_keeper, safetypin_definer;
