-- Purpose: what a DBA calls to put a table under rules, to see beforehand what that would do, and to take it back.
-- Invoker: only a table's owner can do what the lines do.

create or replace function access_private.differing_indexes(relation regclass, organization name, owner name)
  returns table (place integer, what text, line text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set quote_all_identifiers = off
as $$
#variable_conflict use_column
begin
  return query
    with numbers as (
      select a.attname, a.attnum from pg_attribute a where a.attrelid = differing_indexes.relation and a.attnum > 0 and not a.attisdropped
    ), key as (
      select n.attnum, k.position
        from pg_index i cross join unnest(i.indkey) with ordinality k (attnum, position) join numbers n on n.attnum = k.attnum
        where i.indrelid = differing_indexes.relation and i.indisprimary and n.attname <> organization
    ), due as (
      select 1 as rank, array[(select n.attnum from numbers n where n.attname = organization)] || (select min(k.attnum) from key k
          where k.position = (select min(f.position) from key f)) as columns
      union all
      select 2, array[(select n.attnum from numbers n where n.attname = organization), (select n.attnum from numbers n where n.attname = owner)]
        where owner is not null
      union all
      -- What is removed over there looks here for what refers to it.
      select 3, c.conkey from pg_constraint c where c.conrelid = differing_indexes.relation and c.contype = 'f'
    ), wanted as (
      select min(d.rank) as rank, array_remove(d.columns, null) as columns from due d group by 2
    )
    select 80, format('no index begins with (%s)', c.names), format('create index on %s (%s);', access_private.table_name(differing_indexes.relation), c.names)
      from wanted w
      cross join lateral (
        select string_agg(quote_ident(n.attname), ', ' order by u.position) as names
          from unnest(w.columns) with ordinality u (attnum, position) join numbers n on n.attnum = u.attnum) c
      where not exists (
          select from pg_index i join pg_class x on x.oid = i.indexrelid join pg_am m on m.oid = x.relam
            where i.indrelid = differing_indexes.relation and i.indpred is null and i.indisvalid and m.amname = 'btree'
              -- The policy of the tenant needs it first; for a foreign key the order says nothing.
              and (w.rank = 3 or i.indkey[0] = w.columns[1])
              and (select array_agg(k order by k) from unnest((i.indkey::smallint[])[0:cardinality(w.columns) - 1]) k)
                = (select array_agg(k order by k) from unnest(w.columns) k))
        -- One that is to be made serves the shorter one too.
        and not exists (select from wanted l where cardinality(l.columns) > cardinality(w.columns) and l.columns[1:cardinality(w.columns)] = w.columns)
      order by w.rank;
end $$;
comment on function access_private.differing_indexes(regclass, name, name) is
  'Indexes that a table under rules lacks: for the tenant with the key, for the owner, and for foreign keys.';

create or replace function access_private.differing_trigger(relation regclass, organization name, audited boolean)
  returns table (place integer, what text, line text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set quote_all_identifiers = off
as $$
declare
  v_table text := access_private.table_name(relation);
  v_arguments name[];
  v_trigger pg_trigger;
begin
  select t.* into v_trigger from pg_trigger t where t.tgrelid = differing_trigger.relation and t.tgname = '_800_audit';
  if not audited then
    if v_trigger.tgfoid = 'audit.record_change()'::regprocedure then
      return query select 90, 'its changes are recorded, which was not asked for'::text, format('drop trigger _800_audit on %s;', v_table);
    end if;
    return;
  end if;
  select array_agg(a.attname order by k.position) into v_arguments
    from pg_index i
    cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = differing_trigger.relation and i.indisprimary;
  v_arguments := organization || v_arguments
    || case when exists (select from keyring.doors() d where d.relation = differing_trigger.relation) then array['~doors'::name] else '{}' end;
  -- 29: after insert, delete and update, for each row.
  if v_trigger.oid is null or v_trigger.tgfoid <> 'audit.record_change()'::regprocedure or v_trigger.tgtype <> 29
    or v_trigger.tgqual is not null or cardinality(v_trigger.tgattr::smallint[]) > 0
    or v_trigger.tgargs <> (select string_agg(convert_to(u.name, getdatabaseencoding()) || '\x00', '' order by u.position)
      from unnest(v_arguments) with ordinality u (name, position)) then
    return query select 91, 'its changes are not recorded'::text, format(
      'create or replace trigger _800_audit after insert or update or delete on %s for each row execute function audit.record_change(%s);',
      v_table, (select string_agg(quote_literal(u.name), ', ' order by u.position) from unnest(v_arguments) with ordinality u (name, position)));
    v_trigger.tgenabled := 'O';
  end if;
  if v_trigger.tgenabled <> 'A' then
    return query select 92, 'the trigger that records its changes can be switched off'::text, format('alter table %s enable always trigger _800_audit;', v_table);
  end if;
  return query
    select 93, format('the trigger that records changes is switched off on a part of it, %s', access_private.table_name(t.tgrelid)),
        format('alter table %s enable always trigger _800_audit;', access_private.table_name(t.tgrelid))
      from access_private.heirs(relation) h (inhrelid)
      join pg_trigger t on t.tgrelid = h.inhrelid and t.tgfoid = 'audit.record_change()'::regprocedure and t.tgparentid <> 0 and t.tgenabled <> 'A'
      where v_trigger.tgenabled = 'A';
end $$;
comment on function access_private.differing_trigger(regclass, name, boolean) is 'Whether the changes of a table under rules are recorded as asked, and the lines that make it so.';

create or replace function access_private.differences(
  relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], audited boolean, assign text, hidden name[]
) returns table (place integer, what text, line text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set row_security = on
  set quote_all_identifiers = off
as $$
declare
  v_table text := access_private.table_name(relation);
  v_class pg_class;
begin
  select c.* into v_class from pg_class c where c.oid = differences.relation;
  if not v_class.relrowsecurity then
    return query select 10, 'row-level security is off'::text, format('alter table %s enable row level security;', v_table);
  end if;
  return query select * from access_private.differing_grants(relation, organization, owner, permissions, roles, hidden);
  return query select * from access_private.differing_policies(relation, organization, owner, permissions, assurance, roles, assign);
  return query
    select 40, format('%I has no default', a.attname), format('alter table %s alter column %I set default %s;', v_table, a.attname,
        case when a.attname = organization then 'request.organization_id()' else 'request.user_id()' end)
      from pg_attribute a
      where a.attrelid = differences.relation and not a.atthasdef and a.attidentity = ''
        and (a.attname = organization and differences.relation <> 'access.organizations'::regclass or a.attname = owner and permissions[2] is not null);
  return query
    select 50, format('the rule for %s is not kept', c.command),
        format('select access.set_rule(%L, %L, %L, %L, %L, %s, %L, %L);', v_table, c.command, organization, c.owner, c.permission, differences.assurance, differences.roles, c.assign)
      from (
        select u.command, u.permission, case when u.permission is not null or u.command = 'select' then differences.owner end as owner,
            case when u.command = 'insert' and u.permission is not null and differences.owner is not null then differences.assign end as assign
          from unnest(array['select', 'insert', 'update', 'delete'], permissions) u (command, permission)) c
      left join access.rules r on r.relation = differences.relation and r.command = c.command
      where case when c.permission is null and c.owner is null then r.relation is not null
        else (r.organization_column, r.owner_column, r.permission, r.assurance, r.roles, r.assign)
          is distinct from (organization, c.owner, c.permission, differences.assurance, differences.roles, c.assign) end;
  if not exists (select from access.protections p where p.relation = differences.relation
      and (p.organization_column, p.roles, p.audited, p.hidden) = (organization, differences.roles, differences.audited, differences.hidden)
      and p.owner_column is not distinct from owner) then
    return query select 51, 'what it is protected with is not kept'::text,
      format('select access.keep_protection(%L, %L, %L, %L, %L, %L);', v_table, organization, owner, roles, audited, hidden);
  end if;
  return query
    select 71, format('%I may not use the schema', r.rolname),
        format('grant usage on schema %I to %I;', n.nspname, r.rolname)
      from pg_roles r
      join pg_namespace n on n.oid = v_class.relnamespace
      where r.rolname = any (differences.roles)
        and not exists (select from aclexplode(n.nspacl) x where x.grantee = r.oid and x.privilege_type = 'USAGE');
  -- A serial column takes its next value with the rights of who inserts.
  return query
    select case when permissions[2] is null then 23 else 72 end, format(case when permissions[2] is null then '%I may take numbers' else '%I cannot take its next number' end, r.rolname),
        format(case when permissions[2] is null then 'revoke usage on sequence %s from %I;' else 'grant usage on sequence %s to %I;' end,
          access_private.table_name(d.objid), r.rolname)
      from pg_depend d
      join pg_class s on s.oid = d.objid and s.relkind = 'S'
      join pg_roles r on r.rolname = any (differences.roles)
      where d.classid = 'pg_class'::regclass and d.refclassid = 'pg_class'::regclass and d.refobjid = differences.relation and d.deptype = 'a'
        and (permissions[2] is null) = has_sequence_privilege(r.oid, s.oid, 'usage');
  return query select * from access_private.differing_indexes(relation, organization, owner);
  -- The trigger runs with the rights of who writes.
  return query
    select 89, format('what %I changes cannot be recorded', r.rolname), format('select audit.let_record(%L);', r.rolname)
      from pg_roles r
      where audited and (r.rolname = any (differences.roles) or r.oid = v_class.relowner)
        and not has_function_privilege(r.oid, 'audit.append_change(oid, text, jsonb, jsonb, text[])', 'execute');
  return query select * from access_private.differing_trigger(relation, organization, audited);
end $$;
comment on function access_private.differences(regclass, name, name, text[], integer, name[], boolean, text, name[]) is
  'What a table lacks to be under these rules, each with its line, in order of place. Permissions are those of select, insert, update and delete.';

create or replace function access.protect_plan(
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
  assign text default 'row.assign',
  hidden name[] default '{}'
) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_permissions text[] := array["select", "insert", "update", "delete"];
  v_what text;
  v_line text;
begin
  select string_agg(o.what, E'\n'), string_agg(o.line, E'\n') into v_what, v_line
    from access_private.obstacles(relation, organization, owner, v_permissions || case when owner is not null then assign end, assurance, roles, hidden) o;
  if v_what is not null then
    raise exception '%', v_what using errcode = 'TABLE', hint = coalesce(v_line, '');
  end if;
  return query
    select d.line
      from access_private.differences(relation, organization, owner, v_permissions, assurance, roles, audited, assign, hidden) d
      order by d.place, d.line;
end $$;
comment on function access.protect_plan(regclass, name, name, text, text, text, text, integer, name[], boolean, text, name[]) is
  'What access.protect() with the same arguments would run, a line each; nothing when all is so already. TABLE names what the table lacks, with the lines that add it as hint.';

create or replace function access_private.run(relation regclass, lines text[]) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
as $$
declare
  v_line text;
begin
  foreach v_line in array lines loop
    execute v_line;
    return next v_line;
  end loop;
end $$;
comment on function access_private.run(regclass, text[]) is 'Runs lines that a function before this one made of names in the catalog, with the rights of who calls.';

create or replace function access_private.take_table(relation regclass) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_owner name;
begin
  select o.rolname into v_owner from pg_class c join pg_roles o on o.oid = c.relowner where c.oid = take_table.relation;
  if not pg_has_role(current_user, v_owner, 'usage') then
    raise exception 'must be owner of table %', access_private.table_name(relation) using errcode = '42501', hint = format('set role %I;', v_owner);
  end if;
  -- Two who protect one table take turns; readers and writers go on.
  if exists (select from pg_class c where c.oid = take_table.relation and c.relkind in ('r', 'p')) then
    execute format('lock table only %s in share update exclusive mode', access_private.table_name(relation));
  end if;
end $$;
comment on function access_private.take_table(regclass) is 'Who protects a table waits for another who does. 42501 for who does not own it.';

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
  assign text default 'row.assign',
  hidden name[] default '{}'
) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  perform access_private.take_table(relation);
  return query select * from access_private.run(relation, array(
    select access.protect_plan(relation, organization, owner, "select", "insert", "update", "delete", assurance, roles, audited, assign, hidden)));
end $$;
comment on function access.protect(regclass, name, name, text, text, text, text, integer, name[], boolean, text, name[]) is
  'Puts a table under rules: writes access.rules and compiles them into one restrictive policy for the tenant and one permissive policy for the rest per command, grants by column, the audit trigger and missing indexes. A null permission closes a command. A row is inserted in one''s own name unless one holds assign. Idempotent; returns the lines it ran, none when all is so already. TABLE names what the table lacks.';

create or replace function access_private.kept(relation regclass) returns table (
    organization name, owner name, permissions text[], assurance integer, roles name[], audited boolean, assign text, hidden name[])
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set row_security = on
as $$
#variable_conflict use_column
begin
  return query
    select p.organization_column, p.owner_column,
        array(select r.permission from unnest(array['select', 'insert', 'update', 'delete']) with ordinality u (command, position)
          left join access.rules r on r.relation = p.relation and r.command = u.command order by u.position),
        coalesce((select max(r.assurance) from access.rules r where r.relation = p.relation), 1),
        p.roles, p.audited, (select max(r.assign) from access.rules r where r.relation = p.relation), p.hidden
      from access.protections p
      where p.relation = kept.relation;
end $$;
comment on function access_private.kept(regclass) is 'What access.protect() was given for a table; no row if it is under no rules.';

create or replace function access.renew(relation regclass) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v record;
begin
  select k.* into v from access_private.kept(relation) k;
  if not found then
    raise exception '% is under no rules', access_private.table_name(relation) using errcode = 'TABLE',
      hint = format('select access.protect(%L);', access_private.table_name(relation));
  end if;
  return query select access.protect(relation, v.organization, v.owner, v.permissions[1], v.permissions[2], v.permissions[3], v.permissions[4],
    v.assurance, v.roles, v.audited, v.assign, v.hidden);
end $$;
comment on function access.renew(regclass) is
  'Puts a table under its rules again, after columns were added or something was changed by hand: access.protect() as it was called last. TABLE for a table under none.';

create or replace function access.unprotect(relation regclass) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set quote_all_identifiers = off
as $$
declare
  v record;
  v_table text := access_private.table_name(relation);
begin
  perform access_private.take_table(relation);
  select k.* into v from access_private.kept(relation) k;
  if not found then
    return;
  end if;
  return query select * from access_private.run(relation, array(
    -- As if nothing were allowed to anybody: the same lines.
    select d.line
      from access_private.differences(relation, v.organization, null, array[null, null, null, null]::text[], 1, v.roles, false, null, v.hidden) d
      where d.place in (10, 20, 21, 22, 23, 30, 90)
      order by d.place, d.line)
    || format('select access.forget_protection(%L);', v_table));
end $$;
comment on function access.unprotect(regclass) is
  'Takes the rules of a table away: policies, grants, and what records its changes. It stays closed: row-level security is on, and nobody has a policy. Returns the lines it ran.';
