-- Purpose: what the API says about keys: how far a rotation or a sealing is. Counts are over all organizations, so there
-- are none here.

do $$
begin
  if to_regtype('api.key_work') is null then
    create type api.key_work as (
      id uuid, kind text, "column" text, percent integer, created_at timestamptz, updated_at timestamptz, finished_at timestamptz);
  end if;
end $$;
comment on type api.key_work is 'Work on keys or sealed values: a rotation, or the sealing of a column that has rows.';
comment on column api.key_work.id is 'Id, in the order of their making.';
comment on column api.key_work.kind is 'rewrap: keys under a new root. seal, unseal: a column. reseal: values under new data keys. reindex: blind indexes under new keys.';
comment on column api.key_work."column" is 'The sealed column, or its table; null if it is about keys.';
comment on column api.key_work.percent is 'How far it is; null while that is not known.';
comment on column api.key_work.created_at is 'When it was asked for.';
comment on column api.key_work.updated_at is 'When it went on last.';
comment on column api.key_work.finished_at is 'When nothing was left; null while there is.';

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.key_works() returns setof api.key_work
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not coalesce(request.can('key.read'), false) then
    raise exception 'key.read is needed' using errcode = 'DENYD';
  end if;
  return query
    select w.id, w.kind, w.column_name, w.percent, w.created_at, w.updated_at, w.finished_at from keyring.works() w;
end $$;
comment on function api.key_works() is 'Work on keys and sealed values, oldest first. Demands key.read.';

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
