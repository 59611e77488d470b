-- Purpose: organizations, who belongs to them, what they may do, and the rules that tables are under.

create schema if not exists access;
comment on schema access is 'Organizations, memberships, roles, permissions, and access.protect().';
create schema if not exists access_private;
comment on schema access_private is 'What is worked out from roles and grants.';
grant usage on schema access, access_private to safetypin_keeper, safetypin_definer;
