-- Purpose: keys of this database, made once where it stands, and the sealed columns of SafetyPin itself.

set local role safetypin_keeper;
set local row_security = on;

do $$
declare
  v_purpose text;
  v_key bytea;
  v_inner bytea;
  v_outer bytea;
begin
  foreach v_purpose in array array['request', 'guess', 'value', 'export'] loop
    if not exists (select from keyring_private.seal_keys k where k.purpose = v_purpose) then
      -- A key as long as the block of SHA-256, so that the pads of RFC 2104 are the key xor a constant.
      v_key := extensions.gen_random_bytes(64);
      v_inner := v_key;
      v_outer := v_key;
      for i in 0..63 loop
        v_inner := set_byte(v_inner, i, get_byte(v_key, i) # 54);
        v_outer := set_byte(v_outer, i, get_byte(v_key, i) # 92);
      end loop;
      insert into keyring_private.seal_keys (purpose, inner_pad, outer_pad) values (v_purpose, v_inner, v_outer);
    end if;
  end loop;
  if not exists (select from keyring_private.roots) then
    insert into keyring_private.roots (version, half) values (1, extensions.gen_random_bytes(32));
  end if;
end $$;

insert into keyring_private.opening_checks default values on conflict do nothing;

insert into keyring_private.sealed_columns (id, name, class, reseals) values
  ('019a9d5c-0000-7000-8000-000000000001', 'identity.emails.address', 'personal', 'identity_private.reseal_addresses'),
  ('019a9d5c-0000-7000-8000-000000000002', 'identity.people.display_name', 'personal', 'identity_private.reseal_names'),
  ('019a9d5c-0000-7000-8000-000000000003', 'identity.passwords.verifier', 'secret', 'identity_private.reseal_verifiers'),
  ('019a9d5c-0000-7000-8000-000000000004', 'identity.passwords.salt', 'secret', null),
  ('019a9d5c-0000-7000-8000-000000000005', 'identity.registrations.email', 'personal', 'identity_private.reseal_registrations'),
  ('019a9d5c-0000-7000-8000-000000000006', 'identity.registrations.display_name', 'personal', null),
  ('019a9d5c-0000-7000-8000-000000000007', 'identity.registrations.organization_name', 'personal', null),
  ('019a9d5c-0000-7000-8000-000000000008', 'identity.registrations.verifier', 'secret', null),
  ('019a9d5c-0000-7000-8000-000000000009', 'audit.events.origin', 'personal', null),
  ('019a9d5c-0000-7000-8000-00000000000a', 'audit.events.statement', 'personal', null),
  ('019a9d5c-0000-7000-8000-000000000101', 'access.invitations.address', 'personal', 'access_private.reseal_invitations')
on conflict (name) do nothing;

reset role;
reset row_security;
