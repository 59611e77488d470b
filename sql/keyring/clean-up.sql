-- Purpose: removing what is over: see platform/clean-up.sql. The keeper's, since it is about keys.

grant create on schema keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function keyring.clean_up(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  if request.task() is distinct from 'keyring__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Fetching a new one does this too. This is for an application that stopped asking: an envelope that was written down
  -- somewhere must not find its key.
  delete from keyring_private.transport_keys k
    using (select o.id from keyring_private.transport_keys o
           where o.created_at < clock_timestamp() - make_interval(secs => 2 * platform.limit_value('transport_key.seconds'))
           limit least(greatest(batch, 1), 10000) for update skip locked) old
    where k.id = old.id;
  get diagnostics v_count = row_count;
  return v_count;
end $$;
comment on function keyring.clean_up(integer) is
  'Task keyring__clean_up: removes a batch of transport keys whose life is over twice; returns how many. DENYD outside it.';

reset role;
reset row_security;
revoke create on schema keyring from safetypin_keeper;
