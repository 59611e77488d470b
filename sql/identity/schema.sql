-- Purpose: people: who they are, how they prove it.

create schema if not exists identity;
comment on schema identity is 'People.';
create schema if not exists identity_private;
comment on schema identity_private is 'Addresses, passwords, tokens and attempts; no run-time role reaches it.';
grant usage on schema identity, identity_private to safetypin_keeper, safetypin_definer;
