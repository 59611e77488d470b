-- Purpose: what the worker does about domains: it takes those that are due, asks DNS, and says what the answer was. What
-- the answer means is decided here.

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.check_domain_task(id uuid default null) returns void
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.task() = 'access__check_domains'
    or request.task() = 'access__check_domain' and (check_domain_task.id is null or request.job_value('id') = check_domain_task.id) then
    return;
  end if;
  raise exception 'only the jobs of this name may do this' using errcode = 'DENYD';
end $$;
comment on function access_private.check_domain_task(uuid) is 'DENYD outside the jobs that check domains; one that checks a single domain does so for no other.';

create or replace function access.due_domains(batch integer)
  returns table (organization_id uuid, id uuid, challenge_name text)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_now constant timestamptz := clock_timestamp();
  -- Whoever takes one has ten minutes to say what DNS answered; then it is anybody's again.
  v_until constant timestamptz := v_now + interval '10 minutes';
begin
  perform access_private.check_domain_task();
  if request.task() = 'access__check_domain' then
    return query
      update access.domains d set next_check_at = v_until
        where d.organization_id = request.organization_id() and d.id = request.job_value('id')
          and access_private.living(d.organization_id)
        returning d.organization_id, d.id, d.challenge_name;
    return;
  end if;
  return query
    with due as (
      select d.organization_id, d.id
        from access.domains d
        where d.next_check_at <= v_now and access_private.living(d.organization_id)
        order by d.next_check_at
        limit least(greatest(due_domains.batch, 1), 1000)
        for no key update skip locked)
    update access.domains d set next_check_at = v_until
      from due
      where d.organization_id = due.organization_id and d.id = due.id
      returning d.organization_id, d.id, d.challenge_name;
end $$;
comment on function access.due_domains(integer) is
  'Tasks access__check_domains and access__check_domain: takes a batch of domains that DNS is to be asked about. DENYD outside them.';

create or replace function access_private.lose_domain(organization_id uuid, id uuid, because text) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  update access.domains d
    set status = 'lost', lost_at = clock_timestamp(), next_check_at = null
    where d.organization_id = lose_domain.organization_id and d.id = lose_domain.id;
  perform audit_private.append('domain.lose', lose_domain.organization_id,
    details => jsonb_build_object('because', because), relation => 'access.domains', row_id => lose_domain.id::text);
end $$;
comment on function access_private.lose_domain(uuid, uuid, text) is 'A domain is not the organization''s any more. Whoever calls it has its row of owners.';

create or replace function access_private.claim_domain(domain access.domains) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_before access_private.domain_owners;
  v_until constant timestamptz := clock_timestamp() + make_interval(secs => platform.limit_value('domain.proof_seconds'));
  v_now access_private.domain_owners;
begin
  select o.* into v_before from access_private.domain_owners o where o.domain = claim_domain.domain.domain;
  -- One statement decides: a proof that stands is not taken away, whoever proves what.
  insert into access_private.domain_owners as o (domain, organization_id, domain_id, proved_until, holds_until)
    values (claim_domain.domain.domain, claim_domain.domain.organization_id, claim_domain.domain.id, v_until,
      v_until + make_interval(secs => platform.limit_value('domain.grace_seconds')))
    on conflict on constraint domain_owners_pkey do update
      set organization_id = excluded.organization_id, domain_id = excluded.domain_id,
          proved_until = excluded.proved_until, holds_until = excluded.holds_until
      where o.domain_id = excluded.domain_id or o.proved_until <= clock_timestamp()
        or not access_private.living(o.organization_id)
    returning o.* into v_now;
  if v_now.domain is null then
    -- Whoever owns it is asked now: is the record gone, the proof ends, and the next to prove it gets it.
    update access.domains d set next_check_at = clock_timestamp()
      where d.organization_id = v_before.organization_id and d.id = v_before.domain_id;
    return false;
  end if;
  if v_before.domain_id is distinct from v_now.domain_id and v_before.domain_id is not null then
    perform access_private.lose_domain(v_before.organization_id, v_before.domain_id, 'proved by another');
  end if;
  return true;
end $$;
comment on function access_private.claim_domain(access.domains) is
  'Makes the domain that was proved now the organization''s; false while another''s proof stands. Whoever calls it holds the domain.';

create or replace function access_private.fail_domain(domain access.domains, answered boolean) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  if answered then
    -- The first time that it is gone; later ones do not put the end off.
    update access_private.domain_owners o
      set proved_until = least(o.proved_until, clock_timestamp()),
          holds_until = least(o.holds_until, clock_timestamp() + make_interval(secs => platform.limit_value('domain.grace_seconds')))
      where o.domain = fail_domain.domain.domain and o.domain_id = fail_domain.domain.id;
  end if;
  -- A server that does not answer says nothing; but nobody holds a domain for ever because of that.
  delete from access_private.domain_owners o where o.domain = fail_domain.domain.domain and o.domain_id = fail_domain.domain.id and o.holds_until <= clock_timestamp();
  if fail_domain.domain.status = 'verified'
    and not exists (select from access_private.domain_owners o where o.domain = fail_domain.domain.domain and o.domain_id = fail_domain.domain.id) then
    perform access_private.lose_domain(fail_domain.domain.organization_id, fail_domain.domain.id,
      case when answered then 'not proved again' else 'no answer' end);
    return true;
  end if;
  return false;
end $$;
comment on function access_private.fail_domain(access.domains, boolean) is
  'A domain was not proved: true if it is lost by that. Whoever calls it holds the domain.';

create or replace function access_private.next_domain_check(domain access.domains, answer text) returns timestamptz
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select case
    when answer = 'proved' then clock_timestamp() + make_interval(secs => platform.limit_value('domain.proof_seconds'))
    when domain.status <> 'verified'
      and coalesce(domain.asked_at, domain.created_at) < clock_timestamp() - make_interval(secs => platform.limit_value('domain.pending_seconds')) then null
    when answer = 'unanswered' then clock_timestamp() + make_interval(secs => platform.limit_value('domain.retry_seconds'))
    when domain.status = 'verified' then clock_timestamp() + interval '1 day'
    -- Soon at first, while whoever added it waits; once a day in the end.
    else clock_timestamp() + least(interval '10 minutes' * (2 ^ least(domain.failures, 10)), interval '1 day')
  end
$$;
comment on function access_private.next_domain_check(access.domains, text) is 'When DNS is asked again; null for not until somebody asks.';

create or replace function access.note_domain_check(organization_id uuid, id uuid, answered boolean, records text[]) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_domain access.domains;
  v_answer text;
begin
  perform access_private.check_domain_task(id);
  select d.* into v_domain from access.domains d
    where d.organization_id = note_domain_check.organization_id and d.id = note_domain_check.id;
  perform access_private.hold_domain(v_domain.domain);
  -- As it is now that it is held.
  select d.* into v_domain from access.domains d
    where d.organization_id = note_domain_check.organization_id and d.id = note_domain_check.id
    for no key update;
  if not found then
    return null;
  end if;
  v_answer := case
    when answered is not true then 'unanswered'
    when v_domain.challenge_value = any (records) then 'proved'
    else 'absent' end;
  if v_answer = 'proved' and exists (select from access.shared_domains s where s.domain = v_domain.domain) then
    v_answer := 'taken';
  elsif v_answer = 'proved' and not access_private.claim_domain(v_domain) then
    v_answer := 'taken';
  end if;
  update access.domains d
    set checked_at = clock_timestamp(), last_answer = v_answer,
        failures = case v_answer when 'proved' then 0 when 'unanswered' then d.failures else d.failures + 1 end,
        status = case v_answer when 'proved' then 'verified' else d.status end,
        verified_at = case when v_answer = 'proved' and d.status <> 'verified' then clock_timestamp() else d.verified_at end,
        lost_at = case v_answer when 'proved' then null else d.lost_at end,
        next_check_at = access_private.next_domain_check(d, v_answer)
    where d.organization_id = v_domain.organization_id and d.id = v_domain.id;
  if v_answer = 'proved' and v_domain.status <> 'verified' then
    perform audit_private.append('domain.verify', v_domain.organization_id, relation => 'access.domains', row_id => v_domain.id::text);
  elsif v_answer = 'taken' and v_domain.last_answer is distinct from 'taken' then
    perform audit_private.append('domain.refuse', v_domain.organization_id, relation => 'access.domains', row_id => v_domain.id::text);
  elsif v_answer <> 'proved' and not access_private.fail_domain(v_domain, answered is true)
    and v_answer = 'absent' and v_domain.status = 'verified' and v_domain.failures = 0 then
    perform audit_private.append('domain.fail', v_domain.organization_id, relation => 'access.domains', row_id => v_domain.id::text);
  end if;
  return v_answer;
end $$;
comment on function access.note_domain_check(uuid, uuid, boolean, text[]) is
  'Tasks access__check_domains and access__check_domain: what DNS answered about a domain. answered is false when it did not, which counts as nothing. Returns proved, absent, unanswered or taken; null if the domain is gone. DENYD outside them.';

reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;
