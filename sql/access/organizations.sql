-- Purpose: names of organizations for addresses, what operators do with organizations, and their end.

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.slug(name text) returns text
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  -- Letters lose their accents by being taken apart (NFKD); the few that do not come apart are named here.
  select coalesce(nullif(rtrim(left(btrim(regexp_replace(lower(replace(replace(replace(replace(
        translate(regexp_replace(normalize(slug.name, nfkd), E'[\u0300-\u036f]', '', 'g'), 'øØłŁđĐðÐıħĦÆŒÞẞ', 'oOlLdDdDihHæœþß'),
        'ß', 'ss'), 'æ', 'ae'), 'œ', 'oe'), 'þ', 'th') collate "C"),
      '[^a-z0-9]+', '-', 'g'), '-'), 40), '-'), ''), 'organization')
    || '-' || (select string_agg(substr('abcdefghijklmnopqrstuvwxyz234567', (get_byte(r.bytes, i) & 31) + 1, 1), '')
      from (select uuid_send(gen_random_uuid()) as bytes) r, generate_series(0, 5) i)
$$;
comment on function access_private.slug(text) is
  'A name in ASCII with 30 random bits behind it: whoever asks for one learns nothing about whose there are.';

create or replace function access_private.tg_organizations__slug() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set plan_cache_mode = force_generic_plan
as $$
begin
  loop
    new.slug := access_private.slug(new.name);
    exit when not exists (select from access.organizations o where o.slug = new.slug);
  end loop;
  return new;
end $$;
comment on function access_private.tg_organizations__slug() is 'The server alone makes slugs.';

create or replace function access.list_organizations()
  returns table (slug text, name text, status text, plan text, members integer, created_at timestamptz, closes_at timestamptz)
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows reading all organizations; granted to the owner alone.
  select o.slug, o.name, o.status, o.plan, access_private.used(o.id, 'members'), o.created_at, nullif(o.closes_at, 'infinity')
    from access.organizations o
    order by o.created_at, o.id
$$;
comment on function access.list_organizations() is 'All organizations, oldest first. For operators.';

create or replace function access_private.operate(slug text) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  select o.id into v_id from access.organizations o where o.slug = operate.slug;
  if not found then
    raise exception 'no organization %', operate.slug using errcode = 'P0002';
  end if;
  perform access_private.take_turn(v_id);
  return v_id;
end $$;
comment on function access_private.operate(text) is 'The organization of a slug, whose turn this transaction has then. P0002 if there is none.';

create or replace function access.suspend_organization(slug text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Borrows changing organizations; granted to the owner alone.
declare
  v_id uuid := access_private.operate(slug);
begin
  update access.organizations o
    set status = 'suspended', updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_id and o.status = 'active';
  if found then
    perform audit_private.append('organization.suspend', v_id);
  end if;
  return found;
end $$;
comment on function access.suspend_organization(text) is
  'Nobody acts in the organization from the next statement on; its sessions end. False if it was not active; P0002 if there is none. For operators; recorded.';

create or replace function access.resume_organization(slug text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- As for suspend_organization().
declare
  v_id uuid := access_private.operate(slug);
begin
  update access.organizations o
    set status = 'active', updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_id and o.status = 'suspended';
  if found then
    perform audit_private.append('organization.resume', v_id);
  end if;
  return found;
end $$;
comment on function access.resume_organization(text) is
  'Takes a suspension back: people sign in anew. False if it was not suspended; P0002 if there is none. For operators; recorded.';

create or replace function access.give_plan(slug text, plan text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- As for suspend_organization().
declare
  v_id uuid := access_private.operate(slug);
begin
  if not exists (select from access.plans p where p.name = give_plan.plan) then
    raise exception 'no plan %', give_plan.plan using errcode = 'P0002';
  end if;
  update access.organizations o
    set plan = give_plan.plan, updated_at = clock_timestamp(), version = o.version + 1
    where o.id = v_id and o.plan <> give_plan.plan;
  if found then
    perform audit_private.append('organization.plan', v_id, details => jsonb_build_object('plan', give_plan.plan));
  end if;
  return found;
end $$;
comment on function access.give_plan(text, text) is
  'Gives an organization a plan; nothing is taken from one that has more than the plan allows. False if it had that plan; P0002 if there is no such organization or plan. For operators; recorded.';

create or replace function access.close_organizations(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
begin
  if request.task() is distinct from 'access__close_organizations' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  with closed as (
    update access.organizations o
      set status = 'closed', updated_at = clock_timestamp(), version = o.version + 1
      from (select c.id from access.organizations c
            where c.closes_at <= clock_timestamp() and c.status <> 'closed'
            order by c.id
            limit least(greatest(batch, 1), 1000) for no key update skip locked) over
      where o.id = over.id
      returning o.id)
  select count(*) filter (where audit_private.append('organization.end', c.id) is not null)::integer into v_count from closed c;
  return v_count;
end $$;
comment on function access.close_organizations(integer) is
  'Task access__close_organizations: says closed of organizations that are over already by the clock; returns how many. DENYD outside it.';

grant execute on function access_private.tg_organizations__slug() to safetypin_owner;
reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;

create or replace trigger _100_slug before insert on access.organizations
  for each row execute function access_private.tg_organizations__slug();
