-- Purpose: who may touch a key: nobody. Who may ask for values to be sealed and opened: the definer.

grant usage on schema keyring to safetypin_authenticator, safetypin_anonymous, safetypin_jobs, safetypin_auditor;

set local role safetypin_keeper;
grant execute on function keyring.transport_key(bytea[]) to safetypin_authenticator, safetypin_jobs, safetypin_auditor;
grant execute on function keyring.bind_application() to safetypin_anonymous;
grant execute on function keyring.clean_up(integer), keyring.work(integer) to safetypin_jobs;
grant execute on function keyring.works(), keyring.tree(), keyring.transport_state(), keyring.rotate_root(),
  keyring.rotate_application(bytea), keyring.rotate_transport()
  to safetypin_owner;
grant execute on function
  keyring_private.seal(text, uuid, uuid, uuid, text), keyring_private.open(text, uuid, uuid, bytea),
  keyring_private.blind_index(text, uuid, text), keyring_private.guess_mac(uuid, bytea),
  keyring_private.destroy_data_key(uuid)
  to safetypin_definer;
-- For test vectors (RFC 7518 B.3); the key is the caller's.
grant execute on function
  keyring_private.a256cbc_hs512_encrypt(bytea, bytea, bytea, bytea),
  keyring_private.a256cbc_hs512_decrypt(bytea, bytea, bytea, bytea, bytea)
  to safetypin_owner;
reset role;
