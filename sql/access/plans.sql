-- Purpose: plans: how many of what an organization may have. Operators make plans and give them; whatever adds something
-- asks room() first.

create table if not exists access.plans (
  name text constraint plans_pkey primary key constraint plans_name_form check (name ~ '^[a-z][a-z0-9_]{0,62}$'),
  description text not null
);
alter table access.plans enable row level security, force row level security;
comment on table access.plans is 'Plans that an organization can have. For operators.';
comment on column access.plans.name is 'Name, in lower case.';
comment on column access.plans.description is 'What it is, for people.';

create table if not exists access.plan_limits (
  plan text not null constraint plan_limits_plan_exists references access.plans (name) on delete cascade,
  what text not null constraint plan_limits_what_form check (what ~ '^[a-z_]+$'),
  most integer not null constraint plan_limits_most_range check (most >= 0),
  constraint plan_limits_pkey primary key (plan, what)
);
alter table access.plan_limits enable row level security, force row level security;
comment on table access.plan_limits is 'How many of what an organization of a plan may have. What has no line may be as many as anybody likes.';
comment on column access.plan_limits.plan is 'Plan.';
comment on column access.plan_limits.what is 'What is counted; one of those that access_private.used() knows.';
comment on column access.plan_limits.most is 'So many, and no more. Lowering it takes nothing from those who have more.';

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.used(organization_id uuid, what text) returns integer
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  -- One line for each thing that a plan can limit, in the order of their names.
  case what
    when 'api_keys' then
      return (select count(*) from access.api_keys k
        where k.organization_id = used.organization_id and k.revoked_at is null and k.expires_at > clock_timestamp());
    when 'domains' then
      return (select count(*) from access.domains d where d.organization_id = used.organization_id);
    when 'invitations' then
      return (select count(*) from access.invitations i
        where i.organization_id = used.organization_id and i.status = 'open' and i.expires_at > clock_timestamp());
    when 'members' then
      return (select count(*) from access.memberships m where m.organization_id = used.organization_id);
    when 'roles' then
      return (select count(*) from access.roles r where r.organization_id = used.organization_id and not r.built_in);
    when 'service_accounts' then
      return (select count(*) from access.service_accounts s where s.organization_id = used.organization_id and s.status = 'active');
    else
      raise exception 'nothing of this name is counted' using errcode = '22023';
  end case;
end $$;
comment on function access_private.used(uuid, text) is 'How many of something an organization has. 22023 for what is not counted.';

create or replace function access_private.room(organization_id uuid, what text) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
-- Whoever adds one has the turn until the end of the transaction, so what is counted here still holds when it is added.
declare
  v_most integer;
begin
  perform access_private.take_turn(room.organization_id);
  select l.most into v_most
    from access.organizations o
    join access.plan_limits l on l.plan = o.plan and l.what = room.what
    where o.id = room.organization_id;
  -- What is not counted is asked for by mistake, and told even where nothing limits it.
  return access_private.used(room.organization_id, room.what) < v_most is not false;
end $$;
comment on function access_private.room(uuid, text) is
  'Whether the organization''s plan has room for one more; takes the organization''s turn. A function that adds one refuses with LIMIT_REACHED when not.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
