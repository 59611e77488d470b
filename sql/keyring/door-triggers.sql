-- Purpose: the triggers of sealed columns. They touch no key and are not the keeper's: they run with the rights of who
-- writes, since a row may hold types with code of its table's owner in them, and that code must never run as the keeper.

create or replace function keyring.row_key(variadic parts bytea[]) returns uuid
  language sql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select encode(substr(sha256('safetypin row'::bytea || string_agg(int4send(coalesce(length(p), -1)) || coalesce(p, ''), ''::bytea order by n)), 1, 16), 'hex')::uuid
  from unnest(parts) with ordinality as u (p, n)
$$;
comment on function keyring.row_key(bytea[]) is 'A uuid for a row that several columns name, from their binary forms (int8send, textsend …).';

create or replace function keyring.row_of(row_id text, row_keys text[], row_values jsonb, changed anyelement) returns uuid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_parts text;
  v_id uuid;
begin
  if row_id is not null then
    return (row_values ->> row_id)::uuid;
  end if;
  -- The binary form of a value is the same whatever a client has set; its text is not.
  select string_agg(format('%s(($1).%I)', t.typsend, k.name), ', ' order by k.position) into v_parts
    from unnest(row_keys) with ordinality as k (name, position)
    join pg_attribute a on a.attrelid = (select r.typrelid from pg_type r where r.oid = pg_typeof(changed)) and a.attname = k.name
    join pg_type t on t.oid = a.atttypid;
  execute format('select keyring.row_key(%s)', v_parts) using changed into v_id;
  return v_id;
end $$;
comment on function keyring.row_of(text, text[], jsonb, anyelement) is
  'For the triggers: the uuid that stands for a row in associated data: its own, or one made of all its keys.';

create or replace function keyring.seal_door() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_door record;
  v_row jsonb := to_jsonb(new);
  v_value text;
  v_organization uuid;
  v_sealed record;
  v_new jsonb;
  -- A stack of marks, one for each statement under way: one inside of another must not take the other's away.
  v_mark text := 'safetypin.inserted_' || replace(tg_argv[0], '-', '');
  v_marks text := coalesce(current_setting(v_mark, true), '');
  v_now text := extract(epoch from statement_timestamp())::text;
begin
  select d.* into v_door from keyring.door(tg_argv[0]::uuid, tg_relid) d;
  v_value := v_row ->> v_door.door;
  if v_value is null then
    if tg_op = 'INSERT' then
      perform set_config(v_mark, regexp_replace(v_marks, '[^/]*$', ''), true);
      if v_door.required and v_row ->> v_door.sealed is null then
        raise exception 'null value in column "%" of relation "%" is refused', v_door.door, tg_table_name
          using errcode = '23502', schema = tg_table_schema, table = tg_table_name, column = v_door.door;
      end if;
      return new;
    end if;
    -- `excluded` has what this trigger left of the inserted row: taking that for an explicit null would lose the value.
    if substring(v_marks from '[^/]*$') = v_now then
      raise exception 'excluded.% is empty: the value is sealed already', v_door.door
        using errcode = 'KEYEX', table = tg_table_name, column = v_door.door,
        hint = 'Write the value once more, instead of excluded. A MERGE or a query with several parts that inserts values writes no null into others: use two statements.';
    end if;
    if v_door.keep_on_null then
      return new;
    end if;
    if v_door.required then
      raise exception 'null value in column "%" of relation "%" is refused', v_door.door, tg_table_name
        using errcode = '23502', schema = tg_table_schema, table = tg_table_name, column = v_door.door;
    end if;
  end if;
  v_organization := case when v_door.organization is null then '00000000-0000-0000-0000-000000000000'::uuid
    else (v_row ->> v_door.organization)::uuid end;
  select s.* into v_sealed
    from keyring.seal_value(tg_argv[0]::uuid, v_organization,
      keyring.row_of(v_door.row_id, v_door.row_keys, v_row, new), (v_row ->> v_door.subject)::uuid,
      v_value) s;
  -- Plain is null, except while the column is being unsealed.
  v_new := jsonb_build_object(v_door.sealed, v_sealed.sealed, v_door.door, v_sealed.plain);
  if v_door.index_a is not null then
    v_new := v_new || jsonb_build_object(v_door.index_a, v_sealed.index_a, v_door.index_b, v_sealed.index_b);
  end if;
  if tg_op = 'INSERT' and v_door.state <> 'unsealing' then
    perform set_config(v_mark, regexp_replace(v_marks, '[^/]*$', '') || v_now, true);
  end if;
  return jsonb_populate_record(new, v_new);
end $$;
comment on function keyring.seal_door() is
  'Trigger of a sealed column: seals what came through the door and empties it; an explicit null in an update erases. Argument: id of the column. 23502 for null in a required one, KEYEX for excluded, and the errors of keyring.seal_value(). Never names a value.';

create or replace function keyring.guard_door() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_door record;
  v_new jsonb := to_jsonb(new);
  v_old jsonb;
begin
  select d.* into v_door from keyring.door(tg_argv[0]::uuid, tg_relid) d;
  if tg_op = 'UPDATE' then
    v_old := to_jsonb(old);
  end if;
  -- Rows from before the column was sealed keep their text until the job comes to them.
  if v_door.state <> 'unsealing' and v_new ->> v_door.door is not null
    and (v_door.state = 'sealed' or v_old is null or v_new -> v_door.door is distinct from v_old -> v_door.door) then
    raise exception 'plain text was put into column "%" past its seal', v_door.door using errcode = 'KEYFG', column = v_door.door;
  end if;
  -- What values are found by comes with a value, and changes with it; jobs alone replace or empty it.
  if v_new -> v_door.sealed is not distinct from v_old -> v_door.sealed
      and (v_new -> v_door.index_a is distinct from v_old -> v_door.index_a
        or v_new -> v_door.index_b is distinct from v_old -> v_door.index_b)
      and v_door.state <> 'unsealing' and request.task() is null
    or v_new ->> v_door.sealed is null and v_new ->> v_door.door is null and (v_new ->> v_door.index_a is not null or v_new ->> v_door.index_b is not null) then
    raise exception 'a blind index was put past the seal of column "%"', v_door.door using errcode = 'KEYFG', column = v_door.door;
  end if;
  if v_new ->> v_door.sealed is not null
    and (v_old is null
      or v_new -> v_door.sealed is distinct from v_old -> v_door.sealed
      or v_new -> v_door.organization is distinct from v_old -> v_door.organization
      or v_new -> v_door.subject is distinct from v_old -> v_door.subject
      or v_new -> v_door.row_id is distinct from v_old -> v_door.row_id
      or exists (select from unnest(v_door.row_keys) k where v_new -> k is distinct from v_old -> k)) then
    if v_new -> v_door.sealed = v_old -> v_door.sealed then
      raise exception 'what a sealed value is bound to cannot change' using errcode = 'KEYIM', column = v_door.door,
        hint = 'Organization, key and subject of a row with sealed values stay. Write the value once more in the same statement.';
    end if;
    if keyring.is_stamped(tg_argv[0]::uuid,
        case when v_door.organization is null then '00000000-0000-0000-0000-000000000000'::uuid
          else (v_new ->> v_door.organization)::uuid end,
        keyring.row_of(v_door.row_id, v_door.row_keys, v_new, new), (v_new ->> v_door.subject)::uuid,
        (v_new ->> v_door.sealed)::bytea) is not true then
      raise exception 'the ciphertext in column "%" was not made here', v_door.sealed using errcode = 'KEYFG', column = v_door.sealed;
    end if;
  end if;
  return new;
end $$;
comment on function keyring.guard_door() is
  'Trigger behind all others of a table with a sealed column: the door is empty, and the ciphertext was made by seal_door() for this very row (KEYFG); what it is bound to does not change (KEYIM). Argument: id of the column.';

create or replace function keyring.leave_door() returns trigger
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_mark text := 'safetypin.inserted_' || replace(tg_argv[0], '-', '');
  v_marks text := coalesce(current_setting(v_mark, true), '');
begin
  perform set_config(v_mark, case tg_when when 'BEFORE' then v_marks || '/' else regexp_replace(v_marks, '/[^/]*$', '') end, true);
  return null;
end $$;
comment on function keyring.leave_door() is
  'Trigger before and after each statement: makes room for the mark of the row inserted last (see KEYEX), and takes it away again. Its list of columns and its arguments say which column plays which part.';
