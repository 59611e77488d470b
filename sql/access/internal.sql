-- Purpose: steps about organizations that the API's functions are made of; the definer's own.

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.take_turn(organization_id uuid) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  insert into access_private.ownership as o (organization_id) values (take_turn.organization_id)
    on conflict on constraint ownership_pkey do update set turns = o.turns + 1
$$;
comment on function access_private.take_turn(uuid) is
  'Changes of members, roles and grants of one organization take turns until the end of the transaction. 40001 in REPEATABLE READ, when another was faster.';

create or replace function access_private.take_turn_to(permission text) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- Whoever may not is told before: nobody keeps others waiting with what is refused. A key makes no roles and grants none.
  if request.signed_in_id() is null or not request.can(take_turn_to.permission) then
    return false;
  end if;
  perform access_private.take_turn(access_private.acting_in());
  -- What was so before the turn may not be so any more.
  return coalesce(request.can(take_turn_to.permission), false);
end $$;
comment on function access_private.take_turn_to(text) is
  'Whether a person who is signed in may do this in the active organization; if so, the turn is hers until the end of the transaction.';

create or replace function access_private.work_out(organization_id uuid, people uuid[]) returns void
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  with asked as (
    select distinct u.person_id from unnest(work_out.people) as u (person_id)
  ), now_held as (
    select m.person_id, rp.permission, range_agg(tstzrange(mr.valid_from, mr.valid_until)) as valid
      from asked a
      join access.memberships m on m.organization_id = work_out.organization_id and m.person_id = a.person_id
      join access.membership_roles mr on mr.organization_id = m.organization_id and mr.membership_id = m.id
      join access.role_permissions rp on rp.organization_id = mr.organization_id and rp.role_id = mr.role_id
      group by m.person_id, rp.permission
  ), gone as (
    delete from access_private.held_permissions h
      using asked a
      where h.organization_id = work_out.organization_id and h.person_id = a.person_id
        and not exists (select from now_held n where n.person_id = h.person_id and n.permission = h.permission)
  )
  insert into access_private.held_permissions (organization_id, person_id, permission, valid)
    select work_out.organization_id, n.person_id, n.permission, n.valid from now_held n
    on conflict on constraint held_permissions_pkey do update set valid = excluded.valid
      where held_permissions.valid is distinct from excluded.valid
$$;
comment on function access_private.work_out(uuid, uuid[]) is
  'Works out anew what members may do. Whoever calls it has taken their turn, in a statement before.';

create or replace function access_private.found_organization(name text, person_id uuid) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid := platform.uuid_v7();
  v_membership uuid := platform.uuid_v7();
begin
  insert into access.organizations (id, name, created_by) values (v_id, found_organization.name, found_organization.person_id);
  insert into access.roles (organization_id, name, built_in)
    select v_id, r, true from unnest(array['owner', 'admin', 'member', 'viewer']) r;
  insert into access.role_permissions (organization_id, role_id, permission)
    select r.organization_id, r.id, p.name
    from access.roles r
    join access.permissions p on r.name = any (p.default_roles)
    where r.organization_id = v_id;
  insert into access.memberships (organization_id, id, person_id) values (v_id, v_membership, found_organization.person_id);
  insert into access.membership_roles (organization_id, membership_id, role_id)
    select v_id, v_membership, r.id from access.roles r where r.organization_id = v_id and r.name = 'owner';
  perform audit_private.append('organization.create', v_id, found_organization.person_id);
  return v_id;
end $$;
comment on function access_private.found_organization(text, uuid) is 'Founds an organization with its four roles and its first owner.';

create or replace function access_private.valid_name(name text) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- As for the names of people: no control signs, and none that turn the direction of what stands around it.
  select coalesce(length(btrim(name)) between 1 and platform.limit_value('organization.name_length')
    and name collate "C" !~ E'[\u0001-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069\ufeff]', false)
$$;
comment on function access_private.valid_name(text) is 'Whether a text can be the name of an organization.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
