-- Purpose: domains of organizations. A domain is proved by a TXT record that only whoever runs its DNS can write. Several
-- organizations may try; one owns it, and what says so is one row of access_private.domain_owners.

create table if not exists access.domains (
  organization_id uuid not null constraint domains_organization_exists references access.organizations (id) on delete cascade,
  id uuid not null default platform.uuid_v7(),
  domain text collate "C" not null constraint domains_domain_form check (
    length(domain) <= 230 and domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z][a-z0-9-]{0,61}[a-z0-9]$'),
  status text not null default 'pending' constraint domains_status_known check (status in ('pending', 'verified', 'lost')),
  challenge text not null default encode(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), 'hex'),
  challenge_name text generated always as ('_safetypin-challenge.' || domain) stored,
  challenge_value text generated always as ('safetypin-verification=' || challenge) stored,
  added_by uuid constraint domains_adder_exists references identity.people (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  asked_at timestamptz,
  checked_at timestamptz,
  last_answer text constraint domains_last_answer_known check (last_answer in ('proved', 'absent', 'unanswered', 'taken')),
  next_check_at timestamptz default clock_timestamp(),
  failures integer not null default 0,
  verified_at timestamptz,
  lost_at timestamptz,
  constraint domains_pkey primary key (organization_id, id),
  constraint domains_domain_unique unique (organization_id, domain)
);
create index if not exists domains_next_check_at_idx on access.domains (next_check_at) where next_check_at is not null;
create index if not exists domains_added_by_idx on access.domains (added_by);
alter table access.domains enable row level security, force row level security;
comment on table access.domains is 'Domains that an organization says are its own, and how far the proof is.';
comment on column access.domains.organization_id is 'Organization.';
comment on column access.domains.id is 'UUID version 7.';
comment on column access.domains.domain is 'The domain in ASCII and lower case, as DNS has it. It stands for itself: neither for what is under it nor above.';
comment on column access.domains.status is 'pending: not proved yet. verified: proved, and again every 30 days. lost: was, and is not any more.';
comment on column access.domains.challenge is 'Random part of the TXT record, for this organization and this domain alone.';
comment on column access.domains.challenge_name is 'Name of the TXT record that proves the domain.';
comment on column access.domains.challenge_value is 'Value of the TXT record. Others may stand beside it.';
comment on column access.domains.added_by is 'Who added it; null once that person is gone.';
comment on column access.domains.created_at is 'When it was added.';
comment on column access.domains.asked_at is 'When somebody last asked for a check; null if nobody has.';
comment on column access.domains.checked_at is 'When DNS was last asked.';
comment on column access.domains.last_answer is 'proved; absent: DNS has no such record; unanswered: DNS did not answer, which says nothing; taken: proved, but another organization''s proof stands.';
comment on column access.domains.next_check_at is 'When DNS is asked next; null: when somebody asks for it.';
comment on column access.domains.failures is 'How often in a row the record was not there.';
comment on column access.domains.verified_at is 'Since when it is verified.';
comment on column access.domains.lost_at is 'When it was lost.';

create table if not exists access_private.domain_owners (
  domain text collate "C" constraint domain_owners_pkey primary key,
  organization_id uuid not null,
  domain_id uuid not null,
  proved_until timestamptz not null,
  holds_until timestamptz not null,
  constraint domain_owners_domain_exists foreign key (organization_id, domain_id)
    references access.domains (organization_id, id) on delete cascade
);
create index if not exists domain_owners_domain_idx on access_private.domain_owners (organization_id, domain_id);
alter table access_private.domain_owners enable row level security, force row level security;
comment on table access_private.domain_owners is 'Whose a domain is: its key is the rule that there is one owner.';
comment on column access_private.domain_owners.domain is 'The domain.';
comment on column access_private.domain_owners.organization_id is 'Organization that owns it.';
comment on column access_private.domain_owners.domain_id is 'Row of access.domains.';
comment on column access_private.domain_owners.proved_until is 'Until then nobody else gets it, whatever they prove. Ends at once when DNS says that the record is gone.';
comment on column access_private.domain_owners.holds_until is 'Until then people join by it; no job has to run for it to end.';

create table if not exists access.shared_domains (
  domain text collate "C" constraint shared_domains_pkey primary key
    constraint shared_domains_domain_form check (domain ~ '^[a-z0-9.-]+[.][a-z0-9-]+$')
);
alter table access.shared_domains enable row level security, force row level security;
comment on table access.shared_domains is 'Domains whose addresses anybody can have: no organization gets one, and nobody joins by it. Operators add theirs.';
comment on column access.shared_domains.domain is 'The domain in ASCII and lower case.';

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.punycode(label text) returns text
  language plpgsql immutable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- RFC 3492, section 6.3, with its names of numbers: base 36, tmin 1, tmax 26, skew 38, damp 700.
declare
  v_points integer[] := array(
    select ascii(s.sign) from regexp_split_to_table(punycode.label, '') with ordinality as s (sign, place) order by s.place);
  v_text text := coalesce((
    select string_agg(chr(u.point), '' order by u.place) from unnest(v_points) with ordinality as u (point, place) where u.point < 128), '');
  v_basic integer := length(v_text);
  v_done integer := v_basic;
  v_n integer := 128;
  v_bias bigint := 72;
  v_delta bigint := 0;
  v_point integer;
  v_q bigint;
  v_k bigint;
  v_t bigint;
begin
  if v_basic > 0 then
    v_text := v_text || '-';
  end if;
  while v_done < cardinality(v_points) loop
    select min(u.point) into v_point from unnest(v_points) as u (point) where u.point >= v_n;
    v_delta := v_delta + (v_point - v_n)::bigint * (v_done + 1);
    v_n := v_point;
    foreach v_point in array v_points loop
      if v_point < v_n then
        v_delta := v_delta + 1;
      elsif v_point = v_n then
        v_q := v_delta;
        v_k := 36;
        loop
          v_t := least(greatest(v_k - v_bias, 1), 26);
          exit when v_q < v_t;
          v_text := v_text || substr('abcdefghijklmnopqrstuvwxyz0123456789', (v_t + (v_q - v_t) % (36 - v_t))::integer + 1, 1);
          v_q := (v_q - v_t) / (36 - v_t);
          v_k := v_k + 36;
        end loop;
        v_text := v_text || substr('abcdefghijklmnopqrstuvwxyz0123456789', v_q::integer + 1, 1);
        v_delta := v_delta / case when v_done = v_basic then 700 else 2 end;
        v_done := v_done + 1;
        v_delta := v_delta + v_delta / v_done;
        v_k := 0;
        while v_delta > 455 loop
          v_delta := v_delta / 35;
          v_k := v_k + 36;
        end loop;
        v_bias := v_k + 36 * v_delta / (v_delta + 38);
        v_delta := 0;
      end if;
    end loop;
    v_delta := v_delta + 1;
    v_n := v_n + 1;
  end loop;
  return v_text;
end $$;
comment on function access_private.punycode(text) is 'A label in Punycode (RFC 3492), without the xn-- before it.';

create or replace function access_private.ascii_domain(typed text) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
-- Two that differ in a sign differ in what comes out: what only looks alike never is. Folded is the case of ASCII alone,
-- as in addresses (identity_private.normalize_email).
declare
  v_domain text collate "C" := case when octet_length(typed) <= 1000 then lower(normalize(btrim(typed), nfc) collate "C") end;
begin
  -- Not what stands for a dot elsewhere, and nothing that cannot be seen.
  if v_domain is null
    or v_domain ~ E'[\u0001-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3002\uff0e\uff61\ufeff]' then
    return null;
  end if;
  -- The dot at the end is the root of DNS.
  v_domain := regexp_replace(v_domain, '[.]$', '');
  select string_agg(case when l.label ~ E'[^\u0001-\u007f]' then 'xn--' || access_private.punycode(l.label) else l.label end, '.' order by l.place)
    into v_domain
    from regexp_split_to_table(v_domain, '[.]') with ordinality as l (label, place);
  return case when length(v_domain) <= 230
    and v_domain ~ '^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?[.])+[a-z][a-z0-9-]{0,61}[a-z0-9]$' then v_domain end;
end $$;
comment on function access_private.ascii_domain(text) is
  'A domain as DNS has it: in ASCII (Punycode), lower case, without a dot at the end; null if it is none.';

create or replace function access_private.hold_domain(domain text) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  -- A lock of the transaction, keyed by the domain: there may be no row yet that could be locked instead.
  select pg_advisory_xact_lock(hashtextextended('safetypin domain ' || hold_domain.domain, 0))
$$;
comment on function access_private.hold_domain(text) is 'Whatever decides whose a domain is takes its turn until the end of the transaction.';

create or replace function access_private.living(organization_id uuid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select exists (select from access.organizations o
    where o.id = living.organization_id and o.status = 'active' and o.closes_at > clock_timestamp())
$$;
comment on function access_private.living(uuid) is 'Whether somebody can act in an organization now.';

create or replace function access.share_domain(domain text, shared boolean default true) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows the right to write the list; only operators, who work as the owner, are granted it.
declare
  v_domain text := access_private.ascii_domain(domain);
begin
  if v_domain is null then
    raise exception 'not a domain' using errcode = '22023';
  end if;
  if shared then
    insert into access.shared_domains (domain) values (v_domain) on conflict on constraint shared_domains_pkey do nothing;
  else
    delete from access.shared_domains s where s.domain = v_domain;
  end if;
  return v_domain;
end $$;
comment on function access.share_domain(text, boolean) is
  'Puts a domain on the list of those where anybody has an address, or takes it off; returns it as DNS has it. From then on nobody joins by it, whoever proved it. 22023 for what is no domain. For operators.';

reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;
