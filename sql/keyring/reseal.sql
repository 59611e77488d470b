-- Purpose: replacing data keys, and the keys of blind indexes. First every key in question is retired: from then on nothing
-- new is sealed under it. When everybody is over who began before that, a work for each column seals anew what stands
-- under retired keys. These still open what nobody seals anew (the audit trail, a backup that comes back), so they stay,
-- unless they are to be destroyed.

grant create on schema keyring, keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring_private.may_reseal() returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select not exists (select from keyring_private.works w
    where w.kind = 'reseal' and w.column_id is null and w.finished_at is null and coalesce(w.position ->> 'phase', 'retire') in ('retire', 'wait'))
$$;
comment on function keyring_private.may_reseal() is 'Whether the keys of a rotation of data keys are retired, and nobody is left who seals under them.';

create or replace function keyring.is_stale(sealed bytea) returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (select from keyring_private.data_keys k
    where k.id = encode(substr(sealed, case get_byte(sealed, 0) when 1 then 2 else 18 end, 16), 'hex')::uuid and k.retired_at is not null);
exception when others then
  -- Not one of ours: the guard tells.
  return false;
end $$;
comment on function keyring.is_stale(bytea) is 'Whether a value is sealed under a retired key. Tells nothing else of it.';

create or replace function keyring.rotate_data_keys(subject uuid default null, destroy boolean default false) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_work uuid;
  v_position jsonb := jsonb_strip_nulls(jsonb_build_object('subject', subject));
begin
  v_work := keyring_private.add_work('reseal', null,
    (select count(*) from keyring_private.data_keys k where k.retired_at is null and k.subject = coalesce(rotate_data_keys.subject, k.subject)),
    v_position || jsonb_build_object('phase', 'retire', 'destroy', destroy));
  perform keyring_private.add_work('reseal', c.id, null, v_position)
    from keyring_private.sealed_columns c
    where c.relation is not null and c.state <> 'unsealing' or c.reseals is not null;
  perform audit_private.append('key.rotate',
    details => v_position || jsonb_build_object('what', 'data', 'destroy', destroy, 'work', v_work));
  return v_work;
end $$;
comment on function keyring.rotate_data_keys(uuid, boolean) is
  'Gives a subject, or all, a new data key, and seals their values anew. Old keys stay for what cannot be sealed anew (IP addresses and statements in the audit trail, backups), unless destroy says that they go at the end. Returns the work that does it. CNFLT while a rotation is under way. For the owner.';

create or replace function keyring_private.retire_keys(work keyring_private.works, batch integer) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_subject uuid;
  v_count integer := 0;
begin
  for v_subject in
    select k.subject from keyring_private.data_keys k
      where k.retired_at is null and k.created_at < work.created_at
        and k.subject = coalesce((work.position ->> 'subject')::uuid, k.subject)
      limit batch for no key update skip locked
  loop
    perform keyring_private.retire_data_key(v_subject);
    v_count := v_count + 1;
  end loop;
  return v_count;
end $$;
comment on function keyring_private.retire_keys(keyring_private.works, integer) is 'Retires a batch of the keys of a rotation of data keys; returns how many.';

create or replace function keyring_private.work_reseal(work keyring_private.works, batch integer) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_phase text := work.position ->> 'phase';
  v_next text;
  v_count integer := 0;
begin
  if work.column_id is not null then
    return keyring_private.reseal_own(work, batch);
  end if;
  case v_phase
    when 'retire' then
      v_count := keyring_private.retire_keys(work, least(batch, 1000));
      v_next := case when v_count = 0 then 'wait' end;
    when 'wait' then
      if not keyring_private.has_waited(work) then
        return null;
      end if;
      v_next := 'values';
    when 'values' then
      if exists (select from keyring_private.works w where w.kind = 'reseal' and w.column_id is not null and w.finished_at is null) then
        return null;
      end if;
      v_next := 'last';
    when 'last' then
      -- Whoever reads still may have begun while values stood under the keys that go now.
      if (work.position ->> 'destroy')::boolean and not keyring_private.has_waited(work) then
        return null;
      end if;
      v_next := 'end';
    else
      if (work.position ->> 'destroy')::boolean then
        delete from keyring_private.data_keys k using (
            select o.id from keyring_private.data_keys o
              where o.retired_at is not null and o.subject = coalesce((work.position ->> 'subject')::uuid, o.subject) limit batch) old
          where k.id = old.id;
        get diagnostics v_count = row_count;
      end if;
      return v_count;
  end case;
  if v_next is not null then
    update keyring_private.works w set position = w.position - 'wait' || jsonb_build_object('phase', v_next) where w.id = work.id;
  end if;
  return greatest(v_count, 1);
end $$;
comment on function keyring_private.work_reseal(keyring_private.works, integer) is
  'One batch of a rotation of data keys: retires them, waits for whoever uses them still and for the columns, and destroys them if that was asked for; or a batch of one of our own columns.';

create or replace function keyring_private.reseal_own(work keyring_private.works, batch integer) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_step text := (select c.reseals from keyring_private.sealed_columns c where c.id = work.column_id);
  v_count integer;
  v_after uuid;
begin
  if not keyring_private.may_reseal() then
    return null;
  end if;
  execute format('select r.rows_done, r.after from %s($1, $2) r', v_step::regproc)
    using batch, (work.position ->> 'after')::uuid into v_count, v_after;
  -- What somebody held is found when it begins anew.
  update keyring_private.works w set position = w.position || jsonb_build_object('after', v_after) where w.id = work.id;
  return case when v_after is not null then greatest(v_count, 1) else v_count end;
end $$;
comment on function keyring_private.reseal_own(keyring_private.works, integer) is
  'A batch of one of our own columns, by the function that its row in the register names: 0 when nothing is left, null when something was held.';

create or replace function keyring_private.reseal(
  column_name text, row_id uuid, subject uuid, sealed bytea, organization_id uuid default '00000000-0000-0000-0000-000000000000'
) returns bytea
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not keyring_private.at_work(keyring_private.column_id(column_name), '{reseal}')
    and not (column_name like 'identity.registrations.%' and keyring_private.at_work(keyring_private.column_id('identity.registrations.email'), '{reseal}')) then
    raise exception 'only the work that seals this column anew may do this' using errcode = 'DENYD';
  end if;
  return case when sealed is not null then keyring_private.seal(column_name, organization_id, row_id, subject,
    keyring_private.open(column_name, organization_id, row_id, sealed)) end;
end $$;
comment on function keyring_private.reseal(text, uuid, uuid, bytea, uuid) is
  'Seals a value of one of our own columns anew, under its subject''s current key. DENYD outside the work on that column.';

reset role;
reset row_security;
revoke create on schema keyring, keyring_private from safetypin_keeper;

create or replace function keyring.rotate_index_key(relation regclass, "column" name) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_door record;
  v_count bigint;
begin
  select d.* into v_door from keyring.doors() d where d.relation = rotate_index_key.relation and d.door = "column";
  if not found or v_door.index_a is null then
    raise exception '%.% has no blind index', relation, quote_ident("column") using errcode = 'TABLE';
  end if;
  select c.reltuples into v_count from pg_class c where c.oid = relation;
  return keyring.begin_work(v_door.id, 'reindex', nullif(greatest(v_count, 0), 0) * 2);
end $$;
comment on function keyring.rotate_index_key(regclass, name) is
  'Replaces the key of a column''s blind index: another key in the other slot, both filled, then the old one emptied and its key destroyed. Values are found, and unique ones refused, all the time. Returns the work that does it. 42501 unless the caller owns the table, CNFLT while the column is worked on.';
