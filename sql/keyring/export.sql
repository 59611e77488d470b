-- Purpose: the wrapped keys in a file of their own, apart from the data. A backup of the data that is restored takes its
-- keys from today's file: who was erased since has none there. Roots are in it, the application's half is not: the file
-- opens nothing by itself. Called by `safetypin keys export` and `import` as safetypin_keeper; granted to nobody.

grant create on schema keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring_private.export_check(digest bytea) returns bytea
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select sha256(k.outer_pad || sha256(k.inner_pad || digest)) from keyring_private.seal_keys k where k.purpose = 'export');
end $$;
comment on function keyring_private.export_check(bytea) is 'HMAC-SHA-256 that only this database, or a copy of it, makes: of an exported file, and of nothing as its name.';

create or replace function keyring_private.export_roots() returns setof text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('root', r.version, 'half', encode(r.half, 'hex'), 'application', encode(r.application_id, 'hex'),
      'check', encode(r.check_value, 'hex'), 'created', r.created_at)::text
    from keyring_private.roots r where r.check_value is not null order by r.version
$$;
comment on function keyring_private.export_roots() is 'Lines of an exported file: the roots.';

create or replace function keyring_private.export_index_keys() returns setof text
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select jsonb_build_object('column', k.column_id, 'slot', k.slot, 'root', k.root_version, 'wrapped', encode(k.wrapped, 'base64'),
      'created', k.created_at)::text
    from keyring_private.index_keys k order by k.column_id, k.slot
$$;
comment on function keyring_private.export_index_keys() is 'Lines of an exported file: the keys of blind indexes.';

create or replace function keyring_private.export_data_keys(after uuid, batch integer) returns table (id uuid, line text)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select k.id, jsonb_build_object('key', k.id, 'subject', k.subject, 'root', k.root_version, 'wrapped', encode(k.wrapped, 'base64'),
      'created', k.created_at, 'retired', k.retired_at)::text
    from keyring_private.data_keys k
    where k.id > after
    order by k.id
    limit batch
$$;
comment on function keyring_private.export_data_keys(uuid, integer) is 'Lines of an exported file: data keys, in the order of their ids.';

-- The halves come sealed under a transport key, and never as a parameter of a statement: those are what logs print.
create or replace function keyring_private.sealed_roots(transport uuid, sealed bytea)
  returns table (version integer, half bytea, application_id bytea, check_value bytea, created_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_opened bytea;
  v_one bytea;
begin
  v_opened := keyring_private.unwrap(
    (select t.key from keyring_private.transport_keys t where t.id = transport and t.retired_at is null), sealed,
    '\x04'::bytea || uuid_send(transport));
  for i in 0 .. length(v_opened) / 84 - 1 loop
    v_one := substr(v_opened, 84 * i + 1, 84);
    version := ('x' || encode(substr(v_one, 1, 4), 'hex'))::bit(32)::integer;
    half := substr(v_one, 5, 32);
    application_id := substr(v_one, 37, 8);
    check_value := substr(v_one, 45, 32);
    created_at := to_timestamp(('x' || encode(substr(v_one, 77, 8), 'hex'))::bit(64)::bigint / 1000.0);
    return next;
  end loop;
end $$;
comment on function keyring_private.sealed_roots(uuid, bytea) is
  'Roots that come sealed under a transport key: 84 bytes each (version 4, half 32, application 8, check 32, milliseconds since 1970 8). KEYBD if they do not open.';

create or replace function keyring_private.import_roots(transport uuid, sealed bytea) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  if exists (select from keyring_private.works w where w.kind = 'rewrap' and w.finished_at is null) then
    raise exception 'a rotation is under way' using errcode = 'CNFLT';
  end if;
  insert into keyring_private.roots (version, half, application_id, check_value, created_at)
    select s.version, s.half, s.application_id, s.check_value, s.created_at
      from keyring_private.sealed_roots(import_roots.transport, import_roots.sealed) s
    on conflict on constraint roots_pkey do update
      set half = excluded.half, application_id = excluded.application_id, check_value = excluded.check_value
      -- A root that no application has come to yet has no keys.
      where roots.check_value is null;
  get diagnostics v_count = row_count;
  if exists (
      select from keyring_private.sealed_roots(import_roots.transport, import_roots.sealed) s
        join keyring_private.roots r on r.version = s.version
        where r.half <> s.half) then
    raise exception 'this database has made other roots since' using errcode = 'CNFLT';
  end if;
  return v_count;
end $$;
comment on function keyring_private.import_roots(uuid, bytea) is
  'Adds roots of an exported file; returns how many were not there. CNFLT where this database has another root of that number, or while a rotation is under way.';

create or replace function keyring_private.import_index_keys(lines jsonb, out added bigint, out renewed bigint, out replaced bigint)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- A key that was replaced since: the values that were restored must be indexed anew.
  select count(*) into replaced
    from jsonb_to_recordset(lines) l ("column" uuid, slot text, created timestamptz)
    join keyring_private.index_keys k on k.column_id = l."column" and k.slot = l.slot and k.created_at <> l.created;
  with written as (
    insert into keyring_private.index_keys as k (column_id, slot, root_version, wrapped, created_at)
      select l."column", l.slot, l.root, decode(l.wrapped, 'base64'), l.created
        from jsonb_to_recordset(lines) l ("column" uuid, slot text, root integer, wrapped text, created timestamptz)
        where exists (select from keyring_private.sealed_columns c where c.id = l."column")
      on conflict on constraint index_keys_pkey do update
        set root_version = excluded.root_version, wrapped = excluded.wrapped, created_at = excluded.created_at
        where k.root_version < excluded.root_version
      returning xmax = 0 as is_new)
    select count(*) filter (where is_new), count(*) filter (where not is_new) into added, renewed from written;
end $$;
comment on function keyring_private.import_index_keys(jsonb) is
  'Adds keys of blind indexes, and takes those under a newer root; counts those whose columns must be indexed anew.';

create or replace function keyring_private.import_data_keys(lines jsonb, out added bigint, out renewed bigint, out unknown bigint)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  select count(*) into unknown
    from jsonb_to_recordset(lines) l (subject uuid)
    where not exists (select from identity.people p where p.id = l.subject)
      and not exists (select from access.organizations o where o.id = l.subject);
  -- Of two current keys of one subject the one of the file stays current.
  update keyring_private.data_keys k set retired_at = clock_timestamp()
    from jsonb_to_recordset(lines) l (key uuid, subject uuid, retired timestamptz)
    where k.subject = l.subject and k.retired_at is null and k.id <> l.key and l.retired is null;
  with written as (
    insert into keyring_private.data_keys as k (id, subject, root_version, wrapped, created_at, retired_at)
      select l.key, l.subject, l.root, decode(l.wrapped, 'base64'), l.created, l.retired
        from jsonb_to_recordset(lines) l (key uuid, subject uuid, root integer, wrapped text, created timestamptz, retired timestamptz)
      on conflict on constraint data_keys_pkey do update
        set root_version = excluded.root_version, wrapped = excluded.wrapped, retired_at = excluded.retired_at
        where k.root_version < excluded.root_version and k.subject = excluded.subject
      returning xmax = 0 as is_new)
    select count(*) filter (where is_new), count(*) filter (where not is_new) into added, renewed from written;
end $$;
comment on function keyring_private.import_data_keys(jsonb) is
  'Adds data keys, and takes those under a newer root; counts those of a subject that is neither a person nor an organization here.';

create or replace function keyring_private.keys_without(ids uuid[], made timestamptz, erase boolean, out missing bigint, out younger bigint)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  select count(*) filter (where k.created_at < made), count(*) filter (where k.created_at >= made) into missing, younger
    from keyring_private.data_keys k
    where not exists (select from unnest(ids) i (id) where i.id = k.id);
  if erase and younger > 0 then
    raise exception 'this database has made keys since that file was written' using errcode = 'CNFLT';
  end if;
  if erase then
    delete from keyring_private.data_keys k
      where k.created_at < made and not exists (select from unnest(ids) i (id) where i.id = k.id);
  end if;
end $$;
comment on function keyring_private.keys_without(uuid[], timestamptz, boolean) is
  'Counts the data keys that an exported file does not have: missing there, so erased between the backup and the file, or younger than it. Deletes the missing ones if told to; CNFLT if there are younger ones, since then that file is not today''s.';

reset role;
reset row_security;
revoke create on schema keyring_private from safetypin_keeper;
