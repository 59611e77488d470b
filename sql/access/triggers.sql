-- Purpose: what a change of roles and memberships brings about, whichever function makes it. By statement, with the rows
-- that changed: a role of ten thousand people is one working out, not ten thousand.

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.tg_membership_roles__work_out() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_row record;
begin
  for v_row in
    select c.organization_id, array_agg(c.membership_id) as memberships
    from changed c
    group by c.organization_id
    order by c.organization_id
  loop
    -- Closing one or emptying it takes its rows with it.
    continue when not exists (select from access.organizations o where o.id = v_row.organization_id);
    perform access_private.take_turn(v_row.organization_id);
    perform access_private.work_out(v_row.organization_id, array(
      select m.person_id from access.memberships m
      where m.organization_id = v_row.organization_id and m.id = any (v_row.memberships)));
  end loop;
  return null;
end $$;
comment on function access_private.tg_membership_roles__work_out() is 'Roles were given or taken: works out anew what their holders may do.';

create or replace function access_private.tg_role_permissions__work_out() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_row record;
begin
  for v_row in
    select c.organization_id, array_agg(distinct c.role_id) as roles
    from changed c
    group by c.organization_id
    order by c.organization_id
  loop
    continue when not exists (select from access.organizations o where o.id = v_row.organization_id);
    perform access_private.take_turn(v_row.organization_id);
    perform access_private.work_out(v_row.organization_id, array(
      select distinct m.person_id
      from access.membership_roles mr
      join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
      where mr.organization_id = v_row.organization_id and mr.role_id = any (v_row.roles)));
  end loop;
  return null;
end $$;
comment on function access_private.tg_role_permissions__work_out() is 'Roles permit more or less: works out anew what their holders may do.';

create or replace function access_private.tg_memberships__work_out() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_row record;
begin
  for v_row in
    select c.organization_id, array_agg(c.person_id) as people
    from changed c
    group by c.organization_id
    order by c.organization_id
  loop
    continue when not exists (select from access.organizations o where o.id = v_row.organization_id);
    perform access_private.take_turn(v_row.organization_id);
    perform access_private.work_out(v_row.organization_id, v_row.people);
  end loop;
  -- Of an organization that is gone, too: nothing refers to what was worked out.
  delete from access_private.held_permissions h
    using changed c
    where h.organization_id = c.organization_id and h.person_id = c.person_id
      and not exists (select from access.organizations o where o.id = c.organization_id);
  return null;
end $$;
comment on function access_private.tg_memberships__work_out() is 'Members left, or a membership is another person''s: works out anew what they may do.';

create or replace function access_private.tg_keep_owner() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- Whatever took it, by whichever way: somebody must be left who owns the organization.
declare
  v_organization uuid;
begin
  for v_organization in
    select distinct c.organization_id
    from changed c
    left join access.roles r on r.organization_id = c.organization_id and r.id = c.role_id
    -- What else is taken leaves the owners as they are. A role that is gone may have been theirs.
    where r.id is null or r.built_in and r.name = 'owner'
    order by c.organization_id
  loop
    continue when not exists (select from access.organizations o where o.id = v_organization and o.status <> 'closed');
    perform access_private.take_turn(v_organization);
    if not access_private.has_owner(v_organization) then
      raise exception 'an organization keeps an owner' using errcode = 'LASTO';
    end if;
  end loop;
  return null;
end $$;
comment on function access_private.tg_keep_owner() is 'LASTO when nobody owns the organization any more.';

create or replace function access_private.tg__forget_held() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
-- What is emptied is not told row by row.
begin
  if tg_table_name = 'membership_roles'
    and exists (select from access.organizations o where o.status <> 'closed') then
    raise exception 'an organization keeps an owner' using errcode = 'LASTO';
  end if;
  delete from access_private.held_permissions;
  return null;
end $$;
comment on function access_private.tg__forget_held() is
  'Roles, what they permit or who holds them was emptied: nobody may do anything any more. LASTO as long as there are organizations, which keep their owners.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;

-- The functions belong to the definer; making a trigger of one needs EXECUTE for the table's owner.
set local role safetypin_definer;
set local row_security = on;
grant execute on function access_private.tg_membership_roles__work_out(), access_private.tg_role_permissions__work_out(),
  access_private.tg_memberships__work_out(), access_private.tg_keep_owner(), access_private.tg__forget_held() to safetypin_owner;
reset role;
reset row_security;

-- A trigger with transition tables is for one command only, and one named table: an update needs two, for what was and
-- for what is.
create or replace trigger _500_work_out_new after insert on access.membership_roles
  referencing new table as changed for each statement execute function access_private.tg_membership_roles__work_out();
create or replace trigger _500_work_out_changed after update on access.membership_roles
  referencing new table as changed for each statement execute function access_private.tg_membership_roles__work_out();
create or replace trigger _510_work_out_left after update on access.membership_roles
  referencing old table as changed for each statement execute function access_private.tg_membership_roles__work_out();
create or replace trigger _500_work_out_gone after delete on access.membership_roles
  referencing old table as changed for each statement execute function access_private.tg_membership_roles__work_out();
create or replace trigger _500_work_out_new after insert on access.role_permissions
  referencing new table as changed for each statement execute function access_private.tg_role_permissions__work_out();
create or replace trigger _500_work_out_changed after update on access.role_permissions
  referencing new table as changed for each statement execute function access_private.tg_role_permissions__work_out();
create or replace trigger _510_work_out_left after update on access.role_permissions
  referencing old table as changed for each statement execute function access_private.tg_role_permissions__work_out();
create or replace trigger _500_work_out_gone after delete on access.role_permissions
  referencing old table as changed for each statement execute function access_private.tg_role_permissions__work_out();
create or replace trigger _500_work_out_changed after update on access.memberships
  referencing new table as changed for each statement execute function access_private.tg_memberships__work_out();
create or replace trigger _510_work_out_left after update on access.memberships
  referencing old table as changed for each statement execute function access_private.tg_memberships__work_out();
create or replace trigger _500_work_out_gone after delete on access.memberships
  referencing old table as changed for each statement execute function access_private.tg_memberships__work_out();
create or replace trigger _600_keep_owner_changed after update on access.membership_roles
  referencing old table as changed for each statement execute function access_private.tg_keep_owner();
create or replace trigger _600_keep_owner_gone after delete on access.membership_roles
  referencing old table as changed for each statement execute function access_private.tg_keep_owner();
create or replace trigger _500_forget_held after truncate on access.membership_roles
  for each statement execute function access_private.tg__forget_held();
create or replace trigger _500_forget_held after truncate on access.role_permissions
  for each statement execute function access_private.tg__forget_held();
