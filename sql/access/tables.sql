-- Purpose: tenant tables: their key begins with organization_id, and so do their foreign keys, so that neither a
-- foreign key nor a unique key tells about another organization.

create table if not exists access.permissions (
  name text constraint permissions_pkey primary key
    constraint permissions_name_form check (name ~ '^[a-z_]+\.[a-z_]+$'),
  description text not null,
  default_roles text[] not null default '{owner,admin}'
);
alter table access.permissions enable row level security, force row level security;
comment on table access.permissions is 'What can be permitted, noun.verb. A host application adds its own with access.define_permission().';
comment on column access.permissions.name is 'noun.verb.';
comment on column access.permissions.description is 'What it permits, for people.';
comment on column access.permissions.default_roles is 'Built-in roles that hold it.';

create table if not exists access.organizations (
  id uuid constraint organizations_pkey primary key default platform.uuid_v7(),
  name text not null constraint organizations_name_length check (length(name) between 1 and 1000),
  status text not null default 'active' constraint organizations_status_known check (status in ('active', 'suspended', 'closed')),
  closes_at timestamptz not null default 'infinity',
  created_by uuid constraint organizations_creator_exists references identity.people (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  version integer not null default 1,
  plan text not null default 'default' constraint organizations_plan_exists references access.plans (name) on delete restrict,
  slug text not null constraint organizations_slug_unique unique
    constraint organizations_slug_form check (slug ~ '^[a-z0-9-]{8,60}$')
);
create index if not exists organizations_closing_idx on access.organizations (closes_at) where status <> 'closed' and closes_at < 'infinity';
create index if not exists organizations_plan_idx on access.organizations (plan);
create index if not exists organizations_created_by_idx on access.organizations (created_by);
alter table access.organizations enable row level security, force row level security;
comment on table access.organizations is 'An organization: the tenant.';
comment on column access.organizations.id is 'UUID version 7.';
comment on column access.organizations.name is 'Name for people; not unique.';
comment on column access.organizations.status is 'Nobody acts in an organization that is not active.';
comment on column access.organizations.closes_at is 'Nobody acts in it from then on; no job has to run for it to be over.';
comment on column access.organizations.created_by is 'Who founded it; null once that person is gone.';
comment on column access.organizations.created_at is 'When it was founded.';
comment on column access.organizations.updated_at is 'When it last changed.';
comment on column access.organizations.version is 'Grows with each change; for optimistic locking.';
comment on column access.organizations.slug is 'Name for addresses, made by the server; it stays when the name changes.';
comment on column access.organizations.plan is 'Plan: how many of what it may have. Given by operators.';

create table if not exists access.roles (
  organization_id uuid not null constraint roles_organization_exists references access.organizations (id) on delete cascade,
  id uuid not null default platform.uuid_v7(),
  name text not null constraint roles_name_length check (length(name) between 1 and 100),
  description text not null default '' constraint roles_description_length check (length(description) <= 1000),
  built_in boolean not null default false,
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  version integer not null default 1,
  constraint roles_pkey primary key (organization_id, id),
  constraint roles_name_unique unique (organization_id, name)
);
-- Roles that people would take for one another are one name.
create unique index if not exists roles_name_key on access.roles
  (organization_id, lower(btrim(regexp_replace(normalize(name, nfkc), '\s+', ' ', 'g'))));
alter table access.roles enable row level security, force row level security;
comment on table access.roles is 'Roles of an organization: owner, admin, member and viewer are built in.';
comment on column access.roles.organization_id is 'Organization.';
comment on column access.roles.id is 'UUID version 7.';
comment on column access.roles.name is 'Name, unique in the organization.';
comment on column access.roles.built_in is 'Built-in roles hold the permissions that name them in access.permissions.';
comment on column access.roles.description is 'What it is for, for people.';
comment on column access.roles.created_at is 'When it was made.';
comment on column access.roles.updated_at is 'When it last changed, or what it permits.';
comment on column access.roles.version is 'Grows with each change; for optimistic locking.';

create table if not exists access.role_permissions (
  organization_id uuid not null,
  role_id uuid not null,
  permission text not null constraint role_permissions_permission_exists references access.permissions (name) on delete cascade,
  constraint role_permissions_pkey primary key (organization_id, role_id, permission),
  constraint role_permissions_role_exists foreign key (organization_id, role_id)
    references access.roles (organization_id, id) on delete cascade
);
create index if not exists role_permissions_permission_idx on access.role_permissions (permission);
alter table access.role_permissions enable row level security, force row level security;
comment on table access.role_permissions is 'What a role permits.';
comment on column access.role_permissions.organization_id is 'Organization.';
comment on column access.role_permissions.role_id is 'Role.';
comment on column access.role_permissions.permission is 'Permission.';

create table if not exists access.memberships (
  organization_id uuid not null constraint memberships_organization_exists references access.organizations (id) on delete cascade,
  id uuid not null default platform.uuid_v7(),
  person_id uuid not null constraint memberships_person_exists references identity.people (id) on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  constraint memberships_pkey primary key (organization_id, id),
  constraint memberships_person_unique unique (organization_id, person_id)
);
create index if not exists memberships_person_id_idx on access.memberships (person_id, organization_id);
alter table access.memberships enable row level security, force row level security;
comment on table access.memberships is 'Who belongs to an organization.';
comment on column access.memberships.organization_id is 'Organization.';
comment on column access.memberships.id is 'UUID version 7.';
comment on column access.memberships.person_id is 'Person.';
comment on column access.memberships.created_at is 'Since when.';

create table if not exists access.membership_roles (
  organization_id uuid not null,
  id uuid not null default platform.uuid_v7(),
  membership_id uuid not null,
  role_id uuid not null,
  valid_from timestamptz not null default '-infinity',
  valid_until timestamptz not null default 'infinity',
  granted_by uuid constraint membership_roles_granter_exists references identity.people (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  constraint membership_roles_pkey primary key (organization_id, id),
  constraint membership_roles_membership_exists foreign key (organization_id, membership_id)
    references access.memberships (organization_id, id) on delete cascade,
  constraint membership_roles_role_exists foreign key (organization_id, role_id)
    references access.roles (organization_id, id) on delete cascade,
  constraint membership_roles_window_order check (valid_from < valid_until)
);
create index if not exists membership_roles_membership_idx on access.membership_roles (organization_id, membership_id);
create index if not exists membership_roles_granted_by_idx on access.membership_roles (granted_by);
create index if not exists membership_roles_role_idx on access.membership_roles (organization_id, role_id);
alter table access.membership_roles enable row level security, force row level security;
comment on table access.membership_roles is 'Roles that a member holds, each for its time.';
comment on column access.membership_roles.organization_id is 'Organization.';
comment on column access.membership_roles.id is 'UUID version 7.';
comment on column access.membership_roles.membership_id is 'Membership.';
comment on column access.membership_roles.role_id is 'Role.';
comment on column access.membership_roles.valid_from is 'From when it counts.';
comment on column access.membership_roles.valid_until is 'Until when it counts; no job has to run for it to end.';
comment on column access.membership_roles.granted_by is 'Who granted it; null once that person is gone, and for the founder.';
comment on column access.membership_roles.created_at is 'When it was granted.';

create table if not exists access_private.held_permissions (
  organization_id uuid not null,
  person_id uuid not null,
  permission text not null,
  valid tstzmultirange not null,
  constraint held_permissions_pkey primary key (organization_id, person_id, permission)
);
alter table access_private.held_permissions enable row level security, force row level security;
comment on table access_private.held_permissions is 'Worked out from roles and grants by triggers: what a member may do, and when. Read at each request.can().';
comment on column access_private.held_permissions.organization_id is 'Organization.';
comment on column access_private.held_permissions.person_id is 'Person.';
comment on column access_private.held_permissions.permission is 'Permission.';
comment on column access_private.held_permissions.valid is 'Times at which at least one of the member''s roles gives it.';

create table if not exists access_private.ownership (
  organization_id uuid constraint ownership_pkey primary key
    constraint ownership_organization_exists references access.organizations (id) on delete cascade,
  turns bigint not null default 0
) with (fillfactor = 50);
alter table access_private.ownership enable row level security, force row level security;
comment on table access_private.ownership is
  'One row for each organization, which every change of members, roles and grants updates first: so they take turns, also in REPEATABLE READ, where a lock alone would let the second one work with what it read before.';
comment on column access_private.ownership.organization_id is 'Organization.';
comment on column access_private.ownership.turns is 'How many changes took their turn.';

create table if not exists access.rules (
  relation regclass not null,
  command text not null constraint rules_command_known check (command in ('select', 'insert', 'update', 'delete')),
  organization_column name not null,
  owner_column name,
  permission text constraint rules_permission_exists references access.permissions (name) on delete restrict,
  assurance integer not null default 1 constraint rules_assurance_range check (assurance between 1 and 3),
  roles name[] not null default '{safetypin_member}',
  assign text constraint rules_assign_exists references access.permissions (name) on delete restrict,
  constraint rules_pkey primary key (relation, command),
  constraint rules_says_who check (permission is not null or owner_column is not null),
  constraint rules_assign_of_insert check (assign is null or command = 'insert' and owner_column is not null)
);
create index if not exists rules_permission_idx on access.rules (permission);
create index if not exists rules_assign_idx on access.rules (assign);
alter table access.rules enable row level security, force row level security;
comment on table access.rules is 'Rules as data: what access.protect() compiles into policies, one row per table and command.';
comment on column access.rules.relation is 'Protected table.';
comment on column access.rules.command is 'select, insert, update or delete. A command without a row is allowed to nobody.';
comment on column access.rules.organization_column is 'Column that says whose row it is.';
comment on column access.rules.owner_column is 'Column with the person whose own row it is. Own rows need no permission, but inserting does, and one''s own name there.';
comment on column access.rules.permission is 'Permission that the command needs.';
comment on column access.rules.assurance is 'Assurance level that the session needs (SP 800-63B).';
comment on column access.rules.roles is 'Database roles that the rule is for.';
comment on column access.rules.assign is 'Permission that lets an insert name somebody else in the owner column; without one nobody may.';

create table if not exists access.protections (
  relation regclass not null constraint protections_pkey primary key,
  organization_column name not null,
  owner_column name,
  roles name[] not null,
  audited boolean not null,
  hidden name[] not null default '{}'
);
alter table access.protections enable row level security, force row level security;
comment on table access.protections is 'Tables under rules: what access.protect() was given besides the rules of each command, so that access.renew() and access.gaps() need not be told.';
comment on column access.protections.relation is 'Protected table.';
comment on column access.protections.organization_column is 'Column that says whose row it is.';
comment on column access.protections.owner_column is 'Column with the person whose own row it is.';
comment on column access.protections.roles is 'Database roles that the rules are for.';
comment on column access.protections.audited is 'Whether its changes are recorded row by row.';
comment on column access.protections.hidden is 'Columns that no client reads or writes.';

create table if not exists access.exemptions (
  object text not null constraint exemptions_pkey primary key,
  reason text not null constraint exemptions_reason_length check (length(reason) between 10 and 1000)
);
alter table access.exemptions enable row level security, force row level security;
comment on table access.exemptions is 'What is in an exposed schema and under no rules, each with the reason. access.gaps() passes over it.';
comment on column access.exemptions.object is 'Table, view or function (with the types of its arguments), with its schema.';
comment on column access.exemptions.reason is 'Why it needs no rules, for whoever reviews it.';
