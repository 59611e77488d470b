-- Purpose: joining by address: whoever proves an address at a domain that an organization owns becomes a member, if the
-- organization wants that, with a role that permits no more than members have.

create table if not exists access_private.kept_out (
  organization_id uuid not null constraint kept_out_organization_exists references access.organizations (id) on delete cascade,
  lookup bytea not null,
  person_id uuid constraint kept_out_person_exists references identity.people (id) on delete set null,
  since timestamptz not null default clock_timestamp(),
  constraint kept_out_pkey primary key (organization_id, lookup)
);
create index if not exists kept_out_person_idx on access_private.kept_out (person_id);
alter table access_private.kept_out enable row level security, force row level security;
comment on table access_private.kept_out is 'Who is not a member any more does not come back by address alone; an invitation ends that.';
comment on column access_private.kept_out.organization_id is 'Organization.';
comment on column access_private.kept_out.lookup is 'Blind index of the address, as in identity_private.emails: it stays when the account goes, or a new account would be a way back.';
comment on column access_private.kept_out.person_id is 'Whose address it was; null once that person is gone.';
comment on column access_private.kept_out.since is 'Since when.';

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.tg_memberships__keep_out() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  insert into access_private.kept_out as k (organization_id, lookup, person_id)
    select c.organization_id, e.lookup, e.person_id
      from changed c
      join access.organizations o on o.id = c.organization_id
      join identity_private.emails e on e.person_id = c.person_id
      order by c.organization_id, e.lookup
    on conflict on constraint kept_out_pkey do update set person_id = excluded.person_id, since = excluded.since;
  return null;
end $$;
comment on function access_private.tg_memberships__keep_out() is 'Members left or were removed: they do not come back by their address alone.';

create or replace function access_private.tg_memberships__let_in() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  delete from access_private.kept_out k
    using changed c
    where k.organization_id = c.organization_id
      and (k.person_id = c.person_id
        or k.lookup in (select e.lookup from identity_private.emails e where e.person_id = c.person_id));
  return null;
end $$;
comment on function access_private.tg_memberships__let_in() is 'Somebody became a member, however: what kept her out is over.';

create or replace function access_private.below_ceiling(organization_id uuid, role_id uuid) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select not exists (
    select from access.role_permissions rp
      join access.permissions p on p.name = rp.permission
      where rp.organization_id = below_ceiling.organization_id and rp.role_id = below_ceiling.role_id
        and not p.default_roles && array['member', 'viewer'])
$$;
comment on function access_private.below_ceiling(uuid, uuid) is
  'Whether a role permits nothing but what the built-in roles member and viewer are made with.';

create or replace function access_private.join_by_address(person_id uuid) returns uuid[]
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
declare
  v_email record;
  v_domain access_private.domain_owners;
  v_organization uuid;
  v_role uuid;
  v_room boolean;
  v_reason text;
  v_membership uuid;
  v_joined uuid[] := '{}';
begin
  for v_email in
    select e.lookup, access_private.ascii_domain(split_part(
        keyring_private.open('identity.emails.address', platform.no_organization(), e.id, e.address), '@', 2)) as domain
      from identity_private.emails e
      join identity.people p on p.id = e.person_id and p.status = 'active'
      where e.person_id = join_by_address.person_id and e.verified_at is not null
      order by e.id
  loop
    select o.organization_id into v_organization from access_private.domain_owners o where o.domain = v_email.domain;
    continue when not found or access_private.setting_role(v_organization, 'domain.join_role') is null;
    perform access_private.take_turn(v_organization);
    -- Decided by what stands now: roles, settings and members do not change until the end of the transaction.
    v_role := access_private.setting_role(v_organization, 'domain.join_role');
    v_room := access_private.room(v_organization, 'members');
    select o.* into v_domain from access_private.domain_owners o
      where o.domain = v_email.domain and o.organization_id = v_organization and o.holds_until > clock_timestamp()
        and not exists (select from access.shared_domains s where s.domain = o.domain);
    continue when not found or v_role is null or not access_private.living(v_organization)
      or exists (select from access.memberships m
        where m.organization_id = v_organization and m.person_id = join_by_address.person_id);
    v_reason := case
      when exists (select from access_private.kept_out k where k.organization_id = v_organization
        and (k.lookup = v_email.lookup or k.person_id = join_by_address.person_id)) then 'KEPT_OUT'
      when not access_private.below_ceiling(v_organization, v_role) then 'ABOVE_CEILING'
      when not v_room then 'LIMIT_REACHED'
      end;
    if v_reason is not null then
      perform audit_private.append('access.refuse', v_organization, join_by_address.person_id,
        jsonb_build_object('what', 'domain.join', 'reasons', array[v_reason]), 'access.domains', v_domain.domain_id::text);
      continue;
    end if;
    v_membership := platform.uuid_v7();
    insert into access.memberships (organization_id, id, person_id) values (v_organization, v_membership, join_by_address.person_id);
    insert into access.membership_roles (organization_id, membership_id, role_id) values (v_organization, v_membership, v_role);
    perform audit_private.append('member.join', v_organization, join_by_address.person_id,
      jsonb_build_object('membership', v_membership, 'role', v_role, 'domain', v_domain.domain_id));
    v_joined := v_joined || v_organization;
  end loop;
  return v_joined;
end $$;
comment on function access_private.join_by_address(uuid) is
  'Called when a person has proved an address: makes her a member of the organization that owns its domain, if its setting domain.join_role names a role below the ceiling. Not who was a member before. Returns which organizations.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;

-- The functions belong to the definer; making a trigger of one needs EXECUTE for the table's owner.
set local role safetypin_definer;
set local row_security = on;
grant execute on function access_private.tg_memberships__keep_out(), access_private.tg_memberships__let_in() to safetypin_owner;
reset role;
reset row_security;

create or replace trigger _520_keep_out after delete on access.memberships
  referencing old table as changed for each statement execute function access_private.tg_memberships__keep_out();
create or replace trigger _520_let_in after insert on access.memberships
  referencing new table as changed for each statement execute function access_private.tg_memberships__let_in();
