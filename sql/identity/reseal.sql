-- Purpose: values of people sealed anew when their data keys were replaced: a batch each, by the key of the table, told
-- what the last row was; called by keyring_private.reseal_own(). after is null at the end; rows_done then is null if
-- somebody held what is left.

grant create on schema identity_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function identity_private.reseal_addresses(batch integer, inout after uuid, out rows_done integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.id as id from identity_private.emails x
        where (v_after is null or x.id > v_after) and keyring.is_stale(x.address)
        order by x.id limit batch for no key update skip locked),
    done as (
      update identity_private.emails x
        set address = keyring_private.reseal('identity.emails.address', x.id, x.person_id, x.address)
        from held h where x.id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.emails x where keyring.is_stale(x.address)) then
    rows_done := null;
  end if;
end $$;
comment on function identity_private.reseal_addresses(integer, uuid) is 'Seals a batch of addresses anew.';

create or replace function identity_private.reseal_names(batch integer, inout after uuid, out rows_done integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.person_id as id from identity_private.profiles x
        where (v_after is null or x.person_id > v_after) and keyring.is_stale(x.display_name)
        order by x.person_id limit batch for no key update skip locked),
    done as (
      update identity_private.profiles x
        set display_name = keyring_private.reseal('identity.people.display_name', x.person_id, x.person_id, x.display_name)
        from held h where x.person_id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.profiles x where keyring.is_stale(x.display_name)) then
    rows_done := null;
  end if;
end $$;
comment on function identity_private.reseal_names(integer, uuid) is 'Seals a batch of display names anew.';

create or replace function identity_private.reseal_verifiers(batch integer, inout after uuid, out rows_done integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.person_id as id from identity_private.passwords x
        where (v_after is null or x.person_id > v_after) and keyring.is_stale(x.verifier)
        order by x.person_id limit batch for no key update skip locked),
    done as (
      update identity_private.passwords x
        set verifier = keyring_private.reseal('identity.passwords.verifier', x.person_id, x.person_id, x.verifier)
        from held h where x.person_id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.passwords x where keyring.is_stale(x.verifier)) then
    rows_done := null;
  end if;
end $$;
comment on function identity_private.reseal_verifiers(integer, uuid) is 'Seals a batch of password verifiers anew.';

create or replace function identity_private.reseal_registrations(batch integer, inout after uuid, out rows_done integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.id as id from identity_private.registrations x
        where (v_after is null or x.id > v_after) and keyring.is_stale(x.email)
        order by x.id limit batch for no key update skip locked),
    done as (
      update identity_private.registrations x
        set email = keyring_private.reseal('identity.registrations.email', x.id, x.id, x.email),
          display_name = keyring_private.reseal('identity.registrations.display_name', x.id, x.id, x.display_name),
          organization_name = keyring_private.reseal('identity.registrations.organization_name', x.id, x.id, x.organization_name),
          verifier = keyring_private.reseal('identity.registrations.verifier', x.id, x.id, x.verifier)
        from held h where x.id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from identity_private.registrations x where keyring.is_stale(x.email)) then
    rows_done := null;
  end if;
end $$;
comment on function identity_private.reseal_registrations(integer, uuid) is 'Seals all of a batch of registrations anew.';

grant execute on function identity_private.reseal_addresses(integer, uuid), identity_private.reseal_names(integer, uuid),
  identity_private.reseal_verifiers(integer, uuid), identity_private.reseal_registrations(integer, uuid)
  to safetypin_keeper;

reset role;
reset row_security;
revoke create on schema identity_private from safetypin_definer;
grant usage on schema identity_private to safetypin_keeper;
