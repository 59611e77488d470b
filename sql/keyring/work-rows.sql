-- Purpose: works on rows of other tables, as the worker's login does them: with the rights that keyring.seal_column() gave
-- it on the table, under its policies, inside the job. Whatever of the table's owner runs on the way, a trigger say, runs
-- with these rights too, and never as the keeper.

create or replace function keyring.work_rows(kind text, step text, column_id uuid, relation oid, "position" jsonb, batch integer,
  out rows_done integer, out outcome text, out after jsonb)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
-- Goes over the table by its primary key. A row that somebody holds is left out: nobody waits for this, and this waits for
-- nobody. What was left out is found when it begins anew, which it does until there is nothing.
declare
  v_door record;
  v_table text := relation::regclass::text;
  v_keys text;
  v_named text;
  v_names text;
  v_after text;
  v_row text;
  v_needed text;
  v_call text;
  v_change text;
  v_else text;
  v_is_left boolean;
  v_old text;
  v_new text;
begin
  select d.* into v_door from keyring.door(column_id, relation) d;
  select string_agg(format('t.%I', a.attname), ', ' order by k.position),
      string_agg(format('t.%I as k%s', a.attname, k.position), ', ' order by k.position),
      string_agg(format('k%s', k.position), ', ' order by k.position),
      string_agg(format('($2 ->> %s)::%s', k.position - 1, format_type(a.atttypid, a.atttypmod)), ', ' order by k.position),
      format('keyring.row_key(%s)', string_agg(format('%s(t.%I)', y.typsend, a.attname), ', ' order by array_position(v_door.row_keys, a.attname::text))
        filter (where a.attname = any (v_door.row_keys)))
    into v_keys, v_named, v_names, v_after, v_row
    from pg_index i cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    join pg_type y on y.oid = a.atttypid
    where i.indrelid = work_rows.relation and i.indisprimary and k.position <= i.indnkeyatts;

  v_new := case when "position" ->> 'slot' = 'b' then v_door.index_b else v_door.index_a end;
  v_old := case when "position" ->> 'slot' = 'b' then v_door.index_a else v_door.index_b end;
  case kind || ' ' || step
    when 'seal rows' then
      v_needed := format('t.%I is not null', v_door.door);
      v_change := format('%1$I = t.%1$I', v_door.door);
    when 'seal clear' then
      v_needed := format('t.%I is not null', v_door.index_b);
      v_change := format('%I = null', v_door.index_b);
    when 'unseal rows' then
      v_needed := format('t.%I is not null', v_door.sealed);
      v_call := format('keyring.unseal_values(%L, a.organizations, a.row_ids, a.sealed)', column_id);
      -- What was erased stays null. Its row is not written through the door, where a required column refuses null.
      v_change := format('%I = o.value', v_door.door);
      v_else := (select string_agg(format('%I = null', c), ', ') from unnest(array[v_door.sealed, v_door.index_a, v_door.index_b]) c where c is not null);
    when 'reseal rows' then
      v_needed := format('keyring.is_stale(t.%I)', v_door.sealed)
        || case when "position" ? 'subject' then format(' and t.%I = %L', coalesce(v_door.subject, v_door.organization), "position" ->> 'subject') else '' end;
      v_call := format('keyring.reseal_values(%L, a.organizations, a.row_ids, a.subjects, a.sealed)', column_id);
      v_change := format('%I = o.value', v_door.sealed);
    when 'reindex fill' then
      v_needed := format('t.%I is not null and t.%I is null', v_old, v_new);
      v_call := format('keyring.index_values(%L, a.organizations, a.row_ids, a.sealed)', column_id);
      v_change := format('%I = o.value', v_new);
      v_else := format('%I = null', v_old);
    when 'reindex clear' then
      v_needed := format('t.%I is not null', v_old);
      v_change := format('%I = null', v_old);
  end case;

  execute concat('with locked as materialized (select ', v_named, ', ',
      coalesce('t.' || quote_ident(v_door.organization), '''00000000-0000-0000-0000-000000000000''::uuid'), ' as organization, ',
      coalesce('t.' || quote_ident(v_door.row_id), v_row), ' as row_id, ', coalesce('t.' || quote_ident(v_door.subject), 'null::uuid'), ' as subject, ', 't.' || quote_ident(v_door.sealed), ' as sealed from ', v_table,
      ' t where ', v_needed, case when "position" -> 'after' is not null then format(' and (%s) > (%s)', v_keys, v_after) end,
      ' order by ', v_keys, ' limit $1 for no key update of t skip locked),
    picked as materialized (select row_number() over (order by ', v_names, ')::integer as number, l.* from locked l),
    opened as materialized (', coalesce('select o.number, o.value, o.problem from (select array_agg(organization order by number) as organizations,
        array_agg(row_id order by number) as row_ids, array_agg(subject order by number) as subjects, array_agg(sealed order by number) as sealed from picked) a
      cross join lateral ' || v_call || ' o', 'select null::integer as number'), '),
    changed as (update ', v_table, ' t set ', v_change, ' from picked p left join opened o on o.number = p.number where (',
      v_keys, ') = (', v_names, ')', case when v_else is not null then ' and o.problem is null' end, ' returning 1),
    others as (', coalesce('update ' || v_table || ' t set ' || v_else || ' from picked p join opened o on o.number = p.number where ('
      || v_keys || ') = (' || v_names || ') and o.problem is not null returning 1', 'select where false'), ')
    select (select count(*) from changed) + (select count(*) from others),
      (select jsonb_build_array(', v_names, ') from picked order by number desc limit 1)')
    using batch, "position" -> 'after' into rows_done, after;
  if after is not null then
    outcome := 'more';
    return;
  end if;
  execute concat('select exists (select from ', v_table, ' t where ', v_needed, ')') into v_is_left;
  outcome := case when v_is_left then 'wait' else 'over' end;
end $$;
comment on function keyring.work_rows(text, text, uuid, oid, jsonb, integer) is
  'One batch of a work on the rows of a table with a sealed column, as the worker: how many rows, whether the step is over, and the key of the last row. keyring.work() calls it.';

create or replace function keyring.work(batch integer) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_work record;
  v_rows record;
  v_problem text;
begin
  select w.* into v_work from keyring.take_work(batch) w;
  if v_work.id is null then
    return v_work.answer;
  end if;
  begin
    -- Rows of a batch are locked until its end: some tenths of a second.
    select r.* into v_rows
      from keyring.work_rows(v_work.kind, v_work.step, v_work.column_id, v_work.relation, v_work."position", least(greatest(batch, 1), 250)) r;
  exception when others then
    -- The envelope of this job is of no use: the worker must hear of it, so that it makes another.
    if sqlstate = 'KEYNO' then
      raise;
    end if;
    v_problem := sqlstate;
  end;
  if v_problem is not null then
    return keyring.end_batch(null, 'more', v_problem, null);
  end if;
  return keyring.end_batch(v_rows.rows_done, v_rows.outcome, null, v_rows.after);
end $$;
comment on function keyring.work(integer) is
  'Task keyring__work: does one batch of the oldest unfinished work that nobody is at; 0 when there is none. A batch that fails leaves its SQLSTATE and is tried again. DENYD outside its job. Runs as the worker: only what it asks of the keeper runs as that.';

create or replace function keyring.let_work(relation regclass, "reads" name[], "writes" name[]) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema %I to safetypin_jobs', (
    select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = let_work.relation));
  execute format('grant select (%s), update (%s) on %s to safetypin_jobs',
    (select string_agg(distinct quote_ident(c), ', ') from unnest("reads") c where c is not null),
    (select string_agg(quote_ident(c), ', ') from unnest("writes") c), relation);
  -- They count once row security is on, now or later.
  if not exists (select from pg_policy p where p.polrelid = let_work.relation and p.polname = 'safetypin_work') then
    execute format('create policy safetypin_work on %s for select to safetypin_jobs using ((select keyring.at_work(%L::regclass)))', relation, relation);
    execute format('create policy safetypin_work_update on %s for update to safetypin_jobs using ((select keyring.at_work(%L::regclass))) with check ((select keyring.at_work(%2$L::regclass)))',
      relation, relation);
  end if;
  perform keyring.hide_from_audit(relation);
end $$;
comment on function keyring.let_work(regclass, name[], name[]) is
  'For keyring.seal_column(): what the worker may do on a table with a sealed column, in batches of works on that table alone.';
