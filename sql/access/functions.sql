-- Purpose: what a DBA calls to put tables under rules.

grant create on schema access to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access.define_permission(name text, description text, roles text[] default '{owner,admin}') returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows the right to write the catalog; only owners of tables are granted it, and it can add, never take.
begin
  insert into access.permissions (name, description, default_roles)
    values (define_permission.name, define_permission.description, define_permission.roles)
    on conflict on constraint permissions_pkey do update
      set description = excluded.description, default_roles = excluded.default_roles;
  insert into access.role_permissions (organization_id, role_id, permission)
    select r.organization_id, r.id, define_permission.name
    from access.roles r
    where r.built_in and r.name = any (define_permission.roles)
    on conflict do nothing;
end $$;
comment on function access.define_permission(text, text, text[]) is
  'Adds a permission (noun.verb) to the catalog and gives it to built-in roles of all organizations.';

create or replace function access.set_rule(
  relation regclass, command text, organization_column name, owner_column name, permission text, assurance integer, roles name[],
  assign text default null
) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows the right to write rules. The check instead: who calls must be able to act as the table's owner.
begin
  if not exists (select from pg_class c where c.oid = set_rule.relation and pg_has_role(session_user, c.relowner, 'member')) then
    raise exception 'only the owner of a table can set its rules' using errcode = '42501';
  end if;
  if set_rule.permission is null and set_rule.owner_column is null then
    delete from access.rules r where r.relation = set_rule.relation and r.command = set_rule.command;
  else
    insert into access.rules as r (relation, command, organization_column, owner_column, permission, assurance, roles, assign)
      values (set_rule.relation, set_rule.command, set_rule.organization_column, set_rule.owner_column,
        set_rule.permission, set_rule.assurance, set_rule.roles, set_rule.assign)
      on conflict on constraint rules_pkey do update
        set organization_column = excluded.organization_column, owner_column = excluded.owner_column,
            permission = excluded.permission, assurance = excluded.assurance, roles = excluded.roles,
            assign = excluded.assign
        where (r.organization_column, r.owner_column, r.permission, r.assurance, r.roles, r.assign)
          is distinct from (excluded.organization_column, excluded.owner_column, excluded.permission, excluded.assurance, excluded.roles, excluded.assign);
  end if;
  if found then
    perform audit_private.append('table.protect', relation => (
        select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = set_rule.relation),
      details => jsonb_build_object('command', set_rule.command, 'permission', set_rule.permission, 'owner', set_rule.owner_column,
        'organization', set_rule.organization_column, 'assurance', set_rule.assurance, 'assign', set_rule.assign));
  end if;
end $$;
comment on function access.set_rule(regclass, text, name, name, text, integer, name[], text) is
  'Writes one row of access.rules, or removes it when neither permission nor owner is given. 42501 unless the caller owns the table. access.protect() calls it.';

reset role;
reset row_security;
revoke create on schema access from safetypin_definer;

create or replace function access.protect(
  relation regclass,
  organization name default 'organization_id',
  owner name default null,
  "select" text default 'row.read',
  "insert" text default 'row.create',
  "update" text default 'row.update',
  "delete" text default 'row.delete',
  assurance integer default 1,
  roles name[] default '{safetypin_member}',
  audited boolean default true,
  assign text default 'row.assign'
) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set client_min_messages = warning
as $$
-- Invoker: only a table's owner can do what it does.
declare
  v_command text;
  v_permission text;
  v_condition text;
  v_tenant text;
  v_rule access.rules;
  v_role name;
  v_key name[];
  v_columns text;
  v_hidden name[];
  v_sequence regclass;
  v_said text[] := '{}';
  v_table text := relation::text;
  v_kind "char";
  v_name name;
  v_schema name;
begin
  select c.relkind, c.relname, n.nspname into v_kind, v_name, v_schema
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = relation;
  v_table := format('%I.%I', v_schema, v_name);
  if v_kind not in ('r', 'p') then
    raise exception '% is not a table', v_table using errcode = 'TABLE';
  end if;
  if not exists (select from pg_attribute a where a.attrelid = relation and a.attname = organization
      and a.atttypid = 'uuid'::regtype and a.attnotnull and not a.attisdropped) then
    raise exception '% needs a column % of type uuid, not null', v_table, quote_ident(organization)
      using errcode = 'TABLE', hint = format(
        'alter table %s add column %I uuid not null default request.organization_id() references access.organizations (id) on delete cascade;',
        v_table, organization);
  end if;
  if owner is not null and not exists (select from pg_attribute a where a.attrelid = relation and a.attname = owner
      and a.atttypid = 'uuid'::regtype and not a.attisdropped) then
    raise exception '% needs a column % of type uuid', v_table, quote_ident(owner) using errcode = 'TABLE';
  end if;
  select array_agg(a.attname order by k.position) into v_key
    from pg_index i
    cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = relation and i.indisprimary;
  if v_key is null then
    raise exception '% needs a primary key', v_table using errcode = 'TABLE';
  end if;

  -- What stands beside a sealed column is written by its triggers alone (see keyring/doors.sql).
  select array_agg(h) into v_hidden
    from keyring.doors() d cross join unnest(array[d.sealed, d.index_a, d.index_b]) h where d.relation = protect.relation;

  -- Foreign policies would widen or defeat ours, for permissive ones add up.
  if exists (select from pg_policy p where p.polrelid = relation and p.polname !~ '^safetypin_' and p.polroles && (
      select array_agg(r.oid) || 0::oid from pg_roles r where r.rolname = any (roles))) then
    raise exception '% has policies of its own for these roles', v_table
      using errcode = 'TABLE', hint = format('drop them first: see \d %s', v_table);
  end if;

  execute format('alter table %s enable row level security', v_table);
  if exists (select from pg_attribute a where a.attrelid = relation and a.attname = organization and not a.atthasdef)
    and v_name not in ('organizations') then
    execute format('alter table %s alter column %I set default request.organization_id()', v_table, organization);
    v_said := v_said || format('%I defaults to the active organization', organization);
  end if;

  foreach v_command in array array['select', 'insert', 'update', 'delete'] loop
    v_permission := case v_command when 'select' then "select" when 'insert' then "insert" when 'update' then "update" else "delete" end;
    perform access.set_rule(relation, v_command, organization,
      case when v_permission is not null or v_command = 'select' then owner end, v_permission, assurance, roles,
      case when v_command = 'insert' and v_permission is not null and owner is not null then assign end);
    execute format('drop policy if exists safetypin_tenant_%s on %s', v_command, v_table);
    execute format('drop policy if exists safetypin_may_%s on %s', v_command, v_table);
    select r.* into v_rule from access.rules r where r.relation = protect.relation and r.command = v_command;
    continue when not found;

    -- One restrictive policy for the tenant and one permissive for the rest, so that the index on the tenant serves.
    v_tenant := format('(%I = (select request.organization_id()))', v_rule.organization_column);
    v_condition := concat_ws(' or ',
      case when v_rule.permission is not null then format('(select request.can(%L))', v_rule.permission) end,
      case when v_rule.owner_column is not null then format('%I = (select request.owner_id())', v_rule.owner_column) end);
    if v_command = 'insert' and v_rule.owner_column is not null then
      -- Having a row to one's name is no permission to make one, and nobody makes rows in another's name unasked.
      v_condition := format('(select request.can(%L)) and (%I = (select request.owner_id())%s)', v_rule.permission, v_rule.owner_column,
        coalesce(' or (select request.can(' || quote_literal(v_rule.assign) || '))', ''));
    end if;
    if v_rule.assurance > 1 then
      v_condition := format('(select request.assurance()) >= %s and (%s)', v_rule.assurance, v_condition);
    end if;
    execute format('create policy safetypin_tenant_%s on %s as restrictive for %s to %s %s',
      v_command, v_table, v_command, array_to_string(array(select quote_ident(r) from unnest(v_rule.roles) r), ', '),
      case v_command when 'insert' then 'with check ' || v_tenant
        when 'update' then 'using ' || v_tenant || ' with check ' || v_tenant else 'using ' || v_tenant end);
    execute format('create policy safetypin_may_%s on %s for %s to %s %s',
      v_command, v_table, v_command, array_to_string(array(select quote_ident(r) from unnest(v_rule.roles) r), ', '),
      case v_command when 'insert' then 'with check (' || v_condition || ')'
        when 'update' then 'using (' || v_condition || ') with check (' || v_condition || ')' else 'using (' || v_condition || ')' end);
    v_said := v_said || format('%s: %s', v_command, v_condition);
  end loop;

  foreach v_role in array roles loop
    execute format('revoke all on table %s from %I', v_table, v_role);
    execute format('grant usage on schema %I to %I', v_schema, v_role);
    if "select" is not null or owner is not null then
      execute format('grant select on table %s to %I', v_table, v_role);
    end if;
    if "delete" is not null then
      execute format('grant delete on table %s to %I', v_table, v_role);
    end if;
    -- Keys, the tenant and generated columns are never written by a client, and whose row it is never changes.
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into v_columns
      from pg_attribute a
      where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname <> organization
        and a.attgenerated = '' and a.attidentity <> 'a' and a.attname <> all (coalesce(v_hidden, '{}'))
        and (a.attname <> all (v_key) or not a.atthasdef);
    if "insert" is not null and v_columns is not null then
      execute format('grant insert (%s) on table %s to %I', v_columns, v_table, v_role);
      -- A serial column takes its next value with the rights of who inserts.
      for v_sequence in
        select d.objid::regclass from pg_depend d join pg_class c on c.oid = d.objid and c.relkind = 'S'
        where d.refobjid = relation and d.deptype = 'a' and d.classid = 'pg_class'::regclass
      loop
        execute format('grant usage on sequence %s to %I', v_sequence, v_role);
      end loop;
    end if;
    select string_agg(quote_ident(a.attname), ', ' order by a.attnum) into v_columns
      from pg_attribute a
      where a.attrelid = relation and a.attnum > 0 and not a.attisdropped and a.attname <> organization
        and a.attgenerated = '' and a.attidentity = '' and a.attname is distinct from owner
        and a.attname <> all (v_key || coalesce(v_hidden, '{}'));
    if "update" is not null and v_columns is not null then
      execute format('grant update (%s) on table %s to %I', v_columns, v_table, v_role);
    end if;
  end loop;

  if not exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
      where i.indrelid = relation and a.attname = organization and i.indpred is null and i.indisvalid) then
    execute format('create index on %s (%s)', v_table, (
      select string_agg(quote_ident(c), ', ') from unnest(array[organization] || array_remove(v_key, organization)) c));
    v_said := v_said || format('index on %I made', organization);
  end if;

  if audited then
    -- The trigger runs with the rights of who writes.
    perform audit.let_record(r) from unnest(roles || (select o.rolname from pg_class c join pg_roles o on o.oid = c.relowner where c.oid = relation)) r;
    execute format('create or replace trigger _800_audit after insert or update or delete on %s for each row execute function audit.record_change(%s)',
      v_table, (select string_agg(quote_literal(c), ', ') from unnest(array[organization] || v_key
        || case when exists (select from keyring.doors() d where d.relation = protect.relation) then '~doors'::name end) c where c is not null));
    execute format('alter table %s enable always trigger _800_audit', v_table);
  end if;
  return query select unnest(v_said);
end $$;
comment on function access.protect(regclass, name, name, text, text, text, text, integer, name[], boolean, text) is
  'Puts a table under rules: writes access.rules and compiles them into one restrictive policy for the tenant and one permissive policy for the rest per command, grants by column, the audit trigger and a missing index. A null permission closes a command. A row is inserted in one''s own name unless one holds assign. Idempotent; returns what it did, a line each. TABLE names what the table lacks.';
