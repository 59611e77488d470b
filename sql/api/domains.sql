-- Purpose: adding domains, having them proved, removing them. Which there are is read from access.domains.

do $$
begin
  if to_regtype('api.domain_result') is null then
    create type api.asked_outcome as enum ('ASKED', 'REFUSED');
    create type api.domain_result as (
      outcome api.created_outcome, reasons text[], id uuid, challenge_name text, challenge_value text);
    create type api.asked_result as (outcome api.asked_outcome, reasons text[]);
  end if;
end $$;
comment on type api.asked_outcome is 'Whether the worker was asked to do something.';
comment on type api.domain_result is 'What became of adding a domain: the TXT record that proves it, unless it was refused.';
comment on type api.asked_result is 'Whether the worker was asked to do something; reasons are empty unless it was refused.';

grant create on schema api to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.add_domain(domain text) returns api.domain_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_domain text := access_private.ascii_domain(domain);
  v_row access.domains;
  v_room boolean;
begin
  if not request.can('domain.create') then
    return ('REFUSED', access_private.refused('domain.create', '{NOT_PERMITTED}'), null, null, null)::api.domain_result;
  end if;
  if v_domain is null then
    return ('REFUSED', '{DOMAIN_INVALID}', null, null, null)::api.domain_result;
  end if;
  if exists (select from access.shared_domains s where s.domain = v_domain) then
    return ('REFUSED', access_private.refused('domain.create', '{DOMAIN_SHARED}'), null, null, null)::api.domain_result;
  end if;
  -- Beside the plan's number there is one for everybody: each domain is asked about for weeks. Two statements, for the
  -- second sees what was added while the first waited for its turn.
  v_room := access_private.room(v_organization, 'domains');
  if not v_room or access_private.used(v_organization, 'domains') >= platform.limit_value('domain.per_organization') then
    return ('REFUSED', access_private.refused('domain.create', '{LIMIT_REACHED}'), null, null, null)::api.domain_result;
  end if;
  -- Whether another organization has it is not asked here, so nobody learns it by adding.
  insert into access.domains (organization_id, domain, added_by)
    values (v_organization, v_domain, request.user_id())
    on conflict on constraint domains_domain_unique do nothing
    returning * into v_row;
  if not found then
    return ('REFUSED', '{DOMAIN_EXISTS}', null, null, null)::api.domain_result;
  end if;
  perform audit_private.append('domain.add', details => jsonb_build_object('domain', v_domain), relation => 'access.domains', row_id => v_row.id::text);
  return ('CREATED', '{}', v_row.id, v_row.challenge_name, v_row.challenge_value)::api.domain_result;
end $$;
comment on function api.add_domain(text) is
  'Adds a domain to the active organization, and says which TXT record proves it. REFUSED with NOT_PERMITTED (domain.create), DOMAIN_INVALID, DOMAIN_SHARED (anybody can have an address there), LIMIT_REACHED or DOMAIN_EXISTS.';

create or replace function api.verify_domain(id uuid) returns api.asked_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not request.can('domain.create') then
    return ('REFUSED', access_private.refused('domain.verify', '{NOT_PERMITTED}'))::api.asked_result;
  end if;
  update access.domains d set asked_at = clock_timestamp(), failures = case d.status when 'verified' then d.failures else 0 end
    where d.organization_id = v_organization and d.id = verify_domain.id
      and (d.asked_at is null or d.asked_at < clock_timestamp() - make_interval(secs => platform.limit_value('domain.ask_seconds')));
  if not found then
    return ('REFUSED', access_private.refused('domain.verify', case
      when exists (select from access.domains d where d.organization_id = v_organization and d.id = verify_domain.id)
      then '{TOO_SOON}' else '{NOT_FOUND}' end::text[]))::api.asked_result;
  end if;
  perform platform.enqueue('access__check_domain', json_build_object('id', verify_domain.id));
  perform audit_private.append('domain.ask', relation => 'access.domains', row_id => verify_domain.id::text);
  return ('ASKED', '{}')::api.asked_result;
end $$;
comment on function api.verify_domain(uuid) is
  'Has DNS asked for the TXT record of a domain, now; what came of it is its status and lastAnswer. REFUSED with NOT_PERMITTED (domain.create), NOT_FOUND or TOO_SOON.';

create or replace function api.remove_domain(id uuid) returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_domain text;
begin
  if not request.can('domain.remove') then
    return ('REFUSED', access_private.refused('domain.remove', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  select d.domain into v_domain from access.domains d where d.organization_id = v_organization and d.id = remove_domain.id;
  perform access_private.hold_domain(v_domain);
  -- What says whose it is goes with it.
  delete from access.domains d where d.organization_id = v_organization and d.id = remove_domain.id;
  if not found then
    return ('REFUSED', access_private.refused('domain.remove', '{NOT_FOUND}'))::api.removed_result;
  end if;
  perform audit_private.append('domain.remove', details => jsonb_build_object('domain', v_domain), relation => 'access.domains', row_id => remove_domain.id::text);
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.remove_domain(uuid) is
  'Removes a domain from the active organization; members stay. REFUSED with NOT_PERMITTED (domain.remove) or NOT_FOUND.';

reset role;
reset row_security;
revoke create on schema api from safetypin_definer;
