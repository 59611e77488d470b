-- Purpose: our own tenant tables, declared like anybody's. After the catalog of permissions, which rules refer to.

select access.protect('access.organizations', organization => 'id',
  "select" => 'organization.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.roles',
  "select" => 'role.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.role_permissions',
  "select" => 'role.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.memberships', owner => 'person_id',
  "select" => 'member.read', "insert" => null, "update" => null, "delete" => null);
select access.protect('access.membership_roles',
  "select" => 'member.read', "insert" => null, "update" => null, "delete" => null);
