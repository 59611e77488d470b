-- Purpose: our own tenant tables, declared like anybody's. After the catalog of permissions, which rules refer to.

select access.protect('access.organizations', organization => 'id',
  "select" => 'organization.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.roles',
  "select" => 'role.read', "insert" => null, "update" => null, "delete" => null);
-- Not audited row by row: what a role permits is changed by functions that record it, and founding is one event.
select access.protect('access.role_permissions',
  "select" => 'role.read', "insert" => null, "update" => null, "delete" => null, audited => false);
select access.protect('access.memberships', owner => 'person_id',
  "select" => 'member.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.invitations',
  "select" => 'invitation.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.membership_roles',
  "select" => 'member.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.service_accounts',
  "select" => 'service_account.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.api_keys', owner => 'person_id',
  "select" => 'api_key.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.api_key_use', owner => 'person_id',
  "select" => 'api_key.read', "insert" => null, "update" => null, "delete" => null, audited => false);

-- Closed to clients: each setting has a permission of its own, which api.organization_settings() asks.
select access.protect('access.settings', "select" => null, "insert" => null, "update" => null, "delete" => null);

-- Of no organization: what operators change in plans is recorded all the same.
create or replace trigger _800_audit after insert or update or delete on access.plans
  for each row execute function audit.record_change('', 'name');
alter table access.plans enable always trigger _800_audit;
create or replace trigger _800_audit after insert or update or delete on access.plan_limits
  for each row execute function audit.record_change('', 'plan', 'what');
alter table access.plan_limits enable always trigger _800_audit;
-- Each check would be an event; what it changes is one (domain.*).
select access.protect('access.domains',
  "select" => 'domain.read', "insert" => null, "update" => null, "delete" => null, audited => false);
