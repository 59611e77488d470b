-- Purpose: founding organizations, and which are one's own.

do $$
begin
  if to_regtype('api.plan_use') is null then
    create type api.plan_use as (what text, used integer, most integer);
  end if;
end $$;
comment on type api.plan_use is 'Something that the plan limits.';
comment on column api.plan_use.what is 'members, roles and so on.';
comment on column api.plan_use.used is 'How many there are.';
comment on column api.plan_use.most is 'How many there may be.';

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.my_organizations() returns setof access.organizations
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows reading beyond the active organization; the check is the person's own membership.
  select o.*
  from access.organizations o
  join access.memberships m on m.organization_id = o.id
  where m.person_id = (select request.signed_in_id()) and o.status = 'active' and o.closes_at > clock_timestamp()
  order by m.created_at, o.id
$$;
comment on function api.my_organizations() is 'Organizations that the caller belongs to, oldest membership first; what switchOrganization takes.';

create or replace function api.create_organization(name text) returns api.created_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_person uuid := request.signed_in_id();
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if not access_private.valid_name(name) then
    return ('REFUSED', '{NAME_INVALID}', null)::api.created_result;
  end if;
  -- The person's row is held, so that the limit holds when two are founded at once.
  perform from identity.people p where p.id = v_person for no key update;
  if (select count(*) from access.organizations o where o.created_by = v_person) >= platform.limit_value('organization.per_person') then
    return ('REFUSED', access_private.refused('organization.create', '{LIMIT_REACHED}'), null)::api.created_result;
  end if;
  return ('CREATED', '{}', access_private.found_organization(btrim(name), v_person))::api.created_result;
end $$;
comment on function api.create_organization(text) is
  'Founds an organization with the caller as its owner; switchOrganization makes it active. REFUSED with NAME_INVALID or LIMIT_REACHED; AUTHN for nobody.';

create or replace function api.plan_usage() returns setof api.plan_use
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not coalesce(request.can('plan.read'), false) then
    raise exception 'plan.read is needed' using errcode = 'DENYD';
  end if;
  return query
    select l.what, access_private.used(o.id, l.what), l.most
      from access.organizations o
      join access.plan_limits l on l.plan = o.plan
      where o.id = request.organization_id()
      order by l.what;
end $$;
comment on function api.plan_usage() is
  'What the plan of the active organization limits, and how much of it is used. Demands plan.read.';

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
