-- Purpose: founding organizations, and which are one's own.

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
  where m.person_id = (select request.user_id()) and o.status = 'active' and o.closes_at > clock_timestamp()
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

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
