-- Purpose: the steps of the key tree, and the four calls the definer's functions make: seal, open, blind_index, mac.
-- The application's half is opened from the envelope of this transaction in each statement; it never rests here.
--
-- Envelope: version 1 (1 byte), transport key id (16), expiry timestamptz (8), IV (16), ciphertext (48, or 80 while the
-- application changes from one half to the next and brings both), tag (32); associated data: version, transport key id,
-- expiry, SHA-256 of the credential (zero bytes if none).
-- Sealed value: version 1 (1 byte), key id (16), IV (16), ciphertext, tag (32); associated data: version, column id,
-- organization id, row id, key id. The text is padded to a bucket (pad() in cipher.sql) before it is sealed.

grant create on schema keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring_private.application_halves(credential_hash bytea default null) returns bytea
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_envelope bytea;
  v_setting text := current_setting('safetypin.envelope', true);
  v_credential bytea := credential_hash;
  v_seconds bigint;
  v_life bigint;
  v_key bytea;
begin
  -- Who has read the context of this transaction already brings it from there.
  if v_credential is null then
    v_credential := (select c.credential_hash from request_private.sealed_context c);
  end if;
  if v_credential is null or coalesce(v_setting, '') = '' or length(v_setting) not in (242, 306) or v_setting ~ '[^0-9a-f]' then
    raise exception 'no application key in this request' using errcode = 'KEYNO';
  end if;
  v_envelope := decode(v_setting, 'hex');
  select max(l.value) filter (where l.name = 'envelope.seconds'), max(l.value) filter (where l.name = 'transport_key.seconds')
    into v_seconds, v_life
    from platform.limits l where l.name in ('envelope.seconds', 'transport_key.seconds');
  if substr(v_envelope, 18, 8) <= timestamptz_send(clock_timestamp())
    -- An envelope is short-lived: one that claims more was not made by an application of ours.
    or substr(v_envelope, 18, 8) > timestamptz_send(clock_timestamp() + make_interval(secs => v_seconds + 5)) then
    raise exception 'the application key in this request has run out' using errcode = 'KEYNO';
  end if;
  select t.key into v_key
    from keyring_private.transport_keys t
    where t.id = encode(substr(v_envelope, 2, 16), 'hex')::uuid
      -- Twice its life: an application replaces its key after one, and its last envelope is still good for a minute.
      and t.created_at > clock_timestamp() - make_interval(secs => 2 * v_life)
      -- One that was retired opens what was on its way then.
      and (t.retired_at is null or t.retired_at > clock_timestamp() - make_interval(secs => v_seconds));
  if v_key is null then
    raise exception 'the transport key of this request is gone' using errcode = 'KEYNO';
  end if;
  return keyring_private.unwrap(v_key, substr(v_envelope, 26), substr(v_envelope, 1, 25) || v_credential);
end $$;
comment on function keyring_private.application_halves(bytea) is
  'What the application holds, from this transaction''s envelope: its half of the key (32 bytes), and the next one behind it while it changes. KEYNO if there is none, it ran out or its transport key is gone; KEYBD if it is for another credential.';

-- Functions of a secret are plpgsql and use it in expressions alone: a statement, or a function in SQL, that takes it as a
-- parameter is what auto_explain prints.
create or replace function keyring_private.half_id(half bytea) returns bytea
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return substr(sha256('safetypin half '::bytea || half), 1, 8);
end $$;
comment on function keyring_private.half_id(bytea) is 'Which half of the application''s this is: eight bytes that say nothing of it.';

create or replace function keyring_private.key_encryption_key(version integer, credential_hash bytea default null) returns bytea
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_root keyring_private.roots;
  v_halves bytea;
  v_half bytea;
begin
  select r.* into v_root from keyring_private.roots r where r.version = key_encryption_key.version;
  if not found then
    return null;
  end if;
  v_halves := keyring_private.application_halves(credential_hash);
  v_half := substr(v_halves, 1, 32);
  if v_root.application_id is not null and keyring_private.half_id(v_half) <> v_root.application_id then
    v_half := substr(v_halves, 33, 32);
    if keyring_private.half_id(v_half) <> v_root.application_id then
      -- It may have been replaced since this process read it: it reads anew when it hears of this.
      raise exception 'the application does not hold its half of this key' using errcode = 'KEYNO';
    end if;
  end if;
  -- HKDF's extract step (RFC 5869) with the database's half as salt; 64 bytes, as the cipher wants.
  return extensions.hmac('safetypin kek '::bytea || int4send(v_root.version) || v_half, v_root.half, 'sha512');
end $$;
comment on function keyring_private.key_encryption_key(integer, bytea) is
  'The 64-byte key that wraps data keys, derived from both halves; never stored. KEYNO if the application brings another half than the one this root is bound to.';

create or replace function keyring_private.root_check(key bytea) returns bytea
  language plpgsql immutable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
begin
  return extensions.hmac('safetypin check'::bytea, key, 'sha256');
end $$;
comment on function keyring_private.root_check(bytea) is 'What is kept of a key-encryption key to know it again.';

create or replace function keyring_private.holds_roots() returns boolean
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_halves bytea := keyring_private.application_halves();
  v_root keyring_private.roots;
begin
  for v_root in select r.* from keyring_private.roots r loop
    if v_root.application_id is null
      or v_root.application_id not in (
        keyring_private.half_id(substr(v_halves, 1, 32)), keyring_private.half_id(substr(v_halves, 33, 32)))
      or keyring_private.root_check(keyring_private.key_encryption_key(v_root.version)) is distinct from v_root.check_value then
      return false;
    end if;
  end loop;
  return true;
end $$;
comment on function keyring_private.holds_roots() is 'Whether the application of this request brings what each root is bound to. False before the first one came.';

create or replace function keyring_private.column_id(name text) returns uuid
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  select c.id into strict v_id from keyring_private.sealed_columns c where c.name = column_id.name;
  return v_id;
end $$;
comment on function keyring_private.column_id(text) is 'Id of a sealed column by its name; P0002 if there is none.';

create or replace function keyring_private.find_data_key(key_id uuid, credential_hash bytea default null) returns bytea
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key keyring_private.data_keys;
begin
  select k.* into v_key from keyring_private.data_keys k where k.id = find_data_key.key_id;
  if not found then
    return null;
  end if;
  return keyring_private.unwrap(
    keyring_private.key_encryption_key(v_key.root_version, credential_hash), v_key.wrapped,
    '\x02'::bytea || uuid_send(v_key.id) || uuid_send(v_key.subject));
end $$;
comment on function keyring_private.find_data_key(uuid, bytea) is
  'A data key, unwrapped; null if it was destroyed. The credential''s hash, if the caller has it from the context of this transaction: that saves reading it again.';

create or replace function keyring_private.data_key(key_id uuid) returns bytea
  language plpgsql stable parallel restricted
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key bytea := keyring_private.find_data_key(key_id);
begin
  if v_key is null then
    raise exception 'the key of this value was destroyed' using errcode = 'KEYER';
  end if;
  return v_key;
end $$;
comment on function keyring_private.data_key(uuid) is 'A data key, unwrapped. KEYER if it was destroyed: what it sealed is erased.';

create or replace function keyring_private.newest_root() returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_version integer;
begin
  -- A rotation that is just over deletes the one that we saw. Then there is a newer one.
  for i in 1..5 loop
    select r.version into v_version from keyring_private.roots r order by r.version desc limit 1 for key share;
    exit when found;
  end loop;
  return v_version;
end $$;
comment on function keyring_private.newest_root() is
  'The root under which new keys are wrapped, held until this transaction ends: no rotation deletes it meanwhile.';

create or replace function keyring_private.ensure_data_key(subject uuid, credential_hash bytea default null) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
  v_version integer;
begin
  select k.id into v_id from keyring_private.data_keys k where k.subject = ensure_data_key.subject and k.retired_at is null;
  if found then
    return v_id;
  end if;
  v_id := platform.uuid_v7();
  v_version := keyring_private.newest_root();
  insert into keyring_private.data_keys (id, subject, root_version, wrapped)
    values (v_id, ensure_data_key.subject, v_version, keyring_private.wrap(
      keyring_private.key_encryption_key(v_version, credential_hash), extensions.gen_random_bytes(64),
      '\x02'::bytea || uuid_send(v_id) || uuid_send(ensure_data_key.subject)))
    on conflict do nothing;
  -- Somebody else may have been first: there is one current key for each subject.
  select k.id into v_id from keyring_private.data_keys k where k.subject = ensure_data_key.subject and k.retired_at is null;
  return v_id;
end $$;
comment on function keyring_private.ensure_data_key(uuid, bytea) is 'Id of the subject''s current data key; makes one if there is none.';

create or replace function keyring_private.retire_data_key(subject uuid) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update keyring_private.data_keys k set retired_at = clock_timestamp()
    where k.subject = retire_data_key.subject and k.retired_at is null;
  if not found then
    return null;
  end if;
  return keyring_private.ensure_data_key(retire_data_key.subject);
end $$;
comment on function keyring_private.retire_data_key(uuid) is
  'Gives a subject a new current data key and returns its id; null if there is none to retire. What the old ones sealed stays readable until they are deleted.';

create or replace function keyring_private.destroy_data_key(subject uuid) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  delete from keyring_private.data_keys k where k.subject = destroy_data_key.subject;
  return found;
end $$;
comment on function keyring_private.destroy_data_key(uuid) is 'Erases everything sealed for a subject by deleting its keys, the retired ones too.';

create or replace function keyring_private.seal(column_name text, organization_id uuid, row_id uuid, subject uuid, value text) returns bytea
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key_id uuid;
begin
  if value is null then
    return null;
  end if;
  v_key_id := keyring_private.ensure_data_key(seal.subject);
  return '\x01'::bytea || uuid_send(v_key_id) || keyring_private.wrap(
    keyring_private.data_key(v_key_id),
    keyring_private.pad(convert_to(value, 'UTF8')),
    '\x01'::bytea || uuid_send(keyring_private.column_id(seal.column_name)) || uuid_send(seal.organization_id)
      || uuid_send(seal.row_id) || uuid_send(v_key_id));
end $$;
comment on function keyring_private.seal(text, uuid, uuid, uuid, text) is
  'Seals a text for a subject, bound to column, organization (zero uuid if none) and row; null stays null. KEYNO without an application key.';

create or replace function keyring_private.open(column_name text, organization_id uuid, row_id uuid, sealed bytea) returns text
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_key_id uuid;
  v_padded bytea;
begin
  if sealed is null then
    return null;
  end if;
  if length(sealed) < 97 or get_byte(sealed, 0) <> 1 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  v_key_id := encode(substr(sealed, 2, 16), 'hex')::uuid;
  v_padded := keyring_private.unwrap(
    keyring_private.data_key(v_key_id), substr(sealed, 18),
    '\x01'::bytea || uuid_send(keyring_private.column_id(open.column_name)) || uuid_send(open.organization_id)
      || uuid_send(open.row_id) || uuid_send(v_key_id));
  return convert_from(keyring_private.unpad(v_padded), 'UTF8');
end $$;
comment on function keyring_private.open(text, uuid, uuid, bytea) is
  'Opens what seal() made, in the same column, organization and row; null stays null. KEYER if it was erased, KEYNO without an application key, KEYBD for all else.';

create or replace function keyring_private.blind_index(column_name text, organization_id uuid, value text) returns bytea
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_column uuid := keyring_private.column_id(blind_index.column_name);
  v_key bytea;
begin
  if value is null then
    return null;
  end if;
  select keyring_private.unwrap(keyring_private.key_encryption_key(k.root_version), k.wrapped, '\x03'::bytea || uuid_send(v_column))
    into v_key
    from keyring_private.index_keys k
    where k.column_id = v_column and k.slot = 'a';
  if v_key is null then
    raise exception 'the index key is not there' using errcode = 'KEYNO';
  end if;
  return extensions.hmac(uuid_send(blind_index.organization_id) || convert_to(value, 'UTF8'), v_key, 'sha256');
end $$;
comment on function keyring_private.blind_index(text, uuid, text) is
  'HMAC-SHA-256 of organization (zero uuid for what is unique everywhere) and value under the column''s own key, for looking up a sealed value.';

create or replace function keyring_private.guess_mac(attempt uuid, guess bytea) returns bytea
  language plpgsql stable parallel restricted security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select sha256(k.outer_pad || sha256(k.inner_pad || uuid_send(attempt) || guess))
          from keyring_private.seal_keys k
          where k.purpose = 'guess');
end $$;
comment on function keyring_private.guess_mac(uuid, bytea) is 'HMAC-SHA-256 of a guess, under a key of this database; how guesses and short codes rest.';

reset role;
reset row_security;
revoke create on schema keyring_private from safetypin_keeper;
