-- Purpose: settings: what an organization may choose for itself, each with type, bounds and a value that counts until it
-- chooses. Host applications add theirs with access.define_setting().

create table if not exists access.setting_definitions (
  name text constraint setting_definitions_pkey primary key
    constraint setting_definitions_name_form check (name ~ '^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$' and length(name) <= 100),
  type text not null constraint setting_definitions_type_known check (type in ('integer', 'boolean', 'text', 'role')),
  default_value jsonb,
  minimum bigint,
  maximum bigint,
  allowed text[],
  limit_name text constraint setting_definitions_limit_exists references platform.limits (name) on delete restrict,
  description text not null,
  read_permission text constraint setting_definitions_reader_exists references access.permissions (name) on delete restrict,
  write_permission text not null constraint setting_definitions_writer_exists references access.permissions (name) on delete restrict,
  constraint setting_definitions_bounds_order check (minimum <= maximum),
  constraint setting_definitions_bounds_fit check (type in ('integer', 'text') or num_nonnulls(minimum, maximum, limit_name) = 0),
  constraint setting_definitions_limit_fits check (type = 'integer' or limit_name is null),
  constraint setting_definitions_allowed_fits check (type = 'text' or allowed is null)
);
create index if not exists setting_definitions_limit_idx on access.setting_definitions (limit_name);
create index if not exists setting_definitions_reader_idx on access.setting_definitions (read_permission);
create index if not exists setting_definitions_writer_idx on access.setting_definitions (write_permission);
alter table access.setting_definitions enable row level security, force row level security;
comment on table access.setting_definitions is 'What organizations may set. A host application adds its own with access.define_setting().';
comment on column access.setting_definitions.name is 'noun.word.';
comment on column access.setting_definitions.type is 'integer, boolean, text or role: a role of the organization, or null.';
comment on column access.setting_definitions.default_value is 'Counts where nothing was set; null: the limit''s value, or nothing.';
comment on column access.setting_definitions.minimum is 'Lowest number, or length of the shortest text.';
comment on column access.setting_definitions.maximum is 'Highest number, or length of the longest text.';
comment on column access.setting_definitions.allowed is 'The texts that can be chosen; null: any.';
comment on column access.setting_definitions.limit_name is 'Limit of the installation that no organization goes beyond; see platform.limits.';
comment on column access.setting_definitions.description is 'What it does, for people.';
comment on column access.setting_definitions.read_permission is 'Who sees it; null: whoever acts in the organization.';
comment on column access.setting_definitions.write_permission is 'Who changes it.';

create table if not exists access.settings (
  organization_id uuid not null constraint settings_organization_exists references access.organizations (id) on delete cascade,
  name text not null constraint settings_definition_exists references access.setting_definitions (name) on delete cascade,
  value jsonb not null,
  role_id uuid,
  changed_at timestamptz not null default clock_timestamp(),
  constraint settings_pkey primary key (organization_id, name),
  constraint settings_role_exists foreign key (organization_id, role_id)
    references access.roles (organization_id, id) on delete cascade
);
create index if not exists settings_name_idx on access.settings (name);
create index if not exists settings_role_idx on access.settings (organization_id, role_id);
alter table access.settings enable row level security, force row level security;
comment on table access.settings is 'What organizations have set. Written by api.change_setting() and api.reset_setting() alone.';
comment on column access.settings.organization_id is 'Organization.';
comment on column access.settings.name is 'Setting.';
comment on column access.settings.value is 'Value, of the setting''s type.';
comment on column access.settings.role_id is 'The role, where the value is one: a setting goes with its role.';
comment on column access.settings.changed_at is 'When it was set last.';

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.setting_most(definition access.setting_definitions) returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return least(definition.maximum, platform.limit_value(definition.limit_name));
end $$;
comment on function access_private.setting_most(access.setting_definitions) is 'The highest value that a setting can have now; null without one.';

create or replace function access_private.setting_default(definition access.setting_definitions) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case when definition.type = 'integer'
    then to_jsonb(least(coalesce((definition.default_value #>> '{}')::bigint, platform.limit_value(definition.limit_name)),
      access_private.setting_most(definition)))
    else coalesce(definition.default_value, 'null') end;
end $$;
comment on function access_private.setting_default(access.setting_definitions) is 'What counts where an organization has set nothing.';

create or replace function access_private.setting_fits(definition access.setting_definitions, value jsonb) returns boolean
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_text constant text := value #>> '{}';
begin
  return coalesce(case definition.type
    when 'integer' then case when jsonb_typeof(value) = 'number' then
        v_text::numeric = trunc(v_text::numeric)
        and v_text::numeric between coalesce(definition.minimum, -9007199254740991)
          and coalesce(access_private.setting_most(definition), 9007199254740991) end
    when 'boolean' then jsonb_typeof(value) = 'boolean'
    when 'text' then jsonb_typeof(value) = 'string'
        and length(v_text) between coalesce(definition.minimum, 0) and coalesce(definition.maximum, 1000)
        and v_text collate "C" !~ E'[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]'
        and (definition.allowed is null or v_text = any (definition.allowed))
    -- Whether there is such a role is asked where the organization is known.
    when 'role' then jsonb_typeof(value) in ('null', 'string')
  end, false);
end $$;
comment on function access_private.setting_fits(access.setting_definitions, jsonb) is 'Whether a value is of the setting''s type and within its bounds.';

create or replace function access_private.setting_allows(definition access.setting_definitions) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return case definition.type
    when 'integer' then format('a whole number from %s to %s', coalesce(definition.minimum, -9007199254740991),
      coalesce(access_private.setting_most(definition), 9007199254740991))
    when 'boolean' then 'true or false'
    when 'text' then case when definition.allowed is null
      then format('a text of %s to %s characters', coalesce(definition.minimum, 0), coalesce(definition.maximum, 1000))
      else 'one of: ' || array_to_string(definition.allowed, ', ') end
    when 'role' then 'name or id of a role that permits nothing you may not do, or null'
  end;
end $$;
comment on function access_private.setting_allows(access.setting_definitions) is 'What a setting can be, for people.';

create or replace function access_private.setting(organization_id uuid, name text) returns jsonb
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_definition access.setting_definitions;
  v_value jsonb;
begin
  select d.* into v_definition from access.setting_definitions d where d.name = setting.name;
  if not found then
    raise exception 'no such setting' using errcode = '22023';
  end if;
  select s.value into v_value from access.settings s
    where s.organization_id = setting.organization_id and s.name = setting.name;
  if not found then
    return access_private.setting_default(v_definition);
  end if;
  if v_definition.type = 'integer' and jsonb_typeof(v_value) = 'number' then
    -- Bounds that were drawn closer count at once.
    return to_jsonb(greatest(least((v_value #>> '{}')::bigint, access_private.setting_most(v_definition)), v_definition.minimum));
  end if;
  return case when access_private.setting_fits(v_definition, v_value)
    then v_value else access_private.setting_default(v_definition) end;
end $$;
comment on function access_private.setting(uuid, text) is
  'The value of a setting that counts in an organization: what it has set, within the bounds of now, else the default. Of a role: its id as text, or null. 22023 for an unknown setting.';

create or replace function access_private.setting_number(organization_id uuid, name text) returns bigint
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (access_private.setting(organization_id, name) #>> '{}')::bigint;
end $$;
comment on function access_private.setting_number(uuid, text) is 'The value of an integer setting that counts in an organization.';

create or replace function access_private.setting_role(organization_id uuid, name text) returns uuid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (access_private.setting(organization_id, name) #>> '{}')::uuid;
end $$;
comment on function access_private.setting_role(uuid, text) is 'The role that a setting names in an organization; null if none.';

create or replace function access.setting(name text) returns jsonb
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- Borrows reading settings. The check: the active organization's, and the permission to read that one.
declare
  v_organization uuid := request.organization_id();
begin
  if v_organization is null or not exists (select from access.setting_definitions d
      where d.name = setting.name and (d.read_permission is null or request.can(d.read_permission))) then
    return null;
  end if;
  return access_private.setting(v_organization, setting.name);
end $$;
comment on function access.setting(text) is
  'The value of a setting that counts in the active organization; null for who may not read it. For rules and functions of a host application.';

create or replace function access.define_setting(
  name text, type text, default_value jsonb, description text, minimum bigint default null, maximum bigint default null,
  allowed text[] default null, read_permission text default 'setting.read', write_permission text default 'setting.update'
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows the right to write the catalog; only owners of tables are granted it, and it can add, never take.
declare
  v_definition access.setting_definitions;
begin
  v_definition.name := define_setting.name;
  v_definition.type := define_setting.type;
  v_definition.default_value := define_setting.default_value;
  v_definition.minimum := define_setting.minimum;
  v_definition.maximum := define_setting.maximum;
  v_definition.allowed := define_setting.allowed;
  v_definition.description := define_setting.description;
  v_definition.read_permission := define_setting.read_permission;
  v_definition.write_permission := define_setting.write_permission;
  -- No role is there in all organizations: a role is off until one is chosen.
  if v_definition.type = 'role' and coalesce(v_definition.default_value, 'null') <> 'null'
    or v_definition.type <> 'role' and not access_private.setting_fits(v_definition, v_definition.default_value)
  then
    raise exception 'the default of % must be %', v_definition.name,
      case v_definition.type when 'role' then 'null' else access_private.setting_allows(v_definition) end using errcode = '22023';
  end if;
  insert into access.setting_definitions as d select v_definition.*
    on conflict on constraint setting_definitions_pkey do update
      set default_value = excluded.default_value, minimum = excluded.minimum, maximum = excluded.maximum,
          allowed = excluded.allowed, description = excluded.description,
          read_permission = excluded.read_permission, write_permission = excluded.write_permission
      where d.type = excluded.type and d.limit_name is null;
  if not found then
    raise exception 'there is a setting % already, of another type or under a limit', v_definition.name using errcode = '22023';
  end if;
end $$;
comment on function access.define_setting(text, text, jsonb, text, bigint, bigint, text[], text, text) is
  'Adds a setting (noun.word) that organizations can change, or changes its bounds and default. 22023 for a default out of its own bounds.';

reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;
