-- Purpose: service accounts and API keys: making, rotating and ending them, and what a key reaches. All but the last is
-- for people: a key makes no keys. Secrets are made by the application; SQL has only their hashes.

do $$
begin
  if to_regtype('api.api_key_reach') is null then
    create type api.ended_result as (outcome api.ended_outcome, reasons text[]);
    create type api.api_key_reach as (
      id uuid, permissions text[], held text[], reaches text[], is_live boolean, expires_at timestamptz, last_used_at timestamptz);
    create type api_steps.api_key_result as (outcome text, reasons text[], id uuid, prefix text, expires_at timestamptz);
  end if;
end $$;
comment on type api.ended_result is 'What became of ending something; reasons are empty unless it was refused.';
comment on type api.api_key_reach is 'What an API key can do.';
comment on column api.api_key_reach.id is 'API key.';
comment on column api.api_key_reach.permissions is 'What it was made for.';
comment on column api.api_key_reach.held is 'What of that it has now: whose key it is has it too.';
comment on column api.api_key_reach.reaches is 'Commands and tables that what it has now opens, as "select clinic.patients".';
comment on column api.api_key_reach.is_live is 'Whether it opens anything at all now.';
comment on column api.api_key_reach.expires_at is 'When it ends, or ended.';
comment on column api.api_key_reach.last_used_at is 'Last use, to about a minute; null for none.';
comment on type api_steps.api_key_result is 'What became of making or rotating an API key.';

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api.create_service_account(name text, permissions text[], description text default '') returns api.created_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_id uuid := platform.uuid_v7();
  v_reasons text[] := access_private.scope_reasons(create_service_account.permissions);
  v_name text := btrim(create_service_account.name);
begin
  if not access_private.take_turn_to('service_account.create') then
    v_reasons := '{NOT_PERMITTED}';
  elsif not access_private.valid_label(v_name) then
    v_reasons := '{NAME_INVALID}';
  elsif length(create_service_account.description) > 1000 then
    v_reasons := '{VALUE_INVALID}';
  elsif v_reasons <> '{}' then
    null;
  -- It outlives whoever makes it, so all of it must be held without an end.
  elsif access_private.not_held(create_service_account.permissions, tstzrange(clock_timestamp(), 'infinity')) <> '{}' then
    v_reasons := '{NOT_HELD}';
  elsif exists (select from access.service_accounts s
      where s.organization_id = v_organization and s.name = v_name and s.status = 'active') then
    v_reasons := '{NAME_TAKEN}';
  elsif not access_private.room(v_organization, 'service_accounts') then
    v_reasons := '{LIMIT_REACHED}';
  end if;
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('service_account.create', v_reasons), null)::api.created_result;
  end if;
  insert into access.service_accounts (organization_id, id, name, description, permissions, created_by)
    values (v_organization, v_id, v_name, coalesce(create_service_account.description, ''),
      array(select distinct u.p from unnest(create_service_account.permissions) as u (p) order by u.p), request.signed_in_id());
  perform audit_private.append('service_account.create', details => jsonb_build_object('serviceAccount', v_id));
  return ('CREATED', '{}', v_id)::api.created_result;
end $$;
comment on function api.create_service_account(text, text[], text) is
  'Makes a service account, which may do at most what is given here. Demands service_account.create, and all of that without an end. REFUSED with NOT_PERMITTED, NAME_INVALID, NAME_TAKEN, VALUE_INVALID, PERMISSION_UNKNOWN, NOT_HELD or LIMIT_REACHED.';

create or replace function api.remove_service_account(id uuid) returns api.removed_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
begin
  if not access_private.take_turn_to('service_account.remove') then
    return ('REFUSED', access_private.refused('service_account.remove', '{NOT_PERMITTED}'))::api.removed_result;
  end if;
  update access.service_accounts s set status = 'removed'
    where s.organization_id = v_organization and s.id = remove_service_account.id and s.status = 'active';
  if not found then
    return ('REFUSED', access_private.refused('service_account.remove', '{NOT_FOUND}'))::api.removed_result;
  end if;
  update access.api_keys k set revoked_at = clock_timestamp()
    where k.organization_id = v_organization and k.service_account_id = remove_service_account.id and k.revoked_at is null;
  perform audit_private.append('service_account.remove', details => jsonb_build_object('serviceAccount', remove_service_account.id));
  return ('REMOVED', '{}')::api.removed_result;
end $$;
comment on function api.remove_service_account(uuid) is
  'Removes a service account and ends its keys; what it did stays under its id. Demands service_account.remove. REFUSED with NOT_PERMITTED or NOT_FOUND.';

create or replace function api_steps.create_api_key(
  name text, permissions text[], expires_at timestamptz, service_account_id uuid, secret_hash bytea, prefix text
) returns api_steps.api_key_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
  v_account uuid := create_api_key.service_account_id;
  v_id uuid := platform.uuid_v7();
  v_most bigint := access_private.setting_number(v_organization, 'api_key.seconds');
  v_until timestamptz := coalesce(create_api_key.expires_at,
    clock_timestamp() + make_interval(secs => least(platform.limit_value('api_key.default_seconds'), v_most)));
  v_reasons text[] := access_private.scope_reasons(create_api_key.permissions);
  v_own text[];
begin
  if not access_private.take_turn_to('api_key.create')
    -- The key of a service account outlives whoever makes it, as the account does.
    or v_account is not null and not coalesce(request.can('service_account.create'), false) then
    v_reasons := '{NOT_PERMITTED}';
  elsif not access_private.valid_label(create_api_key.name) then
    v_reasons := '{NAME_INVALID}';
  elsif v_until <= clock_timestamp()
    or v_until > clock_timestamp() + make_interval(secs => v_most) then
    v_reasons := '{WINDOW_INVALID}';
  elsif v_reasons <> '{}' then
    null;
  elsif v_account is null then
    -- What ends before the key does ends for the key as well.
    if exists (select from unnest(create_api_key.permissions) as u (p) where not coalesce(request.can(u.p), false)) then
      v_reasons := '{NOT_HELD}';
    end if;
  else
    select s.permissions into v_own from access.service_accounts s
      where s.organization_id = v_organization and s.id = v_account and s.status = 'active';
    if not found then
      v_reasons := '{NOT_FOUND}';
    elsif not create_api_key.permissions <@ v_own
      or access_private.not_held(create_api_key.permissions, tstzrange(clock_timestamp(), v_until, '[]')) <> '{}' then
      v_reasons := '{NOT_HELD}';
    end if;
  end if;
  if v_reasons = '{}' and (not access_private.room(v_organization, 'api_keys')
      or platform.limit_value('api_key.per_owner') <= (
        select count(*) from access.api_keys k
          where k.organization_id = v_organization and k.revoked_at is null and k.expires_at > clock_timestamp()
            and (k.service_account_id = v_account or v_account is null and k.person_id = v_person))) then
    v_reasons := '{LIMIT_REACHED}';
  end if;
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('api_key.create', v_reasons), null, null, null)::api_steps.api_key_result;
  end if;
  insert into access.api_keys (organization_id, id, name, person_id, service_account_id, permissions, prefix, expires_at, created_by)
    values (v_organization, v_id, btrim(create_api_key.name), case when v_account is null then v_person end, v_account,
      array(select distinct u.p from unnest(create_api_key.permissions) as u (p) order by u.p),
      create_api_key.prefix, v_until, v_person);
  insert into access_private.api_key_secrets (hash, organization_id, key_id)
    values (create_api_key.secret_hash, v_organization, v_id);
  perform audit_private.append('api_key.create', details => jsonb_build_object('key', v_id, 'serviceAccount', v_account));
  return ('CREATED', '{}', v_id, create_api_key.prefix, v_until)::api_steps.api_key_result;
end $$;
comment on function api_steps.create_api_key(text, text[], timestamptz, uuid, bytea, text) is
  'Makes an API key of one''s own, or of a service account, for a secret of which SQL gets the SHA-256 and how it begins. Demands api_key.create and each permission of the key; for a service account service_account.create as well, and the permissions until the end of the key. REFUSED with NOT_PERMITTED, NAME_INVALID, WINDOW_INVALID, VALUE_INVALID, PERMISSION_UNKNOWN, NOT_FOUND, NOT_HELD or LIMIT_REACHED.';

create or replace function api_steps.rotate_api_key(id uuid, overlap_seconds integer, secret_hash bytea, prefix text) returns api_steps.api_key_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_organization uuid := access_private.acting_in();
  v_person uuid := request.signed_in_id();
  v_key access.api_keys;
  v_reasons text[] := '{}';
  v_now timestamptz;
begin
  if not access_private.take_turn_to('api_key.rotate') then
    return ('REFUSED', access_private.refused('api_key.rotate', '{NOT_PERMITTED}'), null, null, null)::api_steps.api_key_result;
  end if;
  select k.* into v_key from access.api_keys k
    where k.organization_id = v_organization and k.id = rotate_api_key.id for no key update;
  v_now := clock_timestamp();
  if not found or v_key.person_id is distinct from v_person and not coalesce(request.can('api_key.read'), false) then
    v_reasons := '{NOT_FOUND}';
  -- Whoever has the secret is whose key it is: nobody gets that of somebody else.
  elsif v_key.person_id is not null and v_key.person_id is distinct from v_person
    or v_key.person_id is null and not coalesce(request.can('service_account.create'), false) then
    v_reasons := '{NOT_PERMITTED}';
  elsif v_key.revoked_at is not null or v_key.expires_at <= v_now then
    v_reasons := '{OVER}';
  elsif v_key.person_id is null
    and access_private.not_held(v_key.permissions, tstzrange(v_now, v_key.expires_at, '[]')) <> '{}' then
    v_reasons := '{NOT_HELD}';
  elsif coalesce(rotate_api_key.overlap_seconds, -1) not between 0 and platform.limit_value('api_key.overlap_seconds') then
    v_reasons := '{WINDOW_INVALID}';
  -- Two secrets at most. Without an overlap there is one again, whatever was before.
  elsif rotate_api_key.overlap_seconds > 0 and exists (
      select from access_private.api_key_secrets s
        where s.organization_id = v_organization and s.key_id = v_key.id and s.expires_at > v_now and s.expires_at < 'infinity') then
    v_reasons := '{OVERLAPPING}';
  end if;
  if v_reasons <> '{}' then
    return ('REFUSED', access_private.refused('api_key.rotate', v_reasons), null, null, null)::api_steps.api_key_result;
  end if;
  delete from access_private.api_key_secrets s
    where s.organization_id = v_organization and s.key_id = v_key.id and s.expires_at <= v_now;
  update access_private.api_key_secrets s
    set expires_at = least(s.expires_at, v_now + make_interval(secs => rotate_api_key.overlap_seconds))
    where s.organization_id = v_organization and s.key_id = v_key.id;
  insert into access_private.api_key_secrets (hash, organization_id, key_id)
    values (rotate_api_key.secret_hash, v_organization, v_key.id);
  update access.api_keys k set prefix = rotate_api_key.prefix, rotated_at = v_now
    where k.organization_id = v_organization and k.id = v_key.id;
  perform audit_private.append('api_key.rotate',
    details => jsonb_build_object('key', v_key.id, 'overlapSeconds', rotate_api_key.overlap_seconds));
  return ('ROTATED', '{}', v_key.id, rotate_api_key.prefix, v_key.expires_at)::api_steps.api_key_result;
end $$;
comment on function api_steps.rotate_api_key(uuid, integer, bytea, text) is
  'Gives an API key a new secret; the old one opens requests for the overlap, in seconds. The end of the key stays. A personal key only by whose it is; that of a service account by who could make it. Demands api_key.rotate. REFUSED with NOT_FOUND, NOT_PERMITTED, OVER, NOT_HELD, WINDOW_INVALID, or OVERLAPPING while an earlier rotation overlaps, unless overlap_seconds is 0.';

create or replace function api.revoke_api_key(id uuid) returns api.ended_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_person uuid := request.signed_in_id();
  v_key access.api_keys;
begin
  if v_person is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  -- One's own in whatever organization, active or not.
  select k.* into v_key
    from access.api_keys k
    where k.id = revoke_api_key.id
      and (k.organization_id = request.organization_id()
        or (k.organization_id, k.person_id) in (
          select m.organization_id, m.person_id from access.memberships m where m.person_id = v_person));
  if not found or v_key.person_id is distinct from v_person
      and not coalesce(request.can('api_key.read') or request.can('api_key.revoke'), false) then
    return ('REFUSED', access_private.refused('api_key.revoke', '{NOT_FOUND}'))::api.ended_result;
  end if;
  if v_key.person_id is distinct from v_person and not coalesce(request.can('api_key.revoke'), false) then
    return ('REFUSED', access_private.refused('api_key.revoke', '{NOT_PERMITTED}'))::api.ended_result;
  end if;
  update access.api_keys k set revoked_at = clock_timestamp()
    where k.organization_id = v_key.organization_id and k.id = v_key.id
      and k.revoked_at is null and k.expires_at > clock_timestamp();
  if not found then
    return ('REFUSED', '{OVER}')::api.ended_result;
  end if;
  perform audit_private.append('api_key.revoke', v_key.organization_id, details => jsonb_build_object('key', v_key.id));
  return ('ENDED', '{}')::api.ended_result;
end $$;
comment on function api.revoke_api_key(uuid) is
  'Ends an API key: its next statement is refused, also in an open transaction. One''s own always; others with api_key.revoke. REFUSED with NOT_FOUND, NOT_PERMITTED, or OVER if it had ended. AUTHN for nobody, and for keys.';

create or replace function api.api_key_reach(id uuid default null) returns api.api_key_reach
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows the reading of rules and of what others hold; the check is that of the key's row.
declare
  v_key access.api_keys;
  v_reach api.api_key_reach;
begin
  select k.* into v_key from access.api_keys k
    where k.organization_id = request.organization_id() and k.id = coalesce(api_key_reach.id, request.api_key_id())
      and (k.person_id = request.signed_in_id() or k.id = request.api_key_id() or request.can('api_key.read'));
  if not found then
    return null;
  end if;
  v_reach.id := v_key.id;
  v_reach.permissions := v_key.permissions;
  v_reach.held := access_private.key_holds(v_key);
  v_reach.is_live := v_key.revoked_at is null and v_key.expires_at > clock_timestamp() and (
    exists (select from identity.people p where p.id = v_key.person_id and p.status = 'active')
    or exists (select from access.service_accounts s
      where s.organization_id = v_key.organization_id and s.id = v_key.service_account_id and s.status = 'active'));
  v_reach.reaches := array(
    select format('%s %I.%I', r.command, n.nspname, c.relname)
      from access.rules r
      join pg_class c on c.oid = r.relation
      join pg_namespace n on n.oid = c.relnamespace
      -- A key proves no second factor.
      where r.permission = any (v_reach.held) and r.assurance <= 1 and 'safetypin_member' = any (r.roles)
      order by n.nspname, c.relname, r.command);
  v_reach.expires_at := v_key.expires_at;
  select u.last_used_at into v_reach.last_used_at from access.api_key_use u
    where u.organization_id = v_key.organization_id and u.key_id = v_key.id;
  return v_reach;
end $$;
comment on function api.api_key_reach(uuid) is
  'What an API key of the active organization can do: for whose it is, for the key itself, and with api_key.read; null for any other. Without an id the key that asks.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
