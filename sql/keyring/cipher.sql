-- Purpose: AEAD_AES_256_CBC_HMAC_SHA_512 exactly as RFC 7518 section 5.2.5: encrypt, then MAC over associated data,
-- IV, ciphertext and the length of the associated data. The first half of the key is for the MAC, the second for AES.
-- One error, KEYBD, for whatever is wrong. src/keyring/cipher.ts has the same, and tests hold the two together.

grant create on schema keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring_private.a256cbc_hs512_encrypt(
  key bytea, iv bytea, plaintext bytea, aad bytea, out ciphertext bytea, out tag bytea
)
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if length(key) is distinct from 64 or length(iv) is distinct from 16 or plaintext is null or aad is null then
    raise exception 'the value cannot be sealed' using errcode = 'KEYBD';
  end if;
  ciphertext := extensions.encrypt_iv(plaintext, substr(key, 33, 32), iv, 'aes-cbc/pad:pkcs');
  tag := substr(extensions.hmac(aad || iv || ciphertext || int8send(length(aad) * 8::bigint), substr(key, 1, 32), 'sha512'), 1, 32);
end $$;
comment on function keyring_private.a256cbc_hs512_encrypt(bytea, bytea, bytea, bytea) is
  'A256CBC-HS512 (RFC 7518 5.2.5): 64-byte key, 16-byte IV; gives ciphertext and 32-byte tag. KEYBD for other sizes.';

create or replace function keyring_private.a256cbc_hs512_decrypt(
  key bytea, iv bytea, ciphertext bytea, tag bytea, aad bytea
) returns bytea
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_mac_key bytea := substr(key, 1, 32);
  v_padded bytea;
  v_padding integer;
begin
  -- Tags are compared under a second MAC: the time of the comparison says nothing about the right one.
  if length(key) = 64 and length(iv) = 16 and length(tag) = 32 and aad is not null
    and length(ciphertext) > 0 and length(ciphertext) % 16 = 0
    and extensions.hmac(substr(extensions.hmac(
          aad || iv || ciphertext || int8send(length(aad) * 8::bigint), v_mac_key, 'sha512'), 1, 32), v_mac_key, 'sha512')
      = extensions.hmac(tag, v_mac_key, 'sha512') then
    -- The padding is checked by hand, so that bad padding under a good tag gives the same error as all else.
    v_padded := extensions.decrypt_iv(ciphertext, substr(key, 33, 32), iv, 'aes-cbc/pad:none');
    v_padding := get_byte(v_padded, length(v_padded) - 1);
    if v_padding between 1 and 16
      and ltrim(substr(v_padded, length(v_padded) - v_padding + 1), set_byte(decode('00', 'hex'), 0, v_padding)) = ''::bytea then
      return substr(v_padded, 1, length(v_padded) - v_padding);
    end if;
  end if;
  raise exception 'the value cannot be opened' using errcode = 'KEYBD';
end $$;
comment on function keyring_private.a256cbc_hs512_decrypt(bytea, bytea, bytea, bytea, bytea) is
  'A256CBC-HS512 (RFC 7518 5.2.5). The tag is checked before anything is decrypted; KEYBD for every failure alike.';

create or replace function keyring_private.wrap(key bytea, plaintext bytea, aad bytea) returns bytea
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_iv bytea := extensions.gen_random_bytes(16);
  v_sealed record;
begin
  v_sealed := keyring_private.a256cbc_hs512_encrypt(key, v_iv, plaintext, aad);
  return v_iv || v_sealed.ciphertext || v_sealed.tag;
end $$;
comment on function keyring_private.wrap(bytea, bytea, bytea) is 'Seals under a fresh random IV; returns IV, ciphertext and tag in one.';

create or replace function keyring_private.unwrap(key bytea, wrapped bytea, aad bytea) returns bytea
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if length(wrapped) < 64 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  return keyring_private.a256cbc_hs512_decrypt(
    key, substr(wrapped, 1, 16), substr(wrapped, 17, length(wrapped) - 48), substr(wrapped, length(wrapped) - 31), aad);
end $$;
comment on function keyring_private.unwrap(bytea, bytea, bytea) is 'Opens what wrap() made; KEYBD for every failure.';

create or replace function keyring_private.pad(value bytea) returns bytea
  language plpgsql immutable strict
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_size integer := 28;
begin
  while v_size < length(value) + 4 loop
    v_size := v_size * 2 + 4;
  end loop;
  return int4send(length(value)) || value || decode(repeat('00', v_size - 4 - length(value)), 'hex');
end $$;
comment on function keyring_private.pad(bytea) is
  'Length (int4), value, zeros, up to 28, 60, 124, 252 … bytes in all: what is sealed shows its bucket, not its length.';

create or replace function keyring_private.unpad(padded bytea) returns bytea
  language plpgsql immutable strict
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_size integer := length(padded);
  v_length integer;
begin
  if v_size >= 28 and ((v_size + 4) & (v_size + 3)) = 0 then
    v_length := (get_byte(padded, 0) << 24) + (get_byte(padded, 1) << 16) + (get_byte(padded, 2) << 8) + get_byte(padded, 3);
    -- One way to pad each value: the smallest bucket that takes it, and nothing but zeros behind it.
    if v_length between 0 and v_size - 4 and (v_size = 28 or v_length > v_size / 2 - 6)
      and ltrim(substr(padded, v_length + 5), decode('00', 'hex')) = ''::bytea then
      return substr(padded, 5, v_length);
    end if;
  end if;
  raise exception 'the value cannot be opened' using errcode = 'KEYBD';
end $$;
comment on function keyring_private.unpad(bytea) is 'The reverse of pad(); KEYBD for what pad() did not make.';

reset role;
reset row_security;
revoke create on schema keyring_private from safetypin_keeper;
