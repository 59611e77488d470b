-- Purpose: why a table cannot be under rules as it is, each with the line that changes that. Invoker: reads the catalog.

create or replace function access_private.obstacles(
  relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], hidden name[]
) returns table (what text, line text)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set quote_all_identifiers = off
as $$
-- A table is named with its schema in each line, whatever the search path of who runs it.
declare
  v_table text := access_private.table_name(relation);
  v_class pg_class;
  v_column pg_attribute;
  v_parent text;
  v_new text;
begin
  select c.* into v_class from pg_class c where c.oid = obstacles.relation;
  if v_class.relkind not in ('r', 'p') then
    return query select format('%s is not a table', v_table), case v_class.relkind
      when 'v' then format('alter view %s set (security_invoker = true);', v_table)
      when 'm' then format('drop materialized view %s;', v_table)
      when 'f' then format('drop foreign table %s;', v_table) end;
    return;
  end if;
  if v_class.relpersistence = 't' then
    return query select format('%s is temporary: it is gone before anybody could reach it', quote_ident(v_class.relname)),
      format('drop table %s;', v_table);
    return;
  end if;
  if v_class.relispartition then
    select access_private.table_name(a.relid) into v_parent from pg_partition_ancestors(relation) with ordinality a (relid, level) order by a.level desc limit 1;
    return query select format('%s is a part of %s, and under the rules of that', v_table, v_parent), format('select access.protect(%L);', v_parent);
    return;
  end if;
  return query
    select format('%s inherits from %s: its rows are read through that one, past its rules', v_table, access_private.table_name(i.inhparent)),
        format('alter table %s no inherit %s;', v_table, access_private.table_name(i.inhparent))
      from pg_inherits i where i.inhrelid = obstacles.relation;

  -- A host may have a column of our name that says something else.
  v_new := case when organization = 'organization_id' then 'tenant_id' else 'organization_id' end;
  select a.* into v_column from pg_attribute a
    where a.attrelid = obstacles.relation and a.attname = organization and a.attnum > 0 and not a.attisdropped;
  if not found then
    return query select format('%s needs a column %I of type uuid, not null', v_table, organization),
      access_private.line_for_organization(relation, organization);
  elsif v_column.atttypid <> 'uuid'::regtype then
    return query select format('%s needs a column of type uuid, not null, that says whose a row is: %I is of type %s; add one, and say organization => %L',
        v_table, organization, format_type(v_column.atttypid, v_column.atttypmod), v_new),
      access_private.line_for_organization(relation, v_new);
  elsif not v_column.attnotnull then
    return query select format('%s needs a column %I of type uuid, not null: it may be null', v_table, organization),
      format('alter table %s alter column %I set not null;', v_table, organization);
  elsif v_column.attgenerated <> '' then
    return query select format('%s.%I is generated', v_table, organization), format('alter table %s alter column %I drop expression;', v_table, organization);
  end if;
  if owner is not null then
    select a.* into v_column from pg_attribute a
      where a.attrelid = obstacles.relation and a.attname = owner and a.attnum > 0 and not a.attisdropped;
    if not found then
      return query select format('%s needs a column %I of type uuid', v_table, owner),
        format('alter table %s add column %I uuid references identity.people (id) on delete set null;', v_table, owner);
    elsif v_column.atttypid <> 'uuid'::regtype then
      return query select format('%s needs a column of type uuid for whose own row it is: %I is of type %s', v_table, owner,
        format_type(v_column.atttypid, v_column.atttypmod)),
        format('alter table %s alter column %I type uuid using %2$I::text::uuid;', v_table, owner);
    end if;
  end if;
  if not exists (select from pg_index i where i.indrelid = obstacles.relation and i.indisprimary) then
    return query select format('%s needs a primary key', v_table), access_private.line_for_key(relation, organization);
  end if;
  return query
    select format('%s has no column %I to hide', v_table, h), null::text from unnest(hidden) h
      where not exists (select from pg_attribute a where a.attrelid = obstacles.relation and a.attname = h and a.attnum > 0 and not a.attisdropped);
  if hidden <> '{}' and exists (select from keyring.doors() d where d.relation = obstacles.relation) then
    return query select format('%s has sealed columns, which are read with the whole row: no column of it can be hidden', v_table), null::text;
  end if;

  -- Permissive policies add up (a restrictive one of the host's narrows, and may stay), and what a rule does is done in the name of the table's owner, past all policies.
  return query
    select format('%s has policies of its own for these roles: %I', v_table, p.polname), format('drop policy %I on %s;', p.polname, v_table)
      from pg_policy p
      where p.polrelid = obstacles.relation and p.polname !~ '^safetypin_(may|tenant)_(select|insert|update|delete)$'
        and p.polpermissive
        and p.polroles && (select array_agg(r.oid) || 0::oid from pg_roles r where r.rolname = any (roles || access_private.run_time_roles()))
        and not (p.polname in ('safetypin_work', 'safetypin_work_update') and p.polroles = array['safetypin_jobs'::regrole::oid]
          and pg_get_expr(p.polqual, p.polrelid) = format('( SELECT keyring.at_work((%L::regclass)::oid) AS at_work)', p.polrelid::regclass)
          and coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)) = pg_get_expr(p.polqual, p.polrelid))
      order by p.polname;
  return query
    select format('%s has a rule, which acts in its owner''s name past all policies: %I', v_table, w.rulename), format('drop rule %I on %s;', w.rulename, v_table)
      from pg_rewrite w where w.ev_class = obstacles.relation order by w.rulename;
  return query
    select format('there is no permission %s', p), format('select access.define_permission(%L, ''…'');', p)
      from (select distinct u.p from unnest(permissions) u (p) where u.p is not null) u
      where not exists (select from access.permissions c where c.name = u.p);
  if coalesce(assurance not between 1 and 3, true) then
    return query select format('assurance is from 1 to 3, not %s', assurance), null::text;
  end if;
  return query
    select case when o.oid is null then format('there is no role %I', r) else format('no policy holds the role %I', r) end, null::text
      from unnest(roles) r left join pg_roles o on o.rolname = r
      where o.oid is null or o.rolsuper or o.rolbypassrls or pg_has_role(o.oid, v_class.relowner, 'member');
  if coalesce(roles, '{}') = '{}' then
    return query select 'rules are for at least one role', null::text;
  end if;
end $$;
comment on function access_private.obstacles(regclass, name, name, text[], integer, name[], name[]) is
  'Why a table cannot be under these rules, each with the line that changes it where there is one.';

create or replace function access_private.line_for_organization(relation regclass, organization name) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set quote_all_identifiers = off
as $$
declare
  v_table text := access_private.table_name(relation);
  v_has_rows boolean := false;
begin
  if has_table_privilege(relation, 'select') then
    execute format('select exists (select from %s)', v_table) into v_has_rows;
  end if;
  -- Without a default, which protect() sets: PostgreSQL would ask for it now, for nobody. Rows that are there already are
  -- somebody's, and only people know whose; that they are, the owner cannot see, so it is believed of them.
  return case when not v_has_rows
    then format('alter table %s add column %I uuid not null references access.organizations (id) on delete cascade;', v_table, organization)
    else format('alter table %s add column %I uuid not null default ''…'', add foreign key (%2$I) references access.organizations (id) on delete cascade not valid; alter table %1$s alter column %2$I drop default;',
      v_table, organization) end;
end $$;
comment on function access_private.line_for_organization(regclass, name) is
  'The line that adds the column for the organization; … stands for the organization of the rows that are there.';

create or replace function access_private.line_for_key(relation regclass, organization name) returns text
  language sql stable
  set search_path = pg_catalog, pg_temp
  set quote_all_identifiers = off
as $$
  select format('alter table %s %sadd primary key (%s);', access_private.table_name(line_for_key.relation),
      case when not exists (select from pg_attribute a where a.attrelid = line_for_key.relation and a.attname = 'id' and not a.attisdropped)
        then 'add column id uuid default platform.uuid_v7(), ' else '' end,
      concat_ws(', ', quote_ident(organization), 'id', (
        -- A partitioned table's key holds what it is divided by.
        select string_agg(quote_ident(a.attname), ', ' order by k.position)
          from pg_partitioned_table p cross join unnest(p.partattrs) with ordinality k (attnum, position)
          join pg_attribute a on a.attrelid = p.partrelid and a.attnum = k.attnum
          where p.partrelid = line_for_key.relation and a.attname <> all (array['id', organization]))))
$$;
comment on function access_private.line_for_key(regclass, name) is 'The line that gives a table a primary key which begins with the organization.';

create or replace function access_private.run_time_roles() returns name[]
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select array['safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member', 'safetypin_jobs', 'safetypin_auditor']::name[]
$$;
comment on function access_private.run_time_roles() is 'The roles that people and jobs work as.';
