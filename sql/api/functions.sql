-- Purpose: who am I, where am I; what the API itself reports.

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api."current_user"() returns api.profile
  language sql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows the reading of one's own sealed name and address; the check is the sealed person id.
  select p.id,
    keyring_private.open('identity.emails.address', platform.no_organization(), e.id, e.address),
    keyring_private.open('identity.people.display_name', platform.no_organization(), p.id, f.display_name),
    e.verified_at is not null, p.locale, p.created_at
  from identity.people p
  left join identity_private.emails e on e.person_id = p.id and e.is_primary
  left join identity_private.profiles f on f.person_id = p.id
  where p.id = (select request.signed_in_id())
$$;
comment on function api."current_user"() is 'The person who is signed in; null for nobody.';

create or replace function api.current_organization() returns access.organizations
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Nobody is in no organization, and has no right to look either.
  if request.organization_id() is null then
    return null;
  end if;
  return (select o from access.organizations o where o.id = request.organization_id());
end $$;
comment on function api.current_organization() is 'The active organization; null if there is none.';

create or replace function api.current_session() returns sessions.sessions
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.session_id() is null then
    return null;
  end if;
  return (select s from sessions.sessions s where s.id = request.session_id());
end $$;
comment on function api.current_session() is 'This session; null for nobody.';

create or replace function api_steps.record_fault(request_id uuid, code text, name text, left_out integer default 0) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform audit_private.append('request.fault', details => jsonb_build_object(
    'request', request_id, 'code', left(regexp_replace(code, '[^0-9A-Z]', '', 'g'), 5),
    'name', left(regexp_replace(name, '[^A-Za-z0-9_.:/ -]', '', 'g'), 100),
    'left_out', greatest(left_out, 0)));
end $$;
comment on function api_steps.record_fault(uuid, text, text, integer) is
  'Records that a request failed unexpectedly, for whoever is signed in: its id, the SQLSTATE and where, no text; and how many were left out before, since a flood is not recorded one by one.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
