-- Purpose: our own tenant tables are declared like anybody's.

select platform_private.admit('safetypin_owner', 'access.rules', 'select');
select platform_private.admit('safetypin_definer', 'access.rules', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_owner', 'access.protections', 'select');
select platform_private.admit('safetypin_definer', 'access.protections', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_owner', 'access.exemptions', 'select');
select platform_private.admit('safetypin_definer', 'access.exemptions', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_owner', 'access.permissions', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'access.permissions', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'access.organizations', 'select', 'insert', 'update');
select platform_private.admit('safetypin_owner', 'access.plans', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access.plans', 'select');
select platform_private.admit('safetypin_owner', 'access.plan_limits', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access.plan_limits', 'select');
select platform_private.admit('safetypin_owner', 'access.setting_definitions', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'access.setting_definitions', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'access.settings', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access_private.ownership', 'select', 'insert', 'update');
select platform_private.admit('safetypin_keeper', 'access.organizations', 'select');
select platform_private.admit('safetypin_definer', 'access.roles', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access.role_permissions', 'select', 'insert', 'delete');
select platform_private.admit('safetypin_definer', 'access.memberships', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_keeper', 'access.memberships', 'select');
select platform_private.admit('safetypin_definer', 'access.membership_roles', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access_private.held_permissions', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_keeper', 'access_private.held_permissions', 'select');
select platform_private.admit('safetypin_definer', 'access.invitations', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access_private.invitation_addresses', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'access.service_accounts', 'select', 'insert', 'update');
select platform_private.admit('safetypin_keeper', 'access.service_accounts', 'select');
select platform_private.admit('safetypin_definer', 'access.api_keys', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_keeper', 'access.api_keys', 'select');
select platform_private.admit('safetypin_definer', 'access_private.api_key_secrets', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_keeper', 'access_private.api_key_secrets', 'select');
select platform_private.admit('safetypin_definer', 'access.api_key_use', 'select', 'insert', 'update');

drop policy if exists select_signed_in on access.permissions;
create policy select_signed_in on access.permissions for select to safetypin_member
  using ((select request.kind()) in ('session', 'key'));

select platform_private.admit('safetypin_definer', 'access.domains', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access_private.domain_owners', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'access.shared_domains', 'select', 'insert', 'delete');
select platform_private.admit('safetypin_owner', 'access.shared_domains', 'select', 'insert');
select platform_private.admit('safetypin_definer', 'access_private.kept_out', 'select', 'insert', 'update', 'delete');
