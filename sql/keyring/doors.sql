-- Purpose: sealed columns of anybody's table. The column itself is a door: text goes in by it, and it is empty again
-- before the row reaches a page or the log; what was written stands sealed in a column beside it.
--
-- Which column of a table plays which part is written in one place, the trigger "~seal_<id>" of the table: its list of
-- columns, with one argument for each ('door', 'sealed', 'index_a', 'index_b', 'organization', 'id', 'key', 'subject',
-- or two of them in one). PostgreSQL keeps that list through renames, dumps and partitions, so no name is stored here.
--
-- Value in a door's column: version 2 (1 byte), stamp (16), key id (16), IV (16), ciphertext, tag (32); associated data
-- as in internal.sql. The stamp is an HMAC under a key of this database over associated data, subject and value: it tells that a
-- ciphertext was made here, for this row and whom it is about, where no application key is at hand (a row that moves, a copy put back).

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

create or replace function keyring_private.written(value anyelement) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set datestyle = 'ISO, YMD'
  set intervalstyle = 'iso_8601'
  set timezone = 'UTC'
  set extra_float_digits = 1
as $$
begin
  return value::text;
end $$;
comment on function keyring_private.written(anyelement) is 'A value as text that each client reads alike, whatever it has set.';

create or replace function keyring_private.canonical(value text, type text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_length integer := substring(type from '^character.*[(]([0-9]+)[)]$');
  v_text text;
begin
  if v_length is not null then
    -- A cast would cut without a word. Spaces too many are cut by PostgreSQL itself.
    if length(rtrim(value, ' ')) > v_length and rtrim(substr(value, v_length + 1), ' ') <> '' then
      raise exception 'the value is too long for its column' using errcode = '22001';
    end if;
    return case when type like 'character(%' then rtrim(value, ' ') else left(value, v_length) end;
  end if;
  begin
    -- Read as the client has set it, as a plain column would; written as nobody has set it. `type` is one of the list in
    -- keyring.register_column(): PostgreSQL's own, so nobody's code runs here.
    execute format('select keyring_private.written($1::%s)', type) using value into v_text;
  exception when others then
    -- PostgreSQL's own message would hold the value.
    raise exception 'the value is not a %', type using errcode = '22023';
  end;
  return v_text;
end $$;
comment on function keyring_private.canonical(text, text) is 'A value as its type writes it, whatever the client has set; 22023 and 22001 for what the type does not take.';

create or replace function keyring_private.lookup_form(value text, lookup text, type text) returns text
  language sql immutable parallel safe
return case
    -- What is equal must look equal: 1.0 and 1.00, 0 and -0.
    when type = 'numeric' then trim_scale(value::numeric)::text
    when value = '-0' and type in ('real', 'double precision') then '0'
    when lookup = 'exact' then value
    when lookup = 'lower' then lower(value)
    else lower(regexp_replace(value, '[^[:alnum:]]', '', 'g'))
  end;
comment on function keyring_private.lookup_form(text, text, text) is 'What of a value counts when it is looked for.';

create or replace function keyring_private.index_value(
  column_id uuid, slot text, organization_id uuid, value text, make boolean, credential_hash bytea default null
) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key bytea;
  v_is_new boolean;
  v_version integer;
begin
  select keyring_private.unwrap(
      keyring_private.key_encryption_key(k.root_version, index_value.credential_hash), k.wrapped, '\x03'::bytea || uuid_send(k.column_id))
    into v_key
    from keyring_private.index_keys k
    where k.column_id = index_value.column_id and k.slot = index_value.slot;
  v_is_new := v_key is null;
  if v_is_new and make and not exists (select from keyring_private.index_keys k where k.column_id = index_value.column_id) then
    v_version := keyring_private.newest_root();
    insert into keyring_private.index_keys (column_id, slot, root_version, wrapped)
      values (index_value.column_id, index_value.slot, v_version, keyring_private.wrap(
        keyring_private.key_encryption_key(v_version), extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(index_value.column_id)))
      on conflict on constraint index_keys_pkey do nothing;
    return keyring_private.index_value(column_id, slot, organization_id, value, false);
  end if;
  return extensions.hmac(uuid_send(organization_id) || convert_to(value, 'UTF8'), v_key, 'sha256');
end $$;
comment on function keyring_private.index_value(uuid, text, uuid, text, boolean, bytea) is
  'Blind index of a value in one slot; null where the slot has no key. The first value of a column makes the key.';

create or replace function keyring_private.plain_index(column_id uuid, organization_id uuid, form text) returns bytea
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select sha256(k.outer_pad || sha256(k.inner_pad || '\x03'::bytea || uuid_send(column_id) || uuid_send(organization_id)
        || convert_to(form, 'UTF8')))
    from keyring_private.seal_keys k where k.purpose = 'value');
end $$;
comment on function keyring_private.plain_index(uuid, uuid, text) is
  'What stands in slot b while the rows of a column are being sealed: tells equal values where some are still plain. Under a key of this database alone, since no application takes part when a column is sealed; taken out at the end.';

create or replace function keyring.plain_index(column_id uuid, organization_id uuid, value text) returns bytea
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_column keyring_private.sealed_columns;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = plain_index.column_id and c.state = 'sealing';
  return keyring_private.plain_index(v_column.id, plain_index.organization_id,
    keyring_private.lookup_form(plain_index.value, v_column.lookup, v_column.type));
end $$;
comment on function keyring.plain_index(uuid, uuid, text) is
  'For keyring.seal_column(): the index of a value that is still plain. Null unless the column is being sealed.';

create or replace function keyring.door(column_id uuid, relation oid,
  out door text, out sealed text, out index_a text, out index_b text, out organization text, out row_id text, out row_keys text[],
  out subject text, out required boolean, out keep_on_null boolean, out state text)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- The view keyring_private.doors for one column, twice for each row that is written: so without its aggregates.
declare
  v_relation oid;
  v_names text[];
  v_parts text[];
  v_part text;
begin
  select c.relation, c.required, c.keep_on_null, c.state,
      -- PostgreSQL writes an argument's end as a backslash and three zeros.
      string_to_array(encode(t.tgargs, 'escape'), chr(92) || '000'),
      array(select a.attname::text
        from unnest(t.tgattr::smallint[]) with ordinality as u (number, position)
        join pg_attribute a on a.attrelid = t.tgrelid and a.attnum = u.number
        order by u.position)
    into v_relation, door.required, door.keep_on_null, door.state, v_parts, v_names
    from keyring_private.sealed_columns c
    join pg_trigger t on t.tgrelid = c.relation and t.tgname = '~seal_' || c.id
    where c.id = door.column_id;
  if v_relation is distinct from door.relation
    and (v_relation is null or not exists (select from pg_partition_ancestors(door.relation) a where a = v_relation)) then
    raise exception 'this trigger belongs to another table' using errcode = 'KEYFG';
  end if;
  for i in 1..cardinality(v_names) loop
    foreach v_part in array string_to_array(v_parts[i + 1], ' ') loop
      case v_part
        when 'door' then door := v_names[i];
        when 'sealed' then sealed := v_names[i];
        when 'index_a' then index_a := v_names[i];
        when 'index_b' then index_b := v_names[i];
        when 'organization' then organization := v_names[i];
        when 'id' then row_id := v_names[i];
        when 'key' then row_keys := row_keys || v_names[i];
        when 'subject' then subject := v_names[i];
      end case;
    end loop;
  end loop;
end $$;
comment on function keyring.door(uuid, oid) is
  'For the triggers: which column of a table, or of a partition of it, plays which part for a sealed column. Tells names, no value. KEYFG for a table that was not sealed.';

create or replace function keyring_private.seal_for_door(
  column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text, credential_hash bytea default null
) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key_id uuid := keyring_private.ensure_data_key(subject, credential_hash);
  v_data bytea := keyring_private.door_data(column_id, organization_id, row_id, uuid_send(v_key_id));
  v_sealed bytea;
begin
  v_sealed := uuid_send(v_key_id) || keyring_private.wrap(
    keyring_private.find_data_key(v_key_id, credential_hash), keyring_private.pad(convert_to(value, 'UTF8')), v_data);
  return (select '\x02'::bytea || keyring_private.stamp(v_data || uuid_send(seal_for_door.subject) || v_sealed, k.inner_pad, k.outer_pad) || v_sealed
    from keyring_private.seal_keys k where k.purpose = 'value');
end $$;
comment on function keyring_private.seal_for_door(uuid, uuid, uuid, uuid, text, bytea) is
  'Seals a value for a row of a door''s column under the subject''s current key.';

create or replace function keyring.seal_value(column_id uuid, organization_id uuid, row_id uuid, subject uuid, value text,
  out sealed bytea, out index_a bytea, out index_b bytea, out plain text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows from the keeper: sealing. What it gives can be stored by nobody but the triggers; the checks: the active
-- organization (or the job that goes through the rows), and the permission to write the column.
declare
  v_column keyring_private.sealed_columns;
  v_value text := value;
  v_standing record;
  v_credential bytea;
  v_form text;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = seal_value.column_id and c.relation is not null;
  if not found then
    raise exception 'no such sealed column' using errcode = '22023';
  end if;
  if pg_trigger_depth() = 0 then
    -- Called by hand it would answer what its blind index is to who may write a value and read none.
    raise exception 'values are sealed by triggers' using errcode = 'DENYD';
  end if;
  -- A work that goes through the rows of a table is asked for first: it does so for each of them.
  if v_column.state = 'sealed' or not keyring_private.at_work(seal_value.column_id) then
    v_standing := request_private.standing(v_column.write_permission);
    v_credential := v_standing.credential_hash;
    if organization_id is distinct from '00000000-0000-0000-0000-000000000000' and organization_id is distinct from v_standing.organization_id
        or v_column.write_permission is not null and not v_standing.may then
      if not keyring_private.at_work(seal_value.column_id) then
        if request.kind() is null then
          raise exception 'sealing needs a request that is open' using errcode = 'CTXNO';
        end if;
        raise exception 'this column may not be written' using errcode = 'DENYD';
      end if;
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
  if v_column.state = 'unsealing' then
    plain := v_value;
  else
    sealed := keyring_private.seal_for_door(column_id, organization_id, row_id, coalesce(subject, organization_id), v_value,
      v_credential);
  end if;
  if v_column.indexed then
    v_form := keyring_private.lookup_form(v_value, v_column.lookup, v_column.type);
    index_a := keyring_private.index_value(column_id, 'a', organization_id, v_form, true, v_credential);
    index_b := case when v_column.state = 'sealing' then keyring_private.plain_index(column_id, organization_id, v_form)
      else keyring_private.index_value(column_id, 'b', organization_id, v_form, false, v_credential) end;
  end if;
end $$;
comment on function keyring.seal_value(uuid, uuid, uuid, uuid, text) is
  'For the triggers: seals a value for a row of a sealed column, with its blind indexes; null for null. While the column is being unsealed, plain is the value as its type writes it. CTXNO, DENYD for who may not write it and outside of a trigger, 22023 and 23514 for what the column does not take, KEYNO without an application key. Never names a value.';

create or replace function keyring.is_stamped(column_id uuid, organization_id uuid, row_id uuid, subject uuid, sealed bytea) returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  -- Both sides are hashed before they are compared: the time it takes says nothing about the right stamp.
  return length(sealed) >= 113 and get_byte(sealed, 0) = 2 and (
    select sha256(substr(sealed, 2, 16)) = sha256(keyring_private.stamp(
        keyring_private.door_data(column_id, organization_id, row_id, substr(sealed, 18, 16))
          || uuid_send(coalesce(subject, organization_id)) || substr(sealed, 18),
        k.inner_pad, k.outer_pad))
      from keyring_private.seal_keys k where k.purpose = 'value');
end $$;
comment on function keyring.is_stamped(uuid, uuid, uuid, uuid, bytea) is
  'For the triggers: whether this database sealed a value for this column, organization, row and subject. Opens nothing.';

reset role;
reset row_security;
revoke create on schema keyring, keyring_private from safetypin_keeper;
