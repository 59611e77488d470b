-- Purpose: what a DBA calls to seal a column, and to have it back. The tables' owner runs it, since it changes tables;
-- what it borrows from the keeper are the two functions that write the register.

grant create on schema keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring.register_column(
  relation regclass, column_id uuid, class text, type text, tenant boolean, permission text, write_permission text, required boolean, indexed boolean,
  format text, lookup text, refusal text, keep_on_null boolean, state text
) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set standard_conforming_strings = on
as $$
-- The check: who calls must be able to act as the table's owner. Types are PostgreSQL's own: their code runs here.
declare
  v_id uuid := coalesce(column_id, platform.uuid_v7());
begin
  if not exists (select from pg_class c where c.oid = register_column.relation and pg_has_role(session_user, c.relowner, 'member')) then
    raise exception 'only the owner of a table can seal its columns' using errcode = '42501';
  end if;
  if type !~ '^(text|character( varying)?\([0-9]+\)|smallint|integer|bigint|numeric(\([0-9]+,-?[0-9]+\))?|real|double precision|boolean|date|time(\([0-6]\))? without time zone|timestamp(\([0-6]\))? with(out)? time zone|interval(\([0-6]\))?|uuid|json|jsonb|inet)$' then
    raise exception 'a column of type % cannot be sealed', type using errcode = 'TABLE',
      hint = 'Make it text, json, or another type of PostgreSQL itself that is neither array nor row; the option format takes a check.';
  end if;
  if column_id is null then
    insert into keyring_private.sealed_columns (id, relation, class, type, tenant, permission, write_permission, required, indexed, format, lookup, refusal, keep_on_null, state)
      values (v_id, register_column.relation, register_column.class, register_column.type, register_column.tenant, register_column.permission,
        register_column.write_permission, register_column.required, register_column.indexed, register_column.format, register_column.lookup,
        register_column.refusal, register_column.keep_on_null, register_column.state);
  else
    update keyring_private.sealed_columns c
      set class = register_column.class, permission = register_column.permission, write_permission = register_column.write_permission,
        required = register_column.required, format = register_column.format, refusal = register_column.refusal,
        keep_on_null = register_column.keep_on_null, state = register_column.state
      where c.id = register_column.column_id and c.relation = register_column.relation;
  end if;
  perform audit_private.append('column.seal', relation => register_column.relation::text, details => jsonb_build_object('column', v_id,
    'class', class, 'permission', permission, 'writePermission', write_permission, 'required', required, 'state', state));
  return v_id;
end $$;
comment on function keyring.register_column(regclass, uuid, text, text, boolean, text, text, boolean, boolean, text, text, text, boolean, text) is
  'Writes a sealed column into the register, or changes what it demands. 42501 unless the caller owns the table. keyring.seal_column() calls it.';

create or replace function keyring.doors()
  returns table (id uuid, relation regclass, door text, sealed text, index_a text, index_b text, organization text, row_id text, row_keys text[],
    subject text, class text, type text, permission text, write_permission text, required boolean, refusal text, state text)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select d.id, d.relation::regclass, d.door, d.sealed, d.index_a, d.index_b, d.organization, d.row_id, d.row_keys,
      d.subject, d.class, case when d.type like 'character%' then 'text' else d.type end, d.permission, d.write_permission, d.required, d.refusal, d.state
    from keyring_private.doors d
    order by d.relation::regclass::text, d.door
$$;
comment on function keyring.doors() is 'The sealed columns of other tables: names and rules, no value. For the API''s schema, access.protect() and operators.';

reset role;
reset row_security;
revoke create on schema keyring from safetypin_keeper;

create or replace function keyring.part_name(base name, suffix text) returns name
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  -- PostgreSQL cuts names at 63 bytes, and two long ones into the same: here they differ by the hash of the whole.
  select case when octet_length(base || suffix) < 64 then base || suffix
    else (select left(base || suffix, n) from generate_series(54, 0, -1) n where octet_length(left(base || suffix, n)) < 55 limit 1)
      || '_' || substr(encode(sha256(convert_to(base || suffix, 'UTF8')), 'hex'), 1, 8) end::name
$$;
comment on function keyring.part_name(name, text) is 'The name of what belongs to a sealed column, its end hashed where it would be too long.';

create or replace function keyring.seal_column(
  relation regclass,
  "column" name,
  subject name default null,
  class text default 'personal',
  permission text default null,
  searchable boolean default false,
  options jsonb default '{}'
) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set client_min_messages = warning
  set standard_conforming_strings = on
  set datestyle = 'ISO, YMD'
  set intervalstyle = 'iso_8601'
  set timezone = 'UTC'
  set extra_float_digits = 1
as $$
-- Invoker: only a table's owner can do what it does.
declare
  v_kind "char";
  v_name name;
  v_schema name;
  v_owner name;
  v_table text;
  v_attribute pg_attribute;
  v_role text;
  v_declared text;
  v_type text;
  v_force boolean;
  v_when text;
  v_user text;
  v_required boolean;
  v_unique boolean := coalesce((options ->> 'unique')::boolean, false);
  v_indexed boolean;
  v_organization name := coalesce(options ->> 'organization', 'organization_id');
  v_keys name[];
  v_id_column name;
  v_columns text;
  v_arguments text;
  v_id uuid;
  v_state text := 'sealed';
  v_has_rows boolean;
  v_is_wrong boolean;
  v_count bigint;
  v_reader text;
  v_row text;
  v_unknown text;
  v_hidden name[];
  v_said text[] := '{}';
begin
  select c.relkind, c.relname, n.nspname, r.rolname, c.relforcerowsecurity into v_kind, v_name, v_schema, v_owner, v_force
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
    where c.oid = seal_column.relation;
  v_table := format('%I.%I', v_schema, v_name);
  if v_kind is null or v_kind not in ('r', 'p') or exists (select from pg_inherits i where i.inhrelid = seal_column.relation)
    or v_kind = 'r' and exists (select from pg_inherits i where i.inhparent = seal_column.relation)
    or exists (select from pg_class c where c.oid = seal_column.relation and (c.relpersistence = 't' or c.reloftype <> 0)) then
    raise exception '% is not a table of its own: it is a view, temporary, of a type, a part of another or has parts that inherit', v_table
      using errcode = 'TABLE', hint = 'Of a partitioned table, seal the whole.';
  end if;
  select string_agg(o, ', ') into v_unknown from jsonb_object_keys(options) o
    where o not in ('required', 'unique', 'format', 'lookup', 'refusal', 'write', 'keep_on_null', 'organization');
  if v_unknown is not null then
    raise exception 'no such option: %', v_unknown using errcode = '22023',
      hint = 'There are required, unique, format, lookup, refusal, write, keep_on_null and organization.';
  end if;
  -- What never leaves the database has no door.
  if class not in ('personal', 'sensitive') then
    raise exception 'no such class: %', class using errcode = '22023', hint = 'There are personal and sensitive.';
  end if;
  execute format('lock table %s in access exclusive mode', v_table);
  select a.* into v_attribute from pg_attribute a
    where a.attrelid = seal_column.relation and a.attname = "column" and a.attnum > 0 and not a.attisdropped;
  if not found then
    raise exception '% has no column %', v_table, quote_ident("column") using errcode = 'TABLE';
  end if;
  if exists (select from keyring.doors() d where d.relation = seal_column.relation and "column" in (d.door, d.sealed, d.index_a, d.index_b)) then
    raise exception '%.% is sealed already', v_table, quote_ident("column") using errcode = 'TABLE',
      hint = 'keyring.unseal_column() gives it back.';
  end if;
  if v_attribute.attgenerated <> '' or v_attribute.attidentity <> '' then
    raise exception '%.% is generated: nobody writes it', v_table, quote_ident("column") using errcode = 'TABLE';
  end if;

  select array_agg(a.attname order by k.position) into v_keys
    from pg_index i cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = seal_column.relation and i.indisprimary and k.position <= i.indnkeyatts;
  if v_keys is null then
    raise exception '% needs a primary key', v_table using errcode = 'TABLE';
  end if;
  if not exists (select from pg_attribute a where a.attrelid = seal_column.relation and a.attname = v_organization and a.atttypid = 'uuid'::regtype and a.attnotnull) then
    if options ? 'organization' and options -> 'organization' <> 'null' or v_organization = any (v_keys) then
      raise exception '% needs a column % of type uuid, not null', v_table, quote_ident(v_organization) using errcode = 'TABLE';
    end if;
    v_organization := null;
  end if;
  if subject is not null and not exists (select from pg_attribute a where a.attrelid = seal_column.relation and a.attname = subject and a.atttypid = 'uuid'::regtype) then
    raise exception '% needs a column % of type uuid', v_table, quote_ident(subject) using errcode = 'TABLE';
  end if;
  if "column" = any (v_keys || v_organization || subject) or exists (
      select from pg_depend d where d.classid = 'pg_class'::regclass and d.objid = seal_column.relation and d.objsubid = v_attribute.attnum
        and d.refclassid = 'pg_class'::regclass and d.refobjid = d.objid and d.refobjsubid = 0) then
    raise exception '%.% is a key: what rows are found, ordered or divided by cannot be sealed', v_table, quote_ident("column") using errcode = 'TABLE';
  end if;
  if exists (select from pg_attribute a where a.attrelid = seal_column.relation and a.attgenerated <> ''
      and a.attname = any (v_keys || v_organization || subject)) then
    raise exception 'what rows of % are named by is generated: it is not there yet when values are sealed', v_table using errcode = 'TABLE';
  end if;
  -- Whatever would go on working with plain text, or without a word with none.
  select pg_describe_object(d.classid, d.objid, 0), d.classid::regclass::text into v_unknown, v_user
    from pg_depend d
    where d.refclassid = 'pg_class'::regclass and d.refobjid = seal_column.relation and d.refobjsubid = v_attribute.attnum
      and not exists (select from pg_attrdef f where d.classid = 'pg_attrdef'::regclass and f.oid = d.objid
        and f.adrelid = d.refobjid and f.adnum = d.refobjsubid)
      and not exists (select from pg_class c where d.classid = 'pg_class'::regclass and c.oid = d.objid and c.relkind = 'S')
      and not exists (select from pg_constraint c where d.classid = 'pg_constraint'::regclass and c.oid = d.objid and c.contype = 'n')
    order by d.classid, d.objid limit 1;
  if found then
    raise exception '%.% is used by %', v_table, quote_ident("column"), v_unknown using errcode = 'TABLE', hint = case v_user
      when 'pg_class' then 'Drop it: searchable => true finds values by equality.'
      when 'pg_constraint' then 'Drop it: the options unique and format take the place of constraints.'
      else 'Drop it, seal, and make it again without the column, which is always empty; views read by its function.' end;
  end if;
  if exists (select from pg_rewrite r where r.ev_class = seal_column.relation) then
    raise exception '% has rules: they see plain text, and put it where they like', v_table using errcode = 'TABLE', hint = 'Use triggers.';
  end if;
  select t.tgname into v_unknown from pg_trigger t
    where t.tgrelid in (select seal_column.relation union select relid from pg_partition_tree(seal_column.relation))
      and not t.tgisinternal and t.tgtype & 3 = 3 and t.tgtype & 20 <> 0
      and (t.tgname < '!!seal_'::name or t.tgname >= '~~seal_'::name) and t.tgfoid not in ('keyring.seal_door()'::regprocedure, 'keyring.guard_door()'::regprocedure)
    limit 1;
  if found then
    raise exception 'trigger % of % would run before values are sealed, or after they are checked', quote_ident(v_unknown), v_table
      using errcode = 'TABLE', hint = 'Rename it: alter trigger … rename to.';
  end if;
  if permission is not null and not exists (select from access.permissions p where p.name = permission)
    or options ->> 'write' is not null and not exists (select from access.permissions p where p.name = options ->> 'write') then
    raise exception 'no such permission' using errcode = 'TABLE', hint = 'access.define_permission() makes one.';
  end if;
  -- A row is named by the one uuid of its key beside the organization, if that is all of the key, or if the uuid is made
  -- for the row (a default, no reference): the rest is then what the table is divided by, and a row may move. Else by all of
  -- its key, in binary: so equal keys must be equal in binary as well, which PostgreSQL knows of a type as btequalimage
  -- (operator class, function 4).
  select min(a.attname) into v_id_column from pg_attribute a
    where a.attrelid = seal_column.relation and a.attname = any (v_keys) and a.attname is distinct from v_organization and a.atttypid = 'uuid'::regtype
      and (cardinality(array_remove(v_keys, v_organization)) = 1
        or a.atthasdef and not exists (select from pg_constraint f where f.conrelid = a.attrelid and f.contype = 'f' and a.attnum = any (f.conkey)))
    having count(*) = 1;

  select min(a.attname) into v_unknown
    from pg_index i cross join unnest(i.indkey, i.indclass, i.indcollation) with ordinality as k (attnum, class, collation_id, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_opclass o on o.oid = k.class
    where i.indrelid = seal_column.relation and i.indisprimary and k.position <= i.indnkeyatts and a.attname is distinct from v_organization
      and (not exists (select from pg_amproc p where p.amprocfamily = o.opcfamily and p.amproclefttype = o.opcintype and p.amprocnum = 4)
        or exists (select from pg_collation c where c.oid = k.collation_id and not c.collisdeterministic)
        or a.atttypid = 'bpchar'::regtype and a.atttypmod = -1);
  if v_id_column is null and v_unknown is not null then
    raise exception 'key column % of %: equal values of its type may be written differently, so they cannot name a row', quote_ident(v_unknown), v_table
      using errcode = 'TABLE', hint = 'Give the table a key of type uuid, bigint or text.';
  end if;

  v_declared := format_type(v_attribute.atttypid, v_attribute.atttypmod);
  v_type := case when v_declared in ('character varying', 'bpchar') then 'text' else v_declared end;
  v_required := coalesce((options ->> 'required')::boolean, v_attribute.attnotnull);
  v_indexed := searchable or v_unique;
  if v_indexed and v_type ~ '^(json|interval)' then
    raise exception 'a column of type % can be neither searchable nor unique', v_type using errcode = 'TABLE';
  end if;
  if v_unique and exists (select from pg_partitioned_table p where p.partrelid = seal_column.relation and (p.partnatts > 1 or p.partattrs[0] is distinct from (
      select a.attnum from pg_attribute a where a.attrelid = seal_column.relation and a.attname = v_organization))) then
    raise exception 'a column of a partitioned table can be unique only where the organization alone divides it' using errcode = 'TABLE';
  end if;
  perform '' ~ (options ->> 'format');
  -- The owner sees all rows for this one question, and nobody else sees the table meanwhile.
  if v_force then
    execute format('alter table %s no force row level security', v_table);
  end if;
  perform set_config('row_security', 'off', true);
  execute format('select exists (select from %s where %I is not null)', v_table, "column") into v_has_rows;
  if v_has_rows then
    v_state := 'sealing';
    execute format('select count(*) from %s where %I is not null', v_table, "column") into v_count;
    -- What it would not take is refused at once, and not found by the job.
    execute format('select exists (select from %s where %I::text !~ $1)', v_table, "column") using options ->> 'format' into v_is_wrong;
    if v_is_wrong then
      raise exception 'there are values in %.% that do not have its form', v_table, quote_ident("column") using errcode = 'TABLE';
    end if;
  end if;
  if v_required then
    execute format('select exists (select from %s where %I is null)', v_table, "column") into v_is_wrong;
    if v_is_wrong then
      raise exception 'there are rows without a value in %.%, which is to be required', v_table, quote_ident("column") using errcode = 'TABLE';
    end if;
  end if;
  perform set_config('row_security', 'on', true);
  if v_force then
    execute format('alter table %s force row level security', v_table);
  end if;
  v_id := keyring.register_column(seal_column.relation, null, class, v_type, v_organization is not null, permission,
    case when options ? 'write' then options ->> 'write' else permission end, v_required, v_indexed, options ->> 'format',
    coalesce(options ->> 'lookup', 'exact'), coalesce(options ->> 'refusal', 'null'), coalesce((options ->> 'keep_on_null')::boolean, false), v_state);

  -- The columns beside it. `if not exists` is left out on purpose: a column of that name is somebody else's.
  v_hidden := array[keyring.part_name("column", '_sealed')]
    || case when v_indexed then array[keyring.part_name("column", '_index_a'), keyring.part_name("column", '_index_b')] else '{}' end;
  execute format('alter table %s %s', v_table, (select string_agg(format('add column %I bytea', h), ', ') from unnest(v_hidden) h));
  -- Whoever may read the column goes on reading rows as a whole.
  for v_role in
    select case when x.grantee = 0 then 'public' else x.grantee::regrole::text end from aclexplode(v_attribute.attacl) x where x.privilege_type = 'SELECT'
  loop
    execute format('grant select (%s) on %s to %s', (select string_agg(quote_ident(h), ', ') from unnest(v_hidden) h), v_table, v_role);
  end loop;
  -- A default is kept, as text. ANALYZE keeps samples of values: what it has goes with the old type, and it takes no more.
  execute format('alter table %s alter column %I type text using %I::text, alter column %I set statistics 0, alter column %I set statistics 0',
    v_table, "column", "column", "column", v_hidden[1]);
  if v_indexed and v_has_rows then
    -- Finding, and unique values, without a gap until the job is through: what is still plain, and what is sealed
    -- meanwhile, carry the same in slot b. By a rewrite, which runs no trigger.
    execute format('alter table %s alter column %I type bytea using keyring.plain_index(%L, %s, %I)', v_table, v_hidden[3], v_id,
      case when v_organization is null then '''00000000-0000-0000-0000-000000000000''' else quote_ident(v_organization) end, "column");
  end if;
  execute format('alter table %s alter column %I drop not null', v_table, "column");
  execute format('alter table %s add constraint %I check (%I is null%s)', v_table, keyring.part_name("column", '_is_sealed'), "column",
    case when v_has_rows then format(' or %I is null', v_hidden[1]) else '' end);
  execute format('comment on column %s.%I is %L', v_table, v_hidden[1], 'What was sealed of ' || "column" || '.');

  select string_agg(quote_ident(c.name), ', ' order by c.position), string_agg(quote_literal(c.parts), ', ' order by c.position)
    into v_columns, v_arguments
    from (
      select x.name, string_agg(x.part, ' ' order by x.position) as parts, min(x.position) as position
      from (
        select "column" as name, 'door' as part, 1 as position
        union all select v_hidden[1], 'sealed', 2
        union all select v_hidden[2], 'index_a', 3 where v_indexed
        union all select v_hidden[3], 'index_b', 4 where v_indexed
        union all select v_organization, 'organization', 5 where v_organization is not null
        union all select v_id_column, 'id', 6 where v_id_column is not null
        union all select k, 'key', 6 + n::integer from unnest(v_keys) with ordinality u (k, n)
          where v_id_column is null and k is distinct from v_organization
        union all select subject, 'subject', 99 where subject is not null) x
      group by x.name) c;
  -- Names sort the triggers: first, last, and behind. None holds the column's name, which may be long, and may change.
  execute format('create trigger %I before insert or update of %I on %s for each row execute function keyring.seal_door(%L)',
    '!!seal_' || v_id, "column", v_table, v_id);
  execute format('create trigger %I before insert on %s for each row when (%s) execute function keyring.guard_door(%L)',
    '~~seal_' || v_id || '_insert', v_table,
    (select string_agg(format('new.%I is not null', c), ' or ') from unnest("column" || v_hidden) c), v_id);
  execute format('create trigger %I before update on %s for each row when (new.%I is not null or (%s) is distinct from (%s)) execute function keyring.guard_door(%L)',
    '~~seal_' || v_id || '_update', v_table, "column",
    (select string_agg(format('new.%I', c), ', ') from unnest(v_hidden || v_keys || v_organization || subject) c where c is not null),
    (select string_agg(format('old.%I', c), ', ') from unnest(v_hidden || v_keys || v_organization || subject) c where c is not null), v_id);
  foreach v_when in array array['before', 'after'] loop
    execute format('create trigger %I %s insert or update of %s on %s for each statement execute function keyring.leave_door(%L, %s)',
      case v_when when 'before' then '!!enter_' else '~seal_' end || v_id, v_when, v_columns, v_table, v_id, v_arguments);
  end loop;
  -- Said of the table and of each part of it that is there.
  execute (
    select string_agg(format('alter table %s enable always trigger %I', t.tgrelid::regclass, t.tgname), '; ')
    from pg_trigger t where t.tgrelid in (select seal_column.relation union select relid from pg_partition_tree(seal_column.relation))
      and t.tgname in ('!!seal_' || v_id, '~~seal_' || v_id || '_insert', '~~seal_' || v_id || '_update', '~seal_' || v_id, '!!enter_' || v_id));

  -- The function to read by, and to find by.
  v_row := case when v_id_column is not null then format('p.%I', v_id_column) else format('keyring.row_key(%s)', (
    select string_agg(format('%s(p.%I)', t.typsend, a.attname), ', ' order by array_position(v_keys, a.attname))
    from pg_attribute a join pg_type t on t.oid = a.atttypid
    where a.attrelid = seal_column.relation and a.attname = any (v_keys) and a.attname is distinct from v_organization)) end;
  v_reader := format('%I.%I', v_schema, keyring.part_name(v_name, '_' || "column"));
  execute format('create function %s(p %s) returns %s language sql volatile return coalesce(keyring.open_value(%L::uuid, %s, p.%I), p.%I)::%s',
    v_reader, v_table, v_declared, v_id, v_row, v_hidden[1], "column", v_declared);
  execute format('comment on function %s(%s) is %L', v_reader, v_table,
    E'@behavior -*\nOpens ' || "column" || ': null for who may not, and for what was erased.');
  execute format('revoke execute on function %s(%s) from public; grant execute on function %s(%s) to safetypin_member, safetypin_jobs, safetypin_auditor',
    v_reader, v_table, v_reader, v_table);
  v_said := v_said || format('read with %s(%s)', v_reader, v_name);
  if v_indexed then
    for i in 2..3 loop
      begin
        execute format('create %sindex on %s (%s%I)', case when v_unique then 'unique ' else '' end, v_table,
          case when v_organization is not null then quote_ident(v_organization) || ', ' else '' end, v_hidden[i]);
      exception when unique_violation then
        raise exception 'there are equal values in %.%, which is to be unique', v_table, quote_ident("column") using errcode = 'TABLE';
      end;
    end loop;
  end if;
  if searchable then
    v_reader := format('%I.%I', v_schema, keyring.part_name(v_name, '_by_' || "column"));
    execute format($f$create function %s(value text) returns setof %s language sql stable rows 1
      begin atomic
        -- The row as a whole: naming its columns would forbid to change any of them.
        select p from %s p where %s(p.%I = (select keyring.blind_index(%L::uuid, 'a', value)) or p.%I = (select keyring.blind_index(%L::uuid, 'b', value)));
      end$f$, v_reader, v_table, v_table,
      case when v_organization is not null then format('p.%I = (select request.organization_id()) and ', v_organization) else '' end,
      v_hidden[2], v_id, v_hidden[3], v_id);
    execute format('comment on function %s(text) is %L', v_reader, 'Finds by ' || "column" || ': nothing for who may not read it.');
    execute format('revoke execute on function %s(text) from public; grant execute on function %s(text) to safetypin_member, safetypin_jobs', v_reader, v_reader);
    v_said := v_said || format('find with %s(value)', v_reader);
  end if;
  -- A table of somebody else, sealed by an administrator: the functions are that owner's too. What a foreign key changes
  -- is changed in the owner's name, who then runs the triggers.
  if v_owner <> current_user then
    execute format('alter function %I.%I(%s) owner to %I', v_schema, keyring.part_name(v_name, '_' || "column"), v_table, v_owner);
    if searchable then
      execute format('alter function %s(text) owner to %I', v_reader, v_owner);
    end if;
    if exists (select from pg_roles r where r.rolname = current_user and r.rolsuper) then
      execute format('grant usage on schema keyring to %I', v_owner);
      execute format('grant execute on function keyring.door(uuid, oid), keyring.is_stamped(uuid, uuid, uuid, uuid, bytea),
        keyring.seal_value(uuid, uuid, uuid, uuid, text), keyring.row_of(text, text[], jsonb, anyelement), keyring.row_key(bytea[]) to %I', v_owner);
    end if;
  end if;
  perform keyring.let_work(seal_column.relation, v_keys || v_organization || subject || "column" || v_hidden, "column" || v_hidden);
  if v_has_rows then
    perform keyring.begin_work(v_id, 'seal', v_count * case when v_indexed then 2 else 1 end);
    v_said := v_said || array[
      format('a job seals the %s values that are there: safetypin keys shows how far it is', v_count),
      format('then: select keyring.finish(%L, %L);', v_table, "column"),
      format('and then, since old pages hold plain text: vacuum full %s; so do old backups, archives of WAL and replicas that fell behind, and what the audit trail recorded of before', v_table)];
  end if;
  return query select unnest(v_said);
end $$;
comment on function keyring.seal_column(regclass, name, name, text, text, boolean, jsonb) is
  'Seals a column: it takes plain text from any client and is empty ever after; what was written stands sealed beside it, under the key of the row''s subject (a column with a uuid; none: the organization), and opens for who holds the permission. searchable: equality can be looked up. Options: required, unique, format (regular expression), lookup (exact, lower, alphanumeric), refusal (null, error), write (permission to write; default: the same), keep_on_null, organization. Returns what it did. TABLE names what the table lacks.';
