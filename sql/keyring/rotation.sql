-- Purpose: the roots of the key tree are replaced while everybody reads. A rotation only notes the work to be done: the
-- job that does it brings the application's half. Its first batch makes the new root; the next ones wrap keys anew; the
-- last one deletes the old root. Until then each key says which root wraps it, and both are there.

grant create on schema keyring_private, keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring_private.add_rewrap("position" jsonb) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from keyring_private.roots r where r.check_value is not null) then
    raise exception 'no application has brought its half to this database yet' using errcode = 'KEYNO', hint = 'Start the server once.';
  end if;
  return keyring_private.add_work('rewrap', null,
    (select count(*) from keyring_private.data_keys) + (select count(*) from keyring_private.index_keys), add_rewrap."position");
end $$;
comment on function keyring_private.add_rewrap(jsonb) is 'Notes that all keys are to be wrapped anew. CNFLT while that is under way, KEYNO before the first application came.';

create or replace function keyring.rotate_root() returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_work uuid := keyring_private.add_rewrap('{}');
begin
  perform audit_private.append('key.rotate', details => jsonb_build_object('what', 'root', 'work', v_work));
  return v_work;
end $$;
comment on function keyring.rotate_root() is
  'Replaces the database''s half: a new root, all keys under it, the old one deleted. Returns the work that does it. CNFLT while a rotation is under way. For the owner.';

create or replace function keyring.rotate_transport() returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_count integer;
begin
  update keyring_private.transport_keys t set retired_at = clock_timestamp() where t.retired_at is null;
  get diagnostics v_count = row_count;
  perform audit_private.append('key.rotate', details => jsonb_build_object('what', 'transport'));
  return v_count;
end $$;
comment on function keyring.rotate_transport() is
  'Takes back the transport keys: each process fetches another one with its next request, and reads its halves anew. What is on its way is good for its minute. Returns how many there were. For the owner.';

create or replace function keyring.rotate_application(next bytea) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_work uuid;
begin
  if length(next) is distinct from 8 or exists (select from keyring_private.roots r where r.application_id = next) then
    raise exception 'no id of another half' using errcode = '22023';
  end if;
  v_work := keyring_private.add_rewrap(jsonb_build_object('application', encode(next, 'hex')));
  -- Every process asks for another transport key now, and says which halves it holds.
  update keyring_private.transport_keys t set retired_at = clock_timestamp() where t.retired_at is null;
  perform audit_private.append('key.rotate', details => jsonb_build_object('what', 'application', 'work', v_work));
  return v_work;
end $$;
comment on function keyring.rotate_application(bytea) is
  'Replaces the application''s half by the next one, named by its id, see half_id(): once every process holds both, a new root bound to it, all keys under that, the old root deleted. Returns the work that does it. CNFLT while a rotation is under way, 22023 if it is the present one. For the owner.';

create or replace function keyring_private.everybody_holds_next() returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if exists (select from keyring_private.transport_keys t
      where t.retired_at is null and t.behind_at is not null) then
    -- Somebody holds the old half only. All are asked again; whoever reads the same again holds it up again.
    update keyring_private.transport_keys t set retired_at = clock_timestamp() where t.retired_at is null;
  end if;
  -- What was sealed before they were asked has run out after this.
  return not exists (select from keyring_private.transport_keys t
    where t.retired_at > clock_timestamp() - make_interval(secs => platform.limit_value('envelope.seconds') + 5));
end $$;
comment on function keyring_private.everybody_holds_next() is
  'Whether each envelope that is good now brings the next half too. Asks all processes again if one of them does not hold it.';

create or replace function keyring_private.next_root(work keyring_private.works) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_old keyring_private.roots;
  v_bound bytea;
  v_version integer;
begin
  select r.* into strict v_old from keyring_private.roots r order by r.version desc limit 1 for no key update;
  -- Nothing is wrapped under a key that only this process could make again.
  if keyring_private.root_check(keyring_private.key_encryption_key(v_old.version)) is distinct from v_old.check_value then
    raise exception 'the half of this application is not the one of this database' using errcode = 'KEYBD';
  end if;
  v_bound := coalesce(decode(work.position ->> 'application', 'hex'), v_old.application_id);
  v_version := v_old.version + 1;
  insert into keyring_private.roots (version, half, application_id) values (v_version, extensions.gen_random_bytes(32), v_bound);
  update keyring_private.roots r
    set check_value = keyring_private.root_check(keyring_private.key_encryption_key(v_version))
    where r.version = v_version;
  update keyring_private.works w set position = w.position || jsonb_build_object('root', v_version) where w.id = work.id;
  return v_version;
end $$;
comment on function keyring_private.next_root(keyring_private.works) is
  'Makes the root that a rotation leads to and notes it in its work. KEYNO if this process does not hold the half it is bound to, KEYBD if it holds another than the present root''s.';

create or replace function keyring_private.work_rewrap(work keyring_private.works, batch integer) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_root integer := (work.position ->> 'root')::integer;
  v_count integer;
  v_others integer;
begin
  if v_root is null then
    if work.position ? 'application' and not keyring_private.everybody_holds_next() then
      return null;
    end if;
    v_root := keyring_private.next_root(work);
  end if;
  -- Each root's key is derived once, not once for each row.
  with keks as materialized (
      select r.version, keyring_private.key_encryption_key(r.version) as key from keyring_private.roots r where r.version <= v_root),
    old as (
      select k.id from keyring_private.data_keys k where k.root_version < v_root limit batch for no key update skip locked)
    update keyring_private.data_keys k
      set root_version = v_root, wrapped = keyring_private.wrap(
        n.key, keyring_private.unwrap(o.key, k.wrapped, '\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject)),
        '\x02'::bytea || uuid_send(k.id) || uuid_send(k.subject))
      from old, keks o, keks n
      where k.id = old.id and o.version = k.root_version and n.version = v_root;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    return v_count;
  end if;
  with keks as materialized (
      select r.version, keyring_private.key_encryption_key(r.version) as key from keyring_private.roots r where r.version <= v_root),
    old as (
      select k.column_id, k.slot from keyring_private.index_keys k where k.root_version < v_root limit batch for no key update skip locked)
    update keyring_private.index_keys k
      set root_version = v_root, wrapped = keyring_private.wrap(
        n.key, keyring_private.unwrap(o.key, k.wrapped, '\x03'::bytea || uuid_send(k.column_id)),
        '\x03'::bytea || uuid_send(k.column_id))
      from old, keks o, keks n
      where k.column_id = old.column_id and k.slot = old.slot and o.version = k.root_version and n.version = v_root;
  get diagnostics v_count = row_count;
  if v_count > 0 then
    return v_count;
  end if;
  -- Whoever is making a key under an old root holds it until the commit, which shows that key to the next statement.
  with held as (select r.version from keyring_private.roots r where r.version < v_root for update skip locked)
    select count(*) into v_count from held;
  select count(*) into v_others from keyring_private.roots r where r.version < v_root;
  if v_count < v_others
    or exists (select from keyring_private.data_keys k where k.root_version < v_root)
    or exists (select from keyring_private.index_keys k where k.root_version < v_root) then
    return null;
  end if;
  delete from keyring_private.roots r where r.version < v_root;
  return 0;
end $$;
comment on function keyring_private.work_rewrap(keyring_private.works, integer) is
  'One batch of a rotation of the root: makes the new one, wraps keys under it, and when all are, deletes the old one.';

create or replace function keyring.tree()
  returns table (
    root integer, application text, created_at timestamptz, is_bound boolean, data_keys bigint, retired_keys bigint,
    index_keys bigint, oldest_key timestamptz
  )
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select r.version, encode(r.application_id, 'hex'), r.created_at, r.check_value is not null,
         d.current, d.retired, (select count(*) from keyring_private.index_keys i where i.root_version = r.version), d.oldest
    from keyring_private.roots r
    cross join lateral (
      select count(*) filter (where k.retired_at is null) as current, count(k.retired_at) as retired, min(k.created_at) as oldest
        from keyring_private.data_keys k where k.root_version = r.version) d
    order by r.version
$$;
comment on function keyring.tree() is 'The state of the key tree, root by root, without any key. For the owner.';

create or replace function keyring.transport_state(out created_at timestamptz, out on_their_way bigint)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select max(t.created_at) filter (where t.retired_at is null),
         count(*) filter (where t.retired_at > clock_timestamp() - make_interval(secs => platform.limit_value('envelope.seconds')))
    from keyring_private.transport_keys t
$$;
comment on function keyring.transport_state() is
  'When the transport key in use was made, null without one, and how many that were taken back still open what is on its way. For the owner.';

reset role;
reset row_security;
revoke create on schema keyring_private, keyring from safetypin_keeper;
