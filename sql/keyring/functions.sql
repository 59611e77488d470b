-- Purpose: what the application calls to bring its half of the key.

grant create on schema keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring.transport_key(
  halves bytea[] default '{}', out id uuid, out key bytea, out expires_at timestamptz
)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- The key is an answer, never a parameter: parameters are what logs print.
declare
  v_life interval := make_interval(secs => platform.limit_value('transport_key.seconds'));
begin
  -- One at a time, so that all processes of an application share one key. The lock ends with this transaction.
  perform pg_advisory_xact_lock(hashtextextended('safetypin transport key', 0));
  delete from keyring_private.transport_keys t where t.created_at < clock_timestamp() - 2 * v_life;
  select t.id, t.key, t.created_at + v_life into transport_key.id, transport_key.key, transport_key.expires_at
    from keyring_private.transport_keys t
    where t.created_at > clock_timestamp() - v_life * 0.9 and t.retired_at is null
    order by t.created_at desc
    limit 1;
  if not found then
    insert into keyring_private.transport_keys as t (key) values (extensions.gen_random_bytes(64))
      returning t.id, t.key, t.created_at + v_life into transport_key.id, transport_key.key, transport_key.expires_at;
  end if;
  -- While the application's half is being replaced, one process that does not hold the next one holds all of it up.
  update keyring_private.transport_keys t set behind_at = clock_timestamp()
    where t.id = transport_key.id and exists (
      select from keyring_private.works w
        where w.kind = 'rewrap' and w.finished_at is null
          and decode(w.position ->> 'application', 'hex') <> all (coalesce(transport_key.halves, '{}')));
end $$;
comment on function keyring.transport_key(bytea[]) is
  'The key under which the application seals its half for a request (64 bytes, A256CBC-HS512), and when to fetch the next one. Takes the ids of the halves which that process holds, see half_id(). For the logins only.';

create or replace function keyring.bind_application() returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_root keyring_private.roots;
begin
  select r.* into v_root from keyring_private.roots r order by r.version desc limit 1 for no key update;
  if v_root.check_value is null then
    update keyring_private.roots r
      set check_value = keyring_private.root_check(keyring_private.key_encryption_key(r.version)),
          application_id = keyring_private.half_id(substr(keyring_private.application_halves(), 1, 32))
      where r.version = v_root.version;
  elsif not keyring_private.holds_roots() then
    return false;
  end if;
  -- Column keys are made with the first half that comes: each is wrapped under it.
  insert into keyring_private.index_keys (column_id, root_version, wrapped)
    select c.id, v_root.version,
           keyring_private.wrap(kek.key, extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(c.id))
    from keyring_private.sealed_columns c
      -- No variable: those become constants of the plan, which whoever calls can ask to see (debug_print_plan).
      cross join keyring_private.key_encryption_key(v_root.version) as kek (key)
    where not exists (select from keyring_private.index_keys k where k.column_id = c.id);
  return true;
end $$;
comment on function keyring.bind_application() is
  'Says whether the application of this request holds the half that belongs to this database; while that is being replaced, both. The first application ever to ask is the one that does.';

reset role;
reset row_security;
revoke create on schema keyring from safetypin_keeper;
