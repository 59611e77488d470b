-- Purpose: who may touch a key: nobody. Who may ask for values to be sealed and opened: the definer.

grant usage on schema keyring to safetypin_authenticator, safetypin_anonymous, safetypin_member, safetypin_jobs, safetypin_auditor;

grant execute on function keyring.row_of(text, text[], jsonb, anyelement), keyring.row_key(bytea[]) to safetypin_member, safetypin_jobs;
grant execute on function keyring.work(integer), keyring.work_rows(text, text, uuid, oid, jsonb, integer), keyring.erase(uuid) to safetypin_jobs;

set local role safetypin_keeper;
grant execute on function keyring.transport_key(bytea[]) to safetypin_authenticator, safetypin_jobs, safetypin_auditor;
grant execute on function keyring.bind_application() to safetypin_anonymous;
grant execute on function keyring.clean_up(integer), keyring.compare_openings(integer), keyring.take_work(integer),
  keyring.end_batch(integer, text, text, jsonb), keyring.at_work(oid), keyring.unseal_values(uuid, uuid[], uuid[], bytea[]),
  keyring.reseal_values(uuid, uuid[], uuid[], uuid[], bytea[]), keyring.index_values(uuid, uuid[], uuid[], bytea[]), keyring.is_stale(bytea),
  keyring.destroy_keys(uuid), keyring.doors()
  to safetypin_jobs;
grant execute on function keyring.works(), keyring.is_stale(bytea), keyring_private.reseal(text, uuid, uuid, bytea, uuid) to safetypin_definer;
grant execute on function keyring.rotate_data_keys(uuid, boolean) to safetypin_owner;
-- Who seals the columns of a table, and undoes it.
grant execute on function keyring.begin_work(uuid, text, bigint), keyring.is_over(uuid), keyring.forget_column(uuid),
  keyring.plain_index(uuid, uuid, text)
  to safetypin_owner;
grant execute on function keyring.works(), keyring.tree(), keyring.openings_state(), keyring.transport_state(), keyring.rotate_root(),
  keyring.rotate_application(bytea), keyring.rotate_transport()
  to safetypin_owner;
grant execute on function
  keyring_private.seal(text, uuid, uuid, uuid, text), keyring_private.open(text, uuid, uuid, bytea),
  keyring_private.open_set(text, uuid, uuid[], bytea[]),
  keyring_private.blind_index(text, uuid, text), keyring_private.guess_mac(uuid, bytea),
  keyring_private.destroy_data_key(uuid)
  to safetypin_definer;
-- Who writes and reads sealed columns of other tables. Each call is checked inside.
grant execute on function keyring.door(uuid, oid), keyring.seal_value(uuid, uuid, uuid, uuid, text),
  keyring.is_stamped(uuid, uuid, uuid, uuid, bytea)
  to safetypin_owner, safetypin_member, safetypin_jobs;
grant execute on function keyring.open_values(uuid, uuid[], bytea[]), keyring.open_value(uuid, uuid, bytea)
  to safetypin_owner, safetypin_member, safetypin_jobs, safetypin_auditor;
grant execute on function keyring.blind_index(uuid, text, text) to safetypin_owner, safetypin_member, safetypin_jobs;
grant execute on function keyring.register_column(regclass, uuid, text, text, boolean, text, text, boolean, boolean, text, text, text, boolean, text)
  to safetypin_owner;
grant execute on function keyring.doors() to safetypin_owner, safetypin_authenticator, safetypin_definer;
-- For test vectors (RFC 7518 B.3); the key is the caller's.
grant execute on function
  keyring_private.a256cbc_hs512_encrypt(bytea, bytea, bytea, bytea),
  keyring_private.a256cbc_hs512_decrypt(bytea, bytea, bytea, bytea, bytea)
  to safetypin_owner;
reset role;
