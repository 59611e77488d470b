-- Purpose: what works on rows of other tables need of the keeper: it begins them, does the steps between, and seals and
-- opens for the worker. It takes and gives values alone, and only for the column whose work this transaction has taken.

grant create on schema keyring, keyring_private to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring.at_work(relation oid) returns boolean
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  return exists (
      select from keyring_private.works w
        join keyring_private.sealed_columns c on c.id = w.column_id
        where w.taken_by = pg_current_xact_id_if_assigned() and c.relation = at_work.relation)
    or request.job_value('subject') is not null;
end $$;
comment on function keyring.at_work(oid) is
  'For policies of tables with sealed columns: whether this transaction is a batch of a work on that table, or of an erasure.';

create or replace function keyring_private.owns(relation oid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$ select exists (select from pg_class c where c.oid = owns.relation and pg_has_role(session_user, c.relowner, 'member')) $$;
comment on function keyring_private.owns(oid) is 'Whether who is connected can act as the owner of a table.';

create or replace function keyring.begin_work(column_id uuid, kind text, total bigint) returns uuid
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- The check: who calls must be able to act as the table's owner.
declare
  v_column keyring_private.sealed_columns;
  v_work uuid;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = begin_work.column_id and c.relation is not null for update;
  if not found or not keyring_private.owns(v_column.relation) then
    raise exception 'only the owner of a table can have its columns worked on' using errcode = '42501';
  end if;
  if (kind, v_column.state) not in (('seal', 'sealing'), ('unseal', 'sealing'), ('unseal', 'sealed'), ('reindex', 'sealed'))
    or kind = 'reindex' and not v_column.indexed then
    raise exception 'the column is not in a state for this' using errcode = 'CNFLT';
  end if;
  -- Sealing that is not over yet is turned around.
  if kind = 'unseal' then
    update keyring_private.works w set finished_at = clock_timestamp() where w.column_id = v_column.id and w.finished_at is null;
    update keyring_private.sealed_columns c set state = 'unsealing' where c.id = v_column.id;
  end if;
  if kind = 'reindex' and (select count(*) from keyring_private.index_keys k where k.column_id = v_column.id) <> 1 then
    raise exception 'the column has no index key yet, or two' using errcode = 'CNFLT';
  end if;
  v_work := keyring_private.add_work(kind, v_column.id, total);
  if kind <> 'seal' then
    perform audit_private.append(case kind when 'unseal' then 'column.unseal' else 'key.rotate' end, relation => v_column.relation::regclass::text,
      details => jsonb_build_object('what', kind, 'column', v_column.id, 'class', v_column.class, 'work', v_work));
  end if;
  return v_work;
end $$;
comment on function keyring.begin_work(uuid, text, bigint) is
  'Notes a work on the rows of a sealed column: seal, unseal or reindex. 42501 unless the caller owns the table, CNFLT while that column has another. keyring.seal_column() and its kin call it.';

create or replace function keyring.is_over(column_id uuid) returns boolean
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select not exists (select from keyring_private.works w where w.column_id = is_over.column_id and w.finished_at is null)
$$;
comment on function keyring.is_over(uuid) is 'Whether no work on a column is left.';

create or replace function keyring.forget_column(column_id uuid) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- The check: who calls must be able to act as the table's owner.
declare
  v_column keyring_private.sealed_columns;
begin
  select c.* into v_column from keyring_private.sealed_columns c where c.id = forget_column.column_id and c.relation is not null;
  if not found or not keyring_private.owns(v_column.relation) then
    raise exception 'only the owner of a table can unseal its columns' using errcode = '42501';
  end if;
  if v_column.state <> 'unsealing' or not keyring.is_over(v_column.id) then
    raise exception 'the column is not unsealed yet' using errcode = 'CNFLT';
  end if;
  delete from keyring_private.index_keys k where k.column_id = v_column.id;
  delete from keyring_private.sealed_columns c where c.id = v_column.id;
  perform audit_private.append('column.unseal', relation => v_column.relation::regclass::text,
    details => jsonb_build_object('what', 'finish', 'column', v_column.id));
end $$;
comment on function keyring.forget_column(uuid) is
  'Takes a column that is unsealed out of the register, with its index keys. 42501 unless the caller owns the table, CNFLT before its work is over. keyring.unseal_column() calls it.';

create or replace function keyring_private.do_step(work keyring_private.works, sealed_column keyring_private.sealed_columns, step text) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_slot text := work.position ->> 'slot';
  v_root integer;
begin
  case step
    when 'wait' then
      return keyring_private.has_waited(work);
    when 'turn' then
      -- The keys are retired first, and whoever still used them is over.
      return keyring_private.may_reseal();
    when 'key' then
      select case k.slot when 'a' then 'b' else 'a' end into strict v_slot
        from keyring_private.index_keys k where k.column_id = work.column_id;
      -- Held until this transaction ends: a rotation must not delete the root under our feet.
      select r.version into strict v_root from keyring_private.roots r order by r.version desc limit 1 for key share;
      insert into keyring_private.index_keys (column_id, slot, root_version, wrapped)
        values (work.column_id, v_slot, v_root, keyring_private.wrap(keyring_private.key_encryption_key(v_root),
          extensions.gen_random_bytes(64), '\x03'::bytea || uuid_send(work.column_id)));
      update keyring_private.works w set position = w.position || jsonb_build_object('slot', v_slot) where w.id = work.id;
      return true;
    when 'drop' then
      delete from keyring_private.index_keys k where k.column_id = work.column_id and k.slot <> v_slot;
      return true;
    when 'sealed' then
      update keyring_private.sealed_columns c set state = 'sealed' where c.id = sealed_column.id and c.state = 'sealing';
      return true;
  end case;
end $$;
comment on function keyring_private.do_step(keyring_private.works, keyring_private.sealed_columns, text) is
  'One of the keeper''s steps of a work on rows; whether it is over, else it is tried again.';

create or replace function keyring_private.open_for_work(column_id uuid, organization_id uuid, row_id uuid, sealed bytea,
  out value text, out problem text)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if length(sealed) < 113 or get_byte(sealed, 0) <> 2 then
    raise exception 'the value cannot be opened' using errcode = 'KEYBD';
  end if;
  value := convert_from(keyring_private.unpad(keyring_private.unwrap(
      keyring_private.data_key(encode(substr(sealed, 18, 16), 'hex')::uuid), substr(sealed, 34),
      keyring_private.door_data(column_id, organization_id, row_id, substr(sealed, 18, 16)))), 'UTF8');
exception when sqlstate 'KEYER' then
  problem := 'KEYER';
end $$;
comment on function keyring_private.open_for_work(uuid, uuid, uuid, bytea) is
  'Opens a value of a door''s column, without asking who may. KEYER as a problem, all else as an error.';

create or replace function keyring.unseal_values(column_id uuid, organizations uuid[], row_ids uuid[], sealed bytea[])
  returns table (number integer, value text, problem text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: opening. The check: this transaction has taken the work that unseals this very column.
begin
  if not keyring_private.at_work(unseal_values.column_id, '{unseal}') then
    raise exception 'only the work that unseals this column may do this' using errcode = 'DENYD';
  end if;
  return query
    select u.n::integer, o.value, o.problem
      from unnest(organizations, row_ids, unseal_values.sealed) with ordinality u (organization, row_id, sealed, n)
      cross join lateral keyring_private.open_for_work(unseal_values.column_id, u.organization, u.row_id, u.sealed) o;
end $$;
comment on function keyring.unseal_values(uuid, uuid[], uuid[], bytea[]) is
  'For the worker: values of a column that is being unsealed. DENYD outside that work, KEYBD for what does not open.';

create or replace function keyring.reseal_values(column_id uuid, organizations uuid[], row_ids uuid[], subjects uuid[], sealed bytea[])
  returns table (number integer, value bytea, problem text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: opening and sealing; nothing opened leaves it. The check: this transaction has taken the work
-- that seals this very column anew.
begin
  if not keyring_private.at_work(reseal_values.column_id, '{reseal}') then
    raise exception 'only the work that seals this column anew may do this' using errcode = 'DENYD';
  end if;
  return query
    select u.n::integer, case when o.problem is null then keyring_private.seal_for_door(
        reseal_values.column_id, u.organization, u.row_id, coalesce(u.subject, u.organization), o.value) end, o.problem
      from unnest(organizations, row_ids, subjects, reseal_values.sealed) with ordinality u (organization, row_id, subject, sealed, n)
      cross join lateral keyring_private.open_for_work(reseal_values.column_id, u.organization, u.row_id, u.sealed) o;
end $$;
comment on function keyring.reseal_values(uuid, uuid[], uuid[], uuid[], bytea[]) is
  'For the worker: values of a column sealed anew, each under its subject''s current key; KEYER as a problem for what was erased. DENYD outside that work, KEYBD for what does not open.';

create or replace function keyring.index_values(column_id uuid, organizations uuid[], row_ids uuid[], sealed bytea[])
  returns table (number integer, value bytea, problem text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows from the keeper: opening, and the index key; nothing opened leaves it. The check: this transaction has taken the
-- work that replaces the index key of this very column.
declare
  v_column keyring_private.sealed_columns;
  v_slot text;
begin
  if not keyring_private.at_work(index_values.column_id, '{reindex}') then
    raise exception 'only the work that replaces the index key of this column may do this' using errcode = 'DENYD';
  end if;
  select c.* into v_column from keyring_private.sealed_columns c where c.id = index_values.column_id;
  select w.position ->> 'slot' into v_slot
    from keyring_private.works w where w.taken_by = pg_current_xact_id_if_assigned() and w.column_id = v_column.id;
  return query
    select u.n::integer, case when o.problem is null then keyring_private.index_value(v_column.id, v_slot, u.organization,
        keyring_private.lookup_form(o.value, v_column.lookup, v_column.type), false) end, o.problem
      from unnest(organizations, row_ids, index_values.sealed) with ordinality u (organization, row_id, sealed, n)
      cross join lateral keyring_private.open_for_work(v_column.id, u.organization, u.row_id, u.sealed) o;
end $$;
comment on function keyring.index_values(uuid, uuid[], uuid[], bytea[]) is
  'For the worker: blind indexes of values under the new key; KEYER as a problem for what was erased. DENYD outside that work, KEYBD for what does not open.';

create or replace function keyring_private.hidden_from_audit(relation oid) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- A work is one event at its beginning, not one for each row.
  select coalesce(array_agg(h.name) filter (where h.name is not null), '{}')
    from keyring_private.doors d
    cross join unnest(array[d.door, d.index_a, d.index_b, case when keyring_private.at_work(d.id) then d.sealed end]) h (name)
    where d.relation = hidden_from_audit.relation or d.relation in (select pg_partition_ancestors(hidden_from_audit.relation))
$$;
comment on function keyring_private.hidden_from_audit(oid) is
  'Columns of a table that the audit trail leaves out: doors and blind indexes, and what is sealed anew by a work.';

create or replace function keyring.works()
  returns table (
    id uuid, kind text, column_id uuid, column_name text, done bigint, total bigint, percent integer,
    created_at timestamptz, updated_at timestamptz, finished_at timestamptz, problem text
  )
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
  select w.id, w.kind, w.column_id, coalesce(c.name, d.relation || '.' || d.door), w.done, w.total,
         case when w.finished_at is not null then 100
              else least(99, 100 * w.done / nullif(w.total, 0))::integer end,
         w.created_at, w.updated_at, w.finished_at, w.problem
    from keyring_private.works w
    left join keyring_private.sealed_columns c on c.id = w.column_id
    left join keyring_private.doors d on d.id = w.column_id
    order by w.id
$$;
comment on function keyring.works() is 'All works on keys and values, oldest first, and how far they are. For the owner.';

reset role;
reset row_security;
revoke create on schema keyring, keyring_private from safetypin_keeper;
