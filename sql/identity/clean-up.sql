-- Purpose: removing what is over: see platform/clean-up.sql. A mail's text is never kept: it is written at the moment of
-- sending, and of its token only the hash is.

grant create on schema identity to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function identity.clean_up(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  v_batch constant integer := least(greatest(batch, 1), 10000);
  -- A registration outlives each token that can complete it, and the tries to send them.
  v_registered constant timestamptz := v_now - make_interval(secs => 2 * platform.limit_value('token.verification_seconds'));
  v_mailed constant timestamptz := v_now - make_interval(secs => platform.limit_value('keep.mail_seconds'));
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'identity__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  delete from identity_private.attempts a
    using (select o.id from identity_private.attempts o
           where o.created_at < v_now - make_interval(secs => platform.limit_value('keep.attempt_seconds'))
           limit v_batch for update skip locked) old
    where a.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  delete from identity_private.lockouts l
    using (select o.key from identity_private.lockouts o
           where o.last_at < v_now - make_interval(secs =>
               platform.limit_value('attempt.forget_seconds') + platform.limit_value('attempt.lock_maximum_seconds'))
           limit v_batch for update skip locked) old
    where l.key = old.key;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  -- From the leaves to the root, one row at a time: a cascade would wait for rows that are in use.
  delete from identity_private.tokens t
    using (select o.hash from identity_private.tokens o
           left join identity_private.registrations r on r.id = o.registration_id
           where least(o.consumed_at, o.expires_at) < v_now - make_interval(secs => platform.limit_value('keep.token_seconds'))
             or r.created_at < v_registered
           limit v_batch for update of o skip locked) old
    where t.hash = old.hash;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  delete from identity_private.mails m
    using (select o.id from identity_private.mails o
           left join identity_private.registrations r on r.id = o.registration_id
           where (o.sent_at < v_mailed
               -- Nobody sends it any more: its job was given up, and dropped.
               or o.created_at < v_mailed - make_interval(secs => platform.limit_value('keep.failed_job_seconds'))
               or r.created_at < v_registered)
             and not exists (select from identity_private.tokens t where t.mail_id = o.id)
           limit v_batch for update of o skip locked) old
    where m.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;

  with gone as (
    delete from identity_private.registrations r
      using (select o.id from identity_private.registrations o
             where o.created_at < v_registered
               and not exists (select from identity_private.mails m where m.registration_id = o.id)
               and not exists (select from identity_private.tokens t where t.registration_id = o.id)
             limit v_batch for update skip locked) old
      where r.id = old.id
      returning r.id)
  select count(keyring_private.destroy_data_key(g.id)) into v_count from gone g;
  return v_total + v_count;
end $$;
comment on function identity.clean_up(integer) is
  'Task identity__clean_up: removes a batch of attempts, lockouts, tokens, mails and registrations (with their keys) that are over; returns how many. DENYD outside it.';

reset role;
reset row_security;
revoke create on schema identity from safetypin_definer;
