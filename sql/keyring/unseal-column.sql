-- Purpose: what only a table's owner can do when a job is through its rows, and having a sealed column back.

create or replace function keyring.count_rows(relation regclass, condition text, most bigint default null) returns bigint
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  -- Rows that a policy would hide from their own owner fail aloud.
  set row_security = off
as $$
declare
  v_force boolean := (select c.relforcerowsecurity from pg_class c where c.oid = count_rows.relation);
  v_count bigint;
begin
  -- The owner sees all rows for this one question, and nobody else sees the table meanwhile.
  if v_force then
    execute format('alter table %s no force row level security', relation);
  end if;
  execute format('select count(*) from (select from %s where %s limit %L) r', relation, condition, most) into v_count;
  if v_force then
    execute format('alter table %s force row level security', relation);
  end if;
  return v_count;
end $$;
comment on function keyring.count_rows(regclass, text, bigint) is
  'For the owner of a table that is locked: how many rows it has for which something is true, policies aside. For keyring.finish() and its kin.';

create or replace function keyring.hide_from_audit(relation regclass, hide boolean default true) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_trigger record;
begin
  for v_trigger in
    select t.tgname, regexp_replace(pg_get_triggerdef(t.oid), '(, ''~doors'')?\)$', case when hide then ', ''~doors'')' else ')' end) as text
      from pg_trigger t
      where t.tgrelid = hide_from_audit.relation and not t.tgisinternal and t.tgfoid = (
          -- By its name: a cast would demand the schema's usage of whoever owns the table.
          select p.oid from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'audit' and p.proname = 'record_change')
  loop
    execute regexp_replace(v_trigger.text, '^CREATE TRIGGER', 'create or replace trigger');
    execute (select string_agg(format('alter table %s enable always trigger %I', t.tgrelid::regclass, t.tgname), '; ')
      from pg_trigger t where t.tgname = v_trigger.tgname
        and t.tgrelid in (select hide_from_audit.relation union select relid from pg_partition_tree(hide_from_audit.relation)));
  end loop;
end $$;
comment on function keyring.hide_from_audit(regclass, boolean) is
  'Tells the audit trigger of a table whether it has sealed columns: what passes through a door, and blind indexes, are not recorded.';

create or replace function keyring.set_check(relation regclass, door text, sealed text, condition text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_name name;
begin
  for v_name in
    select c.conname from pg_constraint c
      where c.conrelid = set_check.relation and c.contype = 'c' and c.conkey <@ (
        select array_agg(a.attnum) from pg_attribute a where a.attrelid = set_check.relation and a.attname in (door, sealed))
        and pg_get_expr(c.conbin, c.conrelid) ~* ' is null'
  loop
    execute format('alter table %s drop constraint %I', relation, v_name);
  end loop;
  if condition is not null then
    execute format('alter table %s add constraint %I check (%s)', relation, keyring.part_name(door, '_is_sealed'), condition);
  end if;
end $$;
comment on function keyring.set_check(regclass, text, text, text) is 'Puts another check on a door, or none.';

create or replace function keyring.finish(relation regclass, "column" name) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set client_min_messages = warning
as $$
-- Invoker: only a table's owner can do what it does.
declare
  v_door record;
begin
  execute format('lock table %s in access exclusive mode', relation);
  select d.* into v_door from keyring.doors() d where d.relation = finish.relation and d.door = "column";
  if not found then
    raise exception '%.% is not sealed', relation, quote_ident("column") using errcode = 'TABLE';
  end if;
  if not keyring.is_over(v_door.id) then
    raise exception 'the job is not through with %.% yet', relation, quote_ident("column") using errcode = 'CNFLT',
      hint = 'safetypin keys shows how far it is.';
  end if;
  -- Asked for here, since an error of the check itself would show the row.
  if keyring.count_rows(relation, format('%I is not null', case v_door.state when 'unsealing' then v_door.sealed else v_door.door end), 1) > 0 then
    raise exception 'there are rows in % that the job did not see', relation using errcode = 'TABLE',
      hint = 'A policy hides them from safetypin_jobs, or a trigger of the table left them as they were.';
  end if;
  if v_door.state = 'unsealing' then
    return query select u from keyring.finish_unsealing(v_door.id) u;
    return;
  end if;
  perform keyring.set_check(relation, v_door.door, v_door.sealed, format('%I is null', v_door.door));
  return next format('%s.%I takes nothing in clear any more', relation, "column");
  return next format('pages that were written before still hold it until: vacuum full %s;', relation);
  return next 'and so do old backups, archives of WAL, and replicas that fell behind; what the audit trail recorded of before stays';
end $$;
comment on function keyring.finish(regclass, name) is
  'Does what needs the owner of a table once the job is through its rows: after keyring.seal_column() on a table with rows the check that the column is empty, after keyring.unseal_column() all the rest of it. Returns what it did and what is left to do. CNFLT before the job is through.';

create or replace function keyring.finish_unsealing(column_id uuid) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set client_min_messages = warning
as $$
declare
  v_door record;
  v_table text;
  v_name text;
  v_default text;
  v_unique boolean;
begin
  select d.* into v_door from keyring.doors() d where d.id = column_id;
  v_table := v_door.relation::text;
  select pg_get_expr(f.adbin, f.adrelid) into v_default
    from pg_attrdef f join pg_attribute a on a.attrelid = f.adrelid and a.attnum = f.adnum
    where f.adrelid = v_door.relation and a.attname = v_door.door;
  v_unique := exists (select from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any (i.indkey::smallint[])
    where i.indrelid = v_door.relation and i.indisunique and a.attname = v_door.index_a);
  perform keyring.forget_column(column_id);
  for v_name in
    select p.oid::regprocedure::text from pg_proc p
      where p.pronamespace = (select c.relnamespace from pg_class c where c.oid = v_door.relation)
        and p.prosqlbody is not null and pg_get_function_sqlbody(p.oid) like '%' || column_id || '%'
  loop
    execute format('drop function %s', v_name);
    return next 'dropped: ' || v_name;
  end loop;
  for v_name in
    select t.tgname from pg_trigger t
      where t.tgrelid = v_door.relation and not t.tgisinternal and encode(t.tgargs, 'escape') like column_id || '%'
        and t.tgfoid in ('keyring.seal_door()'::regprocedure, 'keyring.guard_door()'::regprocedure, 'keyring.leave_door()'::regprocedure)
  loop
    execute format('drop trigger %I on %s', v_name, v_table);
  end loop;
  perform keyring.set_check(v_door.relation, v_door.door, v_door.sealed, null);
  execute format('alter table %s %s', v_table, (
    select string_agg(format('drop column %I', h), ', ') from unnest(array[v_door.sealed, v_door.index_a, v_door.index_b]) h where h is not null));
  execute format('alter table %s alter column %I set statistics -1', v_table, v_door.door);
  if v_door.type <> 'text' then
    execute format('alter table %s alter column %I drop default, alter column %2$I type %s using %2$I::%3$s', v_table, v_door.door, v_door.type);
    if v_default is not null then
      execute format('alter table %s alter column %I set default (%s)::%s', v_table, v_door.door, v_default, v_door.type);
    end if;
  end if;
  return next format('%s.%I is %s again', v_table, v_door.door, v_door.type);
  if v_unique then
    execute format('create unique index on %s (%s%I)', v_table,
      case when v_door.organization is not null then quote_ident(v_door.organization) || ', ' else '' end, v_door.door);
    return next 'its values are unique as they are written';
  end if;
  if v_door.required then
    if keyring.count_rows(v_door.relation, format('%I is null', v_door.door), 1) > 0 then
      return next 'values that were erased are null: it is not made not null again';
    else
      execute format('alter table %s alter column %I set not null', v_table, v_door.door);
    end if;
  end if;
  execute format('revoke select (%I), update (%1$I) on %s from safetypin_jobs', v_door.door, v_table);
  if not exists (select from keyring.doors() d where d.relation = v_door.relation) then
    execute format('revoke all on %s from safetypin_jobs', v_table);
    execute format('drop policy if exists safetypin_work on %s', v_table);
    execute format('drop policy if exists safetypin_work_update on %s', v_table);
    perform keyring.hide_from_audit(v_door.relation, false);
  end if;
end $$;
comment on function keyring.finish_unsealing(uuid) is 'The owner''s last part of unsealing a column. keyring.finish() calls it.';

create or replace function keyring.unseal_column(relation regclass, "column" name, sensitive boolean default false) returns setof text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set client_min_messages = warning
as $$
-- Invoker: only a table's owner can do what it does.
declare
  v_door record;
  v_count bigint;
begin
  execute format('lock table %s in access exclusive mode', relation);
  select d.* into v_door from keyring.doors() d where d.relation = unseal_column.relation and d.door = "column";
  if not found then
    raise exception '%.% is not sealed', relation, quote_ident("column") using errcode = 'TABLE';
  end if;
  if v_door.state = 'unsealing' then
    return query select f from keyring.finish(relation, "column") f;
    return;
  end if;
  if v_door.class = 'sensitive' and not sensitive then
    raise exception '%.% is sensitive: unsealed, nobody records who reads it', relation, quote_ident("column") using errcode = 'TABLE',
      hint = 'If that is meant: keyring.unseal_column(…, sensitive => true).';
  end if;
  perform keyring.set_check(relation, v_door.door, v_door.sealed, format('%I is null or %I is null', v_door.door, v_door.sealed));
  v_count := keyring.count_rows(relation, format('%I is not null', v_door.sealed));
  perform keyring.begin_work(v_door.id, 'unseal', v_count);
  return next format('a job opens the %s values that are there: safetypin keys shows how far it is', v_count);
  return next format('then: select keyring.unseal_column(%L, %L);', relation, "column");
end $$;
comment on function keyring.unseal_column(regclass, name, boolean) is
  'Gives a sealed column back. The first call has a job open what is sealed, while everybody reads and writes; the second, once that is through, gives the column its type again and removes all that was beside it. Whoever may read the row reads the column then, from the first call on. TABLE for a sensitive one, unless that is said.';
