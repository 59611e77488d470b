-- Purpose: what every function that changes who may do what asks first. The definer's own.

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.acting_in() returns uuid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.kind() is distinct from 'session' then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  if request.organization_id() is null then
    raise exception 'no organization is active' using errcode = 'DENYD';
  end if;
  return request.organization_id();
end $$;
comment on function access_private.acting_in() is
  'The organization that the asker acts in. AUTHN for nobody, DENYD while no organization is active.';

create or replace function access_private.refused(what text, reasons text[]) returns text[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform audit_private.append('access.refuse', details => jsonb_build_object('what', what, 'reasons', reasons));
  return reasons;
end $$;
comment on function access_private.refused(text, text[]) is
  'Records a refusal and gives the reasons back. What was refused is one of our words, never what somebody typed.';

create or replace function access_private.holding() returns table (permission text, valid tstzmultirange)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select h.permission, h.valid
    from access_private.held_permissions h
    where h.organization_id = (select request.organization_id()) and h.person_id = (select request.signed_in_id())
$$;
comment on function access_private.holding() is 'What the person who is signed in holds in the active organization, and when: what can be handed on. Nothing for an API key, which hands on nothing.';

create or replace function access_private.not_held(permissions text[], valid tstzrange) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(p.permission order by p.permission), '{}')
    from (select distinct u.permission from unnest(not_held.permissions) as u (permission)) p
    where not exists (
      select from access_private.holding() h
        where h.permission = p.permission
          -- What is past harms nobody.
          and h.valid @> not_held.valid * tstzrange(clock_timestamp(), 'infinity', '[]'))
$$;
comment on function access_private.not_held(text[], tstzrange) is
  'Which of these permissions the asker does not hold for the whole of that time, as far as it is ahead: nobody hands on what they do not hold, nor for longer.';

create or replace function access_private.held_by_role(organization_id uuid, role_id uuid) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(array_agg(rp.permission order by rp.permission), '{}')
    from access.role_permissions rp
    where rp.organization_id = held_by_role.organization_id and rp.role_id = held_by_role.role_id
$$;
comment on function access_private.held_by_role(uuid, uuid) is 'What a role permits.';

create or replace function access_private.outranks(organization_id uuid, person_id uuid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- As of now and from now on: whoever will be an owner tomorrow is not removed by an admin today.
  select not exists (
    select from access_private.held_permissions h
      cross join lateral unnest(h.valid) as w (valid)
      where h.organization_id = outranks.organization_id and h.person_id = outranks.person_id
        and upper(w.valid) > clock_timestamp()
        and access_private.not_held(array[h.permission], w.valid) <> '{}')
$$;
comment on function access_private.outranks(uuid, uuid) is
  'Whether the asker holds all that a member holds: nobody acts on who holds more. True for oneself.';

create or replace function access_private.has_owner(organization_id uuid, but_not uuid default null) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select exists (
    select from access.roles r
      join access.membership_roles mr on mr.organization_id = r.organization_id and mr.role_id = r.id
      join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
      join identity.people p on p.id = m.person_id and p.status = 'active'
      where r.organization_id = has_owner.organization_id and r.built_in and r.name = 'owner'
        and mr.valid_from <= clock_timestamp() and mr.valid_until = 'infinity'
        and m.person_id is distinct from has_owner.but_not)
    -- Whoever is no owner takes none along: where the only one is suspended, others still come and go.
    or has_owner.but_not is not null and not exists (
      select from access.roles r
        join access.membership_roles mr on mr.organization_id = r.organization_id and mr.role_id = r.id
        join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
        where r.organization_id = has_owner.organization_id and r.built_in and r.name = 'owner'
          and m.person_id = has_owner.but_not)
$$;
comment on function access_private.has_owner(uuid, uuid) is
  'Whether somebody active owns the organization without an end; with a person who is about to go: whether that takes no owner away, or leaves one.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
