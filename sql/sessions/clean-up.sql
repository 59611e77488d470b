-- Purpose: removing what is over: see platform/clean-up.sql.

grant create on schema sessions to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function sessions.clean_up(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant integer := least(greatest(batch, 1), 10000);
  v_over constant timestamptz := v_now - make_interval(secs => platform.limit_value('keep.credential_seconds'));
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'sessions__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- That a credential was used is what gives an old refresh token away, for as long as the one after it was not used.
  delete from sessions_private.credentials c
    using (select o.hash from sessions_private.credentials o
           where o.expires_at < v_over
             and not (o.first_used_at is not null and exists (
               select from sessions_private.refresh_tokens t
               join sessions.sessions s on s.id = t.session_id
               where t.hash = o.issued_with and t.rotated_at is null and s.ends_at > v_now))
           limit v_batch for update skip locked) old
    where c.hash = old.hash;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- While a session lives each old token of it is kept: presenting one is theft.
  delete from sessions_private.refresh_tokens t
    using (select o.hash from sessions_private.refresh_tokens o
           join sessions.sessions s on s.id = o.session_id
           where s.ends_at < v_over
           limit v_batch for update of o skip locked) old
    where t.hash = old.hash;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  delete from sessions.sessions s
    using (select o.id from sessions.sessions o
           where o.ends_at < v_now - make_interval(secs => platform.limit_value('keep.session_seconds'))
             and not exists (select from sessions_private.credentials c where c.session_id = o.id)
             and not exists (select from sessions_private.refresh_tokens t where t.session_id = o.id)
           limit v_batch for update skip locked) old
    where s.id = old.id;
  get diagnostics v_count = row_count;
  return v_total + v_count;
end $$;
comment on function sessions.clean_up(integer) is
  'Task sessions__clean_up: removes a batch of credentials, of refresh tokens and of sessions that are over; returns how many. DENYD outside it.';

reset role;
reset row_security;
revoke create on schema sessions from safetypin_definer;
