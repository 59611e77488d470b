-- Purpose: opening and finding sealed values of other tables' columns, for whoever may. One value at a time for SQL,
-- a set at once for lists.

grant create on schema keyring, keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring_private.may_open(column_id uuid,
  out opened keyring_private.sealed_columns, out organization_id uuid, out credential_hash bytea)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_standing record;
begin
  select c.* into opened from keyring_private.sealed_columns c where c.id = may_open.column_id and c.relation is not null;
  if not found then
    raise exception 'no such sealed column' using errcode = '22023';
  end if;
  v_standing := request_private.standing(opened.permission);
  if not v_standing.may then
    if request.kind() is null then
      raise exception 'opening needs a request that is open' using errcode = 'CTXNO';
    end if;
    if opened.refusal = 'error' then
      raise exception 'this column may not be opened' using errcode = 'DENYD';
    end if;
    opened := null;
    return;
  end if;
  organization_id := case when opened.tenant then v_standing.organization_id else platform.no_organization() end;
  credential_hash := v_standing.credential_hash;
end $$;
comment on function keyring_private.may_open(uuid) is
  'The column, if who asks may open it, with the organization that its values are bound to and the hash of the credential; null, or DENYD where the column says so, if not. CTXNO without a request.';

create or replace function keyring.open_values(column_id uuid, row_ids uuid[], sealed bytea[])
  returns table (number integer, value text, problem text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
  -- For a few values PostgreSQL would plan the query below anew at each call, which costs more than opening them.
  set plan_cache_mode = force_generic_plan
as $$
-- Borrows from the keeper: opening. The checks: the permission of the column, and the active organization, which is
-- part of what each value is bound to: a value of another one does not open.
declare
  v_asker record := keyring_private.may_open(open_values.column_id);
  v_column keyring_private.sealed_columns := v_asker.opened;
  v_credential bytea := v_asker.credential_hash;
  v_prefix bytea;
begin
  if v_column.id is null then
    return query select n::integer, null::text, case when s is not null then 'DENYD' end
      from unnest(open_values.sealed) with ordinality u (s, n);
    return;
  end if;
  if cardinality(array_remove(open_values.sealed, null)) = 0 then
    return query select n::integer, null::text, null::text from generate_subscripts(open_values.sealed, 1) n;
    return;
  end if;
  if v_column.class = 'sensitive' then
    perform keyring_private.demand_record();
  end if;
  v_prefix := '\x02'::bytea || uuid_send(v_column.id) || uuid_send(v_asker.organization_id);
  -- Set by set, not value by value: the key-encryption key once, each data key once. Here the construction of cipher.sql
  -- stands written out; a test holds the two against each other.
  return query
    with asked as materialized (
      select u.n::integer as n, u.r, u.s is null as is_null, w.s, encode(substr(w.s, 18, 16), 'hex')::uuid as key_id,
          v_prefix || uuid_send(u.r) || substr(w.s, 18, 16) as data
        from unnest(open_values.row_ids, open_values.sealed) with ordinality u (r, s, n)
        -- What cannot be a sealed value is taken apart nowhere below.
        cross join lateral (select case when length(u.s) >= 113 and get_byte(u.s, 0) = 2 and (length(u.s) - 81) % 16 = 0 then u.s end as s) w
    ), wrapped as materialized (
      select k.id, k.subject, k.root_version, k.wrapped, '\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject) as data
        from keyring_private.data_keys k where k.id in (select a.key_id from asked a)
    ), roots as materialized (
      select r.version, substr(r.key, 1, 32) as mac_key, substr(r.key, 33, 32) as cipher_key
        from (
          select v.version, keyring_private.key_encryption_key(v.version, v_credential) as key
            from (select distinct w.root_version as version from wrapped w) v offset 0) r
    ), keys as materialized (
      select k.id, k.subject, substr(k.key, 1, 32) as mac_key, substr(k.key, 33, 32) as cipher_key
        from (
          -- 64 bytes of key, so 80 of ciphertext.
          select w.id, w.subject, case when length(w.wrapped) = 128
                and extensions.hmac(substr(extensions.hmac(
                    w.data || substr(w.wrapped, 1, 96) || int8send(length(w.data) * 8::bigint), r.mac_key, 'sha512'), 1, 32),
                  r.mac_key, 'sha512')
                = extensions.hmac(substr(w.wrapped, 97), r.mac_key, 'sha512')
              then extensions.decrypt_iv(substr(w.wrapped, 17, 80), r.cipher_key, substr(w.wrapped, 1, 16), 'aes-cbc/pad:none') end as key
            from wrapped w join roots r on r.version = w.root_version offset 0) k
    ), opened as materialized (
      select a.n, a.r, k.subject, a.is_null, k.id is null and a.key_id is not null as is_erased,
          case when extensions.hmac(substr(extensions.hmac(
                a.data || substr(a.s, 34, length(a.s) - 65) || int8send(length(a.data) * 8::bigint), k.mac_key, 'sha512'), 1, 32),
              k.mac_key, 'sha512')
            = extensions.hmac(substr(a.s, length(a.s) - 31), k.mac_key, 'sha512')
          then extensions.decrypt_iv(substr(a.s, 50, length(a.s) - 81), k.cipher_key, substr(a.s, 34, 16), 'aes-cbc/pad:none') end as padded
        from asked a left join keys k on k.id = a.key_id
    ), recorded as materialized (
      -- All is recorded before any of it is given out.
      select case when count(*) > 0 then
          keyring_private.record_reading('value.open', v_column, array_agg(o.r order by o.n), array_agg(o.subject order by o.n)) end
        from opened o where o.padded is not null and v_column.class = 'sensitive'
    )
    select o.n, convert_from(keyring_private.unpad(case
          -- A bucket is four bytes short of whole blocks. Padding is checked by hand, as in cipher.sql: one error for all.
          when substr(o.padded, length(o.padded) - 3) = decode('04040404', 'hex') then substr(o.padded, 1, length(o.padded) - 4)
          when o.padded is not null then ''::bytea
        end), 'UTF8'),
        case when o.is_null or o.padded is not null then null when o.is_erased then 'KEYER' else 'KEYBD' end
      from opened o cross join recorded order by o.n;
end $$;
comment on function keyring.open_values(uuid, uuid[], bytea[]) is
  'Opens values of one sealed column, by row: the value, or why not (DENYD, KEYER for erased, KEYBD). DENYD, KEYNO and CTXNO as errors where nothing can be opened at all.';

create or replace function keyring_private.open_set(column_name text, organization_id uuid, row_ids uuid[], sealed bytea[]) returns text[]
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
-- open() for a list of our own values: the key-encryption key once, not for each.
declare
  v_prefix bytea := '\x01'::bytea || uuid_send(keyring_private.column_id(column_name)) || uuid_send(open_set.organization_id);
  v_values text[] := array_fill(null::text, array[coalesce(cardinality(sealed), 0)]);
  v_key keyring_private.data_keys;
  v_version integer;
  v_root bytea;
begin
  for i in 1..cardinality(v_values) loop
    continue when sealed[i] is null;
    if length(sealed[i]) < 97 or get_byte(sealed[i], 0) <> 1 then
      raise exception 'the value cannot be opened' using errcode = 'KEYBD';
    end if;
    select k.* into v_key from keyring_private.data_keys k where k.id = encode(substr(sealed[i], 2, 16), 'hex')::uuid;
    continue when not found;
    if v_key.root_version is distinct from v_version then
      v_version := v_key.root_version;
      v_root := keyring_private.key_encryption_key(v_version);
    end if;
    v_values[i] := convert_from(keyring_private.unpad(keyring_private.unwrap(
      keyring_private.unwrap(v_root, v_key.wrapped, '\x02'::bytea || uuid_send(v_key.id) || uuid_send(v_key.subject)),
      substr(sealed[i], 18), v_prefix || uuid_send(row_ids[i]) || substr(sealed[i], 2, 16))), 'UTF8');
  end loop;
  return v_values;
end $$;
comment on function keyring_private.open_set(text, uuid, uuid[], bytea[]) is
  'Opens what seal() made, for a list of rows of one column and organization; null for null and for what was erased. KEYNO without an application key, KEYBD for all else.';

create or replace function keyring_private.open_recorded(column_id uuid, row_id uuid, sealed bytea) returns text
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_opened record;
begin
  select o.* into v_opened from keyring.open_values(column_id, array[row_id], array[sealed]) o;
  if v_opened.problem = 'KEYBD' then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  return v_opened.value;
end $$;
comment on function keyring_private.open_recorded(uuid, uuid, bytea) is 'Opens one value of a sensitive column, which leaves a record.';

create or replace function keyring.open_value(column_id uuid, row_id uuid, sealed bytea) returns text
  language plpgsql volatile cost 1000 security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows from the keeper: opening, with the checks of open_values(). A statement over a set of one costs more than the
-- same steps one after the other.
declare
  v_asker record;
  v_key bytea;
begin
  if sealed is null then
    return null;
  end if;
  v_asker := keyring_private.may_open(column_id);
  if (v_asker.opened).id is null then
    return null;
  end if;
  if (v_asker.opened).class = 'sensitive' then
    return keyring_private.open_recorded(column_id, row_id, sealed);
  end if;
  if length(sealed) < 113 or get_byte(sealed, 0) <> 2 or (length(sealed) - 81) % 16 <> 0 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  v_key := keyring_private.find_data_key(encode(substr(sealed, 18, 16), 'hex')::uuid, v_asker.credential_hash);
  if v_key is null then
    return null;
  end if;
  return convert_from(keyring_private.unpad(keyring_private.unwrap(v_key, substr(sealed, 34),
    keyring_private.door_data(column_id, v_asker.organization_id, row_id, substr(sealed, 18, 16)))), 'UTF8');
end $$;
comment on function keyring.open_value(uuid, uuid, bytea) is
  'Opens one value of a sealed column. Null for null, for what was erased, and for who may not (or DENYD, as the column says). KEYBD for what was not sealed for this row, KEYNO without an application key, CTXNO without a request.';

create or replace function keyring.blind_index(column_id uuid, slot text, value text) returns bytea
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows from the keeper: the index key. The checks are those of opening: who may not read may not find. To find a row by
-- a guess is to read it, so that is recorded too.
declare
  v_asker record := keyring_private.may_open(blind_index.column_id);
  v_column keyring_private.sealed_columns := v_asker.opened;
  v_value text := value;
begin
  if v_column.id is null or not v_column.indexed or value is null then
    return null;
  end if;
  if v_column.class = 'sensitive' then
    perform keyring_private.demand_record();
    perform keyring_private.record_reading('value.find', v_column, array[null::uuid], array[null::uuid]);
  end if;
  if v_column.type <> 'text' then
    v_value := keyring_private.canonical(v_value, v_column.type);
  end if;
  v_value := keyring_private.lookup_form(v_value, v_column.lookup, v_column.type);
  return case when slot = 'b' and v_column.state = 'sealing' then keyring_private.plain_index(v_column.id, v_asker.organization_id, v_value)
    else keyring_private.index_value(v_column.id, slot, v_asker.organization_id, v_value, false, v_asker.credential_hash) end;
end $$;
comment on function keyring.blind_index(uuid, text, text) is
  'The blind index of a value in the active organization, in slot a or b; null where the slot is not in use, and for who may not open the column.';

reset role;
reset row_security;
revoke create on schema keyring, keyring_private from safetypin_keeper;
