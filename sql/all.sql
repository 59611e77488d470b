-- The whole database, in order. A domain refers only to domains before it; policies, grants and first rows come in a
-- second pass, since policies ask about memberships. Roles and extensions are made before, by an administrator:
-- platform/roles.sql, platform/extensions.sql.

-- First pass: structure.
--!include platform/defaults.sql
--!include platform/schema.sql
--!include platform/errors.sql
--!include platform/limits.sql
--!include platform/ids.sql
--!include platform/tables.sql
--!include platform/admit.sql
--!include platform/request.sql
--!include platform/functions.sql
--!include platform/jobs.sql
--!include platform/clean-up.sql

--!include keyring/schema.sql
--!include keyring/tables.sql
--!include keyring/cipher.sql
--!include keyring/internal.sql
--!include keyring/functions.sql
--!include keyring/works.sql
--!include keyring/rotation.sql
--!include keyring/export.sql
--!include keyring/doors.sql
--!include keyring/sensitive.sql
--!include keyring/door-triggers.sql
--!include keyring/open.sql
--!include keyring/work-steps.sql
--!include keyring/work-rows.sql
--!include keyring/seal-column.sql
--!include keyring/unseal-column.sql
--!include keyring/reseal.sql
--!include keyring/erase.sql
--!include keyring/clean-up.sql

--!include audit/schema.sql
--!include audit/tables.sql
--!include audit/functions.sql
--!include audit/triggers.sql

--!include identity/schema.sql
--!include identity/tables.sql
--!include identity/internal.sql
--!include identity/functions.sql
--!include identity/clean-up.sql
--!include identity/reseal.sql

--!include access/schema.sql
--!include access/plans.sql
--!include access/tables.sql
--!include access/settings.sql
--!include access/holding.sql
--!include access/internal.sql
--!include access/role-steps.sql
--!include access/functions.sql
--!include access/obstacles.sql
--!include access/differences.sql
--!include access/protect.sql
--!include access/gaps.sql
--!include access/triggers.sql
--!include access/organizations.sql
--!include access/invitations.sql
--!include access/joining.sql
--!include access/api-keys.sql
--!include access/explain-words.sql
--!include access/explain-steps.sql
--!include access/explain.sql
--!include access/domains.sql
--!include access/domain-checks.sql
--!include access/domain-joining.sql

--!include sessions/schema.sql
--!include sessions/tables.sql
--!include sessions/context.sql
--!include sessions/keeper.sql
--!include sessions/internal.sql
--!include sessions/functions.sql
--!include sessions/clean-up.sql
--!include sessions/triggers.sql

--!include api/schema.sql
--!include api/types.sql
--!include api/registration.sql
--!include api/sign-in.sql
--!include api/session.sql
--!include api/recovery.sql
--!include api/functions.sql
--!include api/organizations.sql
--!include api/roles.sql
--!include api/role-grants.sql
--!include api/members.sql
--!include api/invitations.sql
--!include api/accepting.sql
--!include api/explain.sql
--!include api/settings.sql
--!include api/domains.sql
--!include api/keys.sql
--!include api/api-keys.sql
--!include api/shell.sql
--!include api/jobs.sql

-- Second pass: who may, and first rows.
--!include platform/policies.sql
--!include platform/grants.sql
--!include platform/seed.sql

--!include keyring/grants.sql
--!include keyring/seed.sql

--!include audit/grants.sql
--!include audit/policies.sql
--!include audit/seed.sql

--!include identity/policies.sql
--!include identity/grants.sql

--!include access/policies.sql
--!include access/grants.sql
--!include access/seed.sql
--!include access/rules.sql
--!include access/domain-seed.sql
--!include audit/rules.sql

--!include sessions/policies.sql
--!include sessions/grants.sql

--!include api/grants.sql
