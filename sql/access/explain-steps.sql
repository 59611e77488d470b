-- Purpose: why somebody may or may not do something, from the rows that access.protect() compiles: which rule, which grant,
-- whose row. Steps of access.explain() and api.explain_access(); what they say of a row comes from who asks, see
-- access.row_seen().

grant create on schema access, access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.find_table(name text, for_owner boolean, out relation oid, out full_name text, out standing text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
-- No cast to regclass: that raises for what is no name.
begin
  select r.relation, format('%I.%I', n.nspname, c.relname), 'RULED' into find_table.relation, full_name, standing
    from (select distinct r.relation from access.rules r) r
    join pg_class c on c.oid = r.relation
    join pg_namespace n on n.oid = c.relnamespace
    where find_table.name in (format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname)
    order by find_table.name = format('%I.%I', n.nspname, c.relname) desc
    limit 1;
  if found then
    return;
  end if;
  -- Without its schema, if only one is meant.
  select min(r.relation::oid), min(format('%I.%I', n.nspname, c.relname)), 'RULED' into find_table.relation, full_name, standing
    from (select distinct r.relation from access.rules r) r
    join pg_class c on c.oid = r.relation
    join pg_namespace n on n.oid = c.relnamespace
    where c.relname = find_table.name
    having count(*) = 1;
  if found then
    return;
  end if;
  select c.oid, format('%I.%I', n.nspname, c.relname),
      case when exists (
          select from pg_partition_ancestors(c.oid) a join access.rules r on r.relation = a.relid) then 'PARTITION'
        else 'UNRULED' end
    into find_table.relation, full_name, standing
    from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where find_table.name in (format('%I.%I', n.nspname, c.relname), n.nspname || '.' || c.relname)
      and c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema$)'
      -- Nobody learns what other tables there are.
      and (for_owner or has_schema_privilege('safetypin_member', n.oid, 'usage') and (
        has_any_column_privilege('safetypin_member', c.oid, 'select, insert, update')
        or has_table_privilege('safetypin_member', c.oid, 'delete')
        or c.relispartition and exists (
          select from pg_partition_ancestors(c.oid) a join access.rules r on r.relation = a.relid)))
    limit 1;
  standing := coalesce(standing, 'UNKNOWN');
end $$;
comment on function access_private.find_table(text, boolean) is
  'The table of this name: RULED, a PARTITION of one that is, UNRULED (a member may use it, or the owner asks), or UNKNOWN.';

create or replace function access.explain_place(
  table_name text, command text,
  out relation oid, out key_column name, out organization_column name, out owner_column name
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Borrows the reading of rules; says only where a row of a protected table is looked up, which is then done by who asks.
begin
  select f.relation, r.organization_column, r.owner_column into relation, organization_column, owner_column
    from access_private.find_table(explain_place.table_name, false) f
    join access.rules r on r.relation = f.relation and r.command = explain_place.command
    where f.standing = 'RULED';
  select a.attname into key_column
    from pg_index i
    cross join unnest(i.indkey) with ordinality as k (attnum, position)
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
    where i.indrelid = explain_place.relation and i.indisprimary
    -- A partitioned table's key has more columns; the first after the organization names the row.
    order by a.attname = organization_column, k.position
    limit 1;
end $$;
comment on function access.explain_place(text, text) is
  'By which column a row of a protected table is named, and which columns say whose it is, for one command; nulls if nothing is under a rule there.';

create or replace function access_private.explain_held(
  organization_id uuid, person_id uuid, api_key access.api_keys, permission text, self boolean,
  out reason text, out at timestamptz, out grants jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_now timestamptz := clock_timestamp();
  v_valid tstzmultirange;
  v_held boolean;
begin
  grants := '[]';
  if api_key.id is not null and not explain_held.permission = any (api_key.permissions) then
    reason := 'SCOPE';
    return;
  end if;
  if api_key.service_account_id is not null then
    reason := case when exists (
        select from access.service_accounts s
          where s.organization_id = explain_held.organization_id and s.id = api_key.service_account_id
            and s.status = 'active' and explain_held.permission = any (s.permissions)) then 'HELD' else 'NOT_HELD' end;
    at := api_key.expires_at;
    return;
  end if;
  select h.valid into v_valid from access_private.held_permissions h
    where h.organization_id = explain_held.organization_id and h.person_id = explain_held.person_id
      and h.permission = explain_held.permission;
  v_held := coalesce(v_valid @> v_now, false);
  -- One's own are asked as policies ask them.
  reason := case
    when v_held and (not self or coalesce(request.can(explain_held.permission), false)) then 'HELD'
    when v_held then 'SCOPE'
    when exists (select from unnest(v_valid) w where lower(w) > v_now) then 'NOT_YET'
    when v_valid is not null then 'ENDED'
    else 'NOT_HELD' end;
  at := nullif(case reason
    when 'NOT_YET' then (select min(lower(w)) from unnest(v_valid) w where lower(w) > v_now)
    when 'ENDED' then (select max(upper(w)) from unnest(v_valid) w)
    else least(api_key.expires_at, (select upper(w) from unnest(v_valid) w where w @> v_now)) end, 'infinity');
  grants := (
    select coalesce(jsonb_agg(jsonb_build_object('kind', 'grant', 'permission', explain_held.permission, 'role', r.name,
        'validFrom', nullif(mr.valid_from, '-infinity'), 'validUntil', nullif(mr.valid_until, 'infinity'),
        'now', v_now >= mr.valid_from and v_now < mr.valid_until) order by mr.valid_from, r.name, mr.id), '[]')
      from access.memberships m
      join access.membership_roles mr on mr.organization_id = m.organization_id and mr.membership_id = m.id
      join access.role_permissions rp on rp.organization_id = mr.organization_id and rp.role_id = mr.role_id
        and rp.permission = explain_held.permission
      join access.roles r on r.organization_id = mr.organization_id and r.id = mr.role_id
      where m.organization_id = explain_held.organization_id and m.person_id = explain_held.person_id);
end $$;
comment on function access_private.explain_held(uuid, uuid, access.api_keys, text, boolean) is
  'Whether a member, or an API key, holds a permission now: HELD (at: until when), SCOPE (the key was not made for it), NOT_YET (at: from when), ENDED (at: since when) or NOT_HELD; and the grants that say so.';

create or replace function access_private.explain_rule(
  rule access.rules, organization_id uuid, person_id uuid, api_key access.api_keys, self boolean, assurance integer, own boolean,
  out passes boolean, out reason text, out at timestamptz, out missing text, out deciding jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
-- What access.protect() writes into a policy, asked of one person or key. Own is null where no row is asked about.
declare
  v_held record;
  v_assign record;
begin
  deciding := jsonb_build_array(jsonb_build_object('kind', 'rule', 'table', (
      select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace where c.oid = rule.relation),
    'command', rule.command, 'permission', rule.permission, 'ownerColumn', rule.owner_column,
    'assign', rule.assign, 'assurance', rule.assurance));
  if rule.permission is not null then
    v_held := access_private.explain_held(organization_id, person_id, api_key, rule.permission, self);
    deciding := deciding || v_held.grants;
  end if;
  at := case when rule.permission is not null then v_held.at end;
  if rule.permission is not null and v_held.reason <> 'HELD'
    and (rule.owner_column is null or rule.command = 'insert' or not coalesce(own, true)) then
    reason := v_held.reason;
    missing := rule.permission;
  elsif rule.owner_column is not null and rule.command = 'insert' and not coalesce(own, true) then
    v_assign := access_private.explain_held(organization_id, person_id, api_key, rule.assign, self);
    deciding := deciding || v_assign.grants;
    passes := v_assign.reason = 'HELD';
    reason := case when passes then 'ASSIGN' else 'NOT_OWN' end;
    missing := case when not passes then rule.assign end;
  elsif rule.permission is not null and v_held.reason = 'HELD' then
    passes := true;
    reason := 'HELD';
  else
    passes := coalesce(own, true);
    reason := case when own then 'OWN_ROW' when own is null then 'OWN_ROWS' else 'NOT_OWN' end;
    at := null;
  end if;
  passes := coalesce(passes, false);
  if passes and assurance < rule.assurance then
    passes := false;
    reason := 'ASSURANCE';
  end if;
end $$;
comment on function access_private.explain_rule(access.rules, uuid, uuid, access.api_keys, boolean, integer, boolean) is
  'Whether one rule lets a member through, why, until or from when, which permission is missing, and the rows that decided.';

create or replace function access_private.is_granted(relation oid, command text, column_name text default null) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select has_schema_privilege('safetypin_member', c.relnamespace, 'usage') and case
      when is_granted.command = 'delete' then has_table_privilege('safetypin_member', c.oid, 'delete')
      when is_granted.column_name is null then has_any_column_privilege('safetypin_member', c.oid, is_granted.command)
      else exists (
        select from pg_attribute a
        where a.attrelid = c.oid and a.attname = is_granted.column_name and a.attnum > 0 and not a.attisdropped
          and has_column_privilege('safetypin_member', c.oid, a.attnum, is_granted.command)) end
    from pg_class c
    where c.oid = is_granted.relation
$$;
comment on function access_private.is_granted(oid, text, text) is
  'Whether members have the grant of the database that a command needs, on a column or on any.';

create or replace function access_private.explain_command(
  relation oid, command text, organization_id uuid, person_id uuid, api_key access.api_keys, column_name text, new_owner uuid,
  row_seen text, row_owner uuid, self boolean, assurance integer,
  out verdict text, out reason text, out permission text, out at timestamptz, out missing text[], out needs integer,
  out waits boolean, out wait timestamptz, out deciding jsonb
)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_rule access.rules;
  v_closed text;
  v_step record;
  v_one text;
begin
  deciding := '[]';
  missing := '{}';
  waits := true;
  -- A row that a statement names is read by it, so changing and removing it need reading as well.
  foreach v_one in array case when command in ('update', 'delete') then array[command, 'select'] else array[command] end loop
    select r.* into v_rule from access.rules r where r.relation = explain_command.relation and r.command = v_one;
    v_closed := case
      when v_rule.relation is null or v_one = 'insert' and v_rule.permission is null then 'CLOSED'
      when not 'safetypin_member' = any (v_rule.roles) then 'OTHER_ROLES'
      when not access_private.is_granted(relation, v_one) then 'NOT_GRANTED'
      when v_one = command and column_name is not null and not access_private.is_granted(relation, v_one, column_name) then 'COLUMN_CLOSED' end;
    if v_closed is not null then
      verdict := 'DENIED';
      reason := v_closed;
      return;
    end if;
    v_step := access_private.explain_rule(v_rule, organization_id, person_id, api_key, self, assurance, case
      when v_one = 'insert' then coalesce(new_owner = person_id, false)
      -- A key reaches no row for being its person's own.
      when api_key.id is not null then false
      when row_seen = 'SEEN' then coalesce(row_owner = person_id, false)
      when row_seen = 'OWNER_HIDDEN' then false end);
    deciding := deciding || v_step.deciding;
    if v_step.passes then
      -- The command's own rule says why; reading only takes away.
      if verdict is null or verdict = 'ALLOWED' and v_step.reason = 'OWN_ROWS' then
        verdict := 'ALLOWED';
        reason := v_step.reason;
        permission := v_rule.permission;
        at := v_step.at;
      end if;
      continue;
    end if;
    if row_seen = 'OWNER_HIDDEN' and v_one <> 'insert' and v_rule.owner_column is not null and v_step.reason <> 'ASSURANCE' then
      verdict := null;
      reason := 'OWNER_HIDDEN';
      return;
    end if;
    if verdict is distinct from 'DENIED' then
      verdict := 'DENIED';
      reason := v_step.reason;
      permission := coalesce(v_step.missing, v_rule.permission);
      at := v_step.at;
    end if;
    missing := missing || v_step.missing;
    needs := greatest(needs, case when assurance < v_rule.assurance then v_rule.assurance end);
    waits := waits and v_step.reason = 'NOT_YET';
    wait := greatest(wait, v_step.at);
  end loop;
  missing := array_remove(missing, null);
end $$;
comment on function access_private.explain_command(oid, text, uuid, uuid, access.api_keys, text, uuid, text, uuid, boolean, integer) is
  'Whether the rules and grants of one table let a member do one command, the first reason, all that is missing, and the rows that decided. Verdict is null where the owner of the row decides and may not be seen.';

create or replace function access_private.explain_policies(relation regclass, command text) returns jsonb
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select coalesce(jsonb_agg(jsonb_build_object('kind', 'policy', 'name', p.polname) order by p.polname), '[]')
    from pg_policy p
    where p.polrelid = explain_policies.relation and not p.polpermissive and p.polname !~ '^safetypin_'
      and p.polcmd in ('*', case explain_policies.command when 'select' then 'r' when 'insert' then 'a' when 'update' then 'w' else 'd' end)
$$;
comment on function access_private.explain_policies(regclass, text) is
  'Restrictive policies that the table''s owner made beside the rules: they narrow what the rules allow, by conditions that nobody here can answer for.';

reset role;
reset row_security;
revoke create on schema access, access_private from safetypin_definer;
