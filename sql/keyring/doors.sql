-- Purpose: sealed columns of anybody's table. The column itself is a door: text goes in by it, and it is empty again
-- before the row reaches a page or the log; what was written stands sealed in a column beside it.
--
-- Which column of a table plays which part is written in one place, the trigger "~seal_<id>" of the table: its list of
-- columns, with one argument for each ('door', 'sealed', 'index_a', 'index_b', 'organization', 'id', 'key', 'subject',
-- or two of them in one). PostgreSQL keeps that list through renames, dumps and partitions, so no name is stored here.
--
-- Value in a door's column: version 2 (1 byte), stamp (16), key id (16), IV (16), ciphertext, tag (32); associated data
-- as in internal.sql. The stamp is an HMAC under a key of this database over associated data and value: it tells that a
-- ciphertext was made here, for this row, where no application key is at hand (a row that moves, a copy put back).

grant create on schema keyring, keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace view keyring_private.doors with (security_invoker = true) as
  select c.id, c.relation, c.class, c.type, c.permission, c.write_permission, c.required, c.indexed, c.format, c.lookup,
    c.refusal, c.keep_on_null, c.state,
    p.door, p.sealed, p.index_a, p.index_b, p.organization, p.row_id, p.row_keys, p.subject
  from keyring_private.sealed_columns c
  cross join lateral (
    select max(a.attname::text) filter (where 'door' = any (x.parts)) as door,
      max(a.attname::text) filter (where 'sealed' = any (x.parts)) as sealed,
      max(a.attname::text) filter (where 'index_a' = any (x.parts)) as index_a,
      max(a.attname::text) filter (where 'index_b' = any (x.parts)) as index_b,
      max(a.attname::text) filter (where 'organization' = any (x.parts)) as organization,
      max(a.attname::text) filter (where 'id' = any (x.parts)) as row_id,
      array_agg(a.attname::text order by x.position) filter (where 'key' = any (x.parts)) as row_keys,
      max(a.attname::text) filter (where 'subject' = any (x.parts)) as subject
    from pg_trigger t
    cross join lateral (
      select l.number, string_to_array(l.parts, ' ') as parts, l.position
      from unnest(t.tgattr::smallint[], (string_to_array(encode(t.tgargs, 'escape'), '\000'))[2:])
        with ordinality as l (number, parts, position)) x
    join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = x.number
    where t.tgrelid = c.relation and t.tgname = '~seal_' || c.id) p
  where c.relation is not null and p.door is not null;
comment on view keyring_private.doors is 'The sealed columns of other tables, with the names that their parts have now.';
comment on column keyring_private.doors.door is 'The column that takes plain text and is always empty.';
comment on column keyring_private.doors.sealed is 'The hidden column with what was sealed.';
comment on column keyring_private.doors.index_a is 'First blind index, or null.';
comment on column keyring_private.doors.index_b is 'Second blind index, in use while the index key is replaced.';
comment on column keyring_private.doors.organization is 'The column with the organization, or null.';
comment on column keyring_private.doors.row_id is 'The uuid that names a row, or null where row_keys do.';
comment on column keyring_private.doors.row_keys is 'The columns that name a row together.';
comment on column keyring_private.doors.subject is 'The column with whose key seals; null: the organization''s.';

create or replace function keyring_private.door_data(column_id uuid, organization_id uuid, row_id uuid, key_id bytea) returns bytea
  language sql immutable parallel safe
return '\x02'::bytea || uuid_send(column_id) || uuid_send(organization_id) || uuid_send(row_id) || key_id;
comment on function keyring_private.door_data(uuid, uuid, uuid, bytea) is 'Associated data of a value in a door''s column.';

create or replace function keyring_private.stamp(data bytea, inner_pad bytea, outer_pad bytea) returns bytea
  language sql immutable parallel safe
return substr(sha256(outer_pad || sha256(inner_pad || data)), 1, 16);
comment on function keyring_private.stamp(bytea, bytea, bytea) is 'The first half of an HMAC-SHA-256 under the two padded blocks of a key.';

create or replace function keyring_private.canonical(value text, type text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD'
  set intervalstyle = 'iso_8601'
  set timezone = 'UTC'
  set extra_float_digits = 1
as $$
declare
  v_text text;
begin
  -- `type` is one of the list in keyring.register_column(): PostgreSQL's own, so nobody's code runs here.
  execute format('select $1::%s::text', type) using value into v_text;
  return v_text;
exception when others then
  -- PostgreSQL's own message would hold the value.
  raise exception 'the value is not a %', type using errcode = '22023';
end $$;
comment on function keyring_private.canonical(text, text) is 'A value as its type writes it, whatever the client has set; 22023 for what the type does not take.';

create or replace function keyring_private.lookup_form(value text, lookup text) returns text
  language sql immutable parallel safe
return case lookup
    when 'exact' then value
    when 'lower' then lower(value)
    else lower(regexp_replace(value, '[^[:alnum:]]', '', 'g'))
  end;
comment on function keyring_private.lookup_form(text, text) is 'What of a value counts when it is looked for.';

create or replace function keyring_private.index_value(column_id uuid, slot text, organization_id uuid, value text, make boolean) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key bytea;
  v_is_new boolean;
  v_version integer;
begin
  select keyring_private.unwrap(keyring_private.key_encryption_key(k.root_version), k.wrapped, '\x03'::bytea || uuid_send(k.column_id))
    into v_key
    from keyring_private.index_keys k
    where k.column_id = index_value.column_id and k.slot = index_value.slot;
  v_is_new := v_key is null;
  if v_is_new and make and not exists (select from keyring_private.index_keys k where k.column_id = index_value.column_id) then
    select max(r.version) into v_version from keyring_private.roots r;
    insert into keyring_private.index_keys (column_id, slot, root_version, wrapped)
      values (index_value.column_id, index_value.slot, v_version, keyring_private.wrap(
        keyring_private.key_encryption_key(v_version), extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(index_value.column_id)))
      on conflict on constraint index_keys_pkey do nothing;
    return keyring_private.index_value(column_id, slot, organization_id, value, false);
  end if;
  return extensions.hmac(uuid_send(organization_id) || convert_to(value, 'UTF8'), v_key, 'sha256');
end $$;
comment on function keyring_private.index_value(uuid, text, uuid, text, boolean) is
  'Blind index of a value in one slot; null where the slot has no key. The first value of a column makes the key.';

create or replace function keyring.door(column_id uuid, relation oid,
  out door text, out sealed text, out index_a text, out index_b text, out organization text, out row_id text, out row_keys text[],
  out subject text, out required boolean, out keep_on_null boolean, out state text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  select d.door, d.sealed, d.index_a, d.index_b, d.organization, d.row_id, d.row_keys, d.subject, d.required, d.keep_on_null, d.state
    into door.door, door.sealed, door.index_a, door.index_b, door.organization, door.row_id, door.row_keys, door.subject,
      door.required, door.keep_on_null, door.state
    from keyring_private.doors d
    where d.id = door.column_id
      and (d.relation = door.relation or d.relation in (select pg_partition_ancestors(door.relation)));
  if not found then
    raise exception 'this trigger belongs to another table' using errcode = 'KEYFG';
  end if;
end $$;
comment on function keyring.door(uuid, oid) is
  'For the triggers: which column of a table, or of a partition of it, plays which part for a sealed column. Tells names, no value. KEYFG for a table that was not sealed.';

create or replace function keyring.seal_value(column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text,
  out sealed bytea, out index_a bytea, out index_b bytea)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: sealing. What it gives can be stored by nobody but the triggers; the checks: the active
-- organization (or the job that goes through the rows), and the permission to write the column.
declare
  v_column keyring_private.sealed_columns;
  v_value text := value;
  v_form text;
  v_key_id uuid;
  v_data bytea;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = seal_value.column_id and c.relation is not null;
  if not found then
    raise exception 'no such sealed column' using errcode = '22023';
  end if;
  if organization_id is distinct from platform.no_organization() and organization_id is distinct from request.organization_id()
      or v_column.write_permission is not null and not request.can(v_column.write_permission) then
    if request.task() is distinct from 'keyring__work' then
      if request.kind() is null then
        raise exception 'sealing needs a request that is open' using errcode = 'CTXNO';
      end if;
      raise exception 'this column may not be written' using errcode = 'DENYD';
    end if;
  end if;
  if value is null then
    return;
  end if;
  if v_column.type <> 'text' then
    v_value := keyring_private.canonical(v_value, v_column.type);
  end if;
  if v_value !~ v_column.format then
    raise exception 'the value has not the form of its column' using errcode = '23514';
  end if;
  v_key_id := keyring_private.ensure_data_key(coalesce(seal_value.subject, seal_value.organization_id));
  v_data := keyring_private.door_data(column_id, organization_id, row_id, uuid_send(v_key_id));
  sealed := uuid_send(v_key_id) || keyring_private.wrap(
    keyring_private.data_key(v_key_id), keyring_private.pad(convert_to(v_value, 'UTF8')), v_data);
  select '\x02'::bytea || keyring_private.stamp(v_data || sealed, k.inner_pad, k.outer_pad) || sealed into sealed
    from keyring_private.seal_keys k where k.purpose = 'value';
  if v_column.indexed then
    v_form := keyring_private.lookup_form(v_value, v_column.lookup);
    index_a := keyring_private.index_value(column_id, 'a', organization_id, v_form, true);
    index_b := keyring_private.index_value(column_id, 'b', organization_id, v_form, false);
  end if;
end $$;
comment on function keyring.seal_value(uuid, uuid, uuid, uuid, text) is
  'For the triggers: seals a value for a row of a sealed column, with its blind indexes; null for null. CTXNO, DENYD for who may not write it, 22023 and 23514 for what the column does not take, KEYNO without an application key. Never names a value.';

create or replace function keyring.is_stamped(column_id uuid, organization_id uuid, row_id uuid, sealed bytea) returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Both sides are hashed before they are compared: the time it takes says nothing about the right stamp.
  return length(sealed) >= 113 and get_byte(sealed, 0) = 2 and (
    select sha256(substr(sealed, 2, 16)) = sha256(keyring_private.stamp(
        keyring_private.door_data(column_id, organization_id, row_id, substr(sealed, 18, 16)) || substr(sealed, 18),
        k.inner_pad, k.outer_pad))
      from keyring_private.seal_keys k where k.purpose = 'value');
end $$;
comment on function keyring.is_stamped(uuid, uuid, uuid, bytea) is
  'For the triggers: whether this database sealed a value for this column, organization and row. Opens nothing.';

reset role;
reset row_security;
revoke create on schema keyring, keyring_private from safetypin_keeper;

-- The triggers touch no key and are not the keeper's. They run with the rights of who writes: a row may hold types with code of its table''s owner in them, and
-- that code must never run as the keeper.

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
    join pg_attribute a on a.attrelid = pg_typeof(changed)::text::regclass and a.attname = k.name
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
begin
  select d.* into v_door from keyring.door(tg_argv[0]::uuid, tg_relid) d;
  v_value := v_row ->> v_door.door;
  if v_value is null then
    if tg_op = 'INSERT' then
      perform set_config('safetypin.inserted', '', true);
      if v_door.required and v_row ->> v_door.sealed is null then
        raise exception 'null value in column "%" of relation "%" is refused', v_door.door, tg_table_name
          using errcode = '23502', schema = tg_table_schema, table = tg_table_name, column = v_door.door;
      end if;
      return new;
    end if;
    -- `excluded` has what this trigger left of the inserted row: taking that for an explicit null would lose the value.
    if current_setting('safetypin.inserted', true) = concat_ws(' ', tg_argv[0], statement_timestamp()) then
      raise exception 'excluded.% is empty: the value is sealed already', v_door.door
        using errcode = 'KEYEX', hint = 'Write the value once more, instead of excluded.', table = tg_table_name, column = v_door.door;
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
      case when v_door.state <> 'unsealing' then v_value end) s;
  v_new := jsonb_build_object(v_door.sealed, v_sealed.sealed);
  if v_door.index_a is not null then
    v_new := v_new || jsonb_build_object(v_door.index_a, v_sealed.index_a, v_door.index_b, v_sealed.index_b);
  end if;
  if v_door.state <> 'unsealing' then
    v_new := v_new || jsonb_build_object(v_door.door, null);
    if tg_op = 'INSERT' then
      perform set_config('safetypin.inserted', concat_ws(' ', tg_argv[0], statement_timestamp()), true);
    end if;
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
    if not keyring.is_stamped(tg_argv[0]::uuid,
        case when v_door.organization is null then '00000000-0000-0000-0000-000000000000'::uuid
          else (v_new ->> v_door.organization)::uuid end,
        keyring.row_of(v_door.row_id, v_door.row_keys, v_new, new), (v_new ->> v_door.sealed)::bytea) then
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
begin
  perform set_config('safetypin.inserted', '', true);
  return null;
end $$;
comment on function keyring.leave_door() is
  'Trigger after each statement: forgets which row was inserted last (see KEYEX). Its list of columns and its arguments say which column plays which part.';
