-- Purpose: what a change of roles and memberships brings about, whichever function makes it.

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
    select distinct m.organization_id, m.person_id
    from access.memberships m
    where m.organization_id in (new.organization_id, old.organization_id)
      and m.id in (new.membership_id, old.membership_id)
  loop
    perform access_private.work_out(v_row.organization_id, v_row.person_id);
  end loop;
  return null;
end $$;
comment on function access_private.tg_membership_roles__work_out() is 'A role was given or taken: works out anew what the member may do.';

create or replace function access_private.tg_role_permissions__work_out() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_row record;
begin
  for v_row in
    select distinct m.organization_id, m.person_id
    from access.membership_roles mr
    join access.memberships m on m.organization_id = mr.organization_id and m.id = mr.membership_id
    where mr.organization_id in (new.organization_id, old.organization_id)
      and mr.role_id in (new.role_id, old.role_id)
  loop
    perform access_private.work_out(v_row.organization_id, v_row.person_id);
  end loop;
  return null;
end $$;
comment on function access_private.tg_role_permissions__work_out() is 'A role permits more or less: works out anew what its holders may do.';

create or replace function access_private.tg_memberships__work_out() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  perform access_private.work_out(old.organization_id, old.person_id);
  return null;
end $$;
comment on function access_private.tg_memberships__work_out() is 'A member left: nothing is held any more.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;

-- The functions belong to the definer; making a trigger of one needs EXECUTE for the table's owner.
set local role safetypin_definer;
set local row_security = on;
grant execute on function access_private.tg_membership_roles__work_out(), access_private.tg_role_permissions__work_out(),
  access_private.tg_memberships__work_out() to safetypin_owner;
reset role;
reset row_security;

create or replace trigger _500_work_out after insert or update or delete on access.membership_roles
  for each row execute function access_private.tg_membership_roles__work_out();
create or replace trigger _500_work_out after insert or update or delete on access.role_permissions
  for each row execute function access_private.tg_role_permissions__work_out();
create or replace trigger _500_work_out after delete on access.memberships
  for each row execute function access_private.tg_memberships__work_out();
