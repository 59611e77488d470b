-- Purpose: what a table lacks to be under its rules, as lines of SQL. protect() runs them, protect_plan() shows them, and
-- gaps() finds what became different since: all three by the same comparison with the catalog. Invoker: reads it only.

create or replace function access_private.condition(
  command text, owner name, permission text, assign text, assurance integer, stored boolean
) returns text
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set quote_all_identifiers = off
as $$
-- Twice the same: as we write it, and as PostgreSQL gives it back.
declare
  v_ask text := case when stored then '( SELECT request.can(%L::text) AS can)' else '(select request.can(%L))' end;
  v_and text := case when stored then ' AND ' else ' and ' end;
  v_or text := case when stored then ' OR ' else ' or ' end;
  v_can text := format(v_ask, permission);
  -- In one's own name an API key inserts too, with the permission; rows of one's own it does not reach for being that.
  v_who text := case when command = 'insert' and permission is not null then 'user_id' else 'owner_id' end;
  v_own text := quote_ident(owner) || format(case when stored then ' = ( SELECT request.%1$I() AS %1$I)' else ' = (select request.%1$I())' end, v_who);
  v_condition text;
begin
  if stored then
    v_own := '(' || v_own || ')';
  end if;
  if permission is null then
    v_condition := v_own;
  elsif owner is null then
    v_condition := v_can;
  elsif command <> 'insert' then
    v_condition := v_can || v_or || v_own;
  elsif assign is null then
    -- Having a row to one's name is no permission to make one, and nobody makes rows in another's name unasked.
    v_condition := v_can || v_and || v_own;
  else
    v_condition := v_can || v_and || '(' || v_own || v_or || format(v_ask, assign) || ')';
  end if;
  if stored and permission is not null and owner is not null then
    v_condition := '(' || v_condition || ')';
  end if;
  if assurance > 1 then
    v_condition := case when stored then format('((( SELECT request.assurance() AS assurance) >= %s) AND %s)', assurance, v_condition)
      else format('(select request.assurance()) >= %s and (%s)', assurance, v_condition) end;
  end if;
  return v_condition;
end $$;
comment on function access_private.condition(text, name, text, text, integer, boolean) is
  'What the permissive policy of a command demands, as we write it or as PostgreSQL gives back what is stored.';

create or replace function access_private.differing_policies(
  relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], assign text
) returns table (place integer, what text, line text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set quote_all_identifiers = off
as $$
#variable_conflict use_column
begin
  return query
    -- One restrictive policy for the tenant and one permissive for the rest, so that the index on the tenant serves.
    with commands as (
      select c.command, c.sign::"char" as sign, c.permission
        from unnest(array['select', 'insert', 'update', 'delete'], '{r,a,w,d}'::text[], permissions) as c (command, sign, permission)
        where c.permission is not null or c.command = 'select' and owner is not null
    ), due as (
      select format('safetypin_tenant_%s', c.command)::name as name, c.command, c.sign, false as permissive,
          format('(%I = (select request.organization_id()))', organization) as condition,
          format('(%I = ( SELECT request.organization_id() AS organization_id))', organization) as stored
        from commands c
      union all
      select format('safetypin_may_%s', c.command)::name, c.command, c.sign, true,
          '(' || access_private.condition(c.command, owner, c.permission, assign, assurance, false) || ')',
          access_private.condition(c.command, owner, c.permission, assign, assurance, true)
        from commands c
    ), have as (
      select p.polname as name, p.polcmd as sign, p.polpermissive as permissive,
          pg_get_expr(p.polqual, p.polrelid) as using, pg_get_expr(p.polwithcheck, p.polrelid) as check,
          (select array_agg(o order by o) from unnest(p.polroles) o) as roles
        from pg_policy p
        where p.polrelid = differing_policies.relation and p.polname ~ '^safetypin_(may|tenant)_(select|insert|update|delete)$'
    ), same as (
      select d.name
        from due d
        join have h on h.name = d.name and h.sign = d.sign and h.permissive = d.permissive
        where h.using is not distinct from case when d.command <> 'insert' then d.stored end
          and h.check is not distinct from case when d.command in ('insert', 'update') then d.stored end
          and h.roles = (select array_agg(r.oid order by r.oid) from pg_roles r where r.rolname = any (differing_policies.roles))
    )
    select 30, format('the policy %I is not what the rule says', h.name),
        format('drop policy %I on %s;', h.name, access_private.table_name(differing_policies.relation))
      from have h
      where h.name not in (select s.name from same s)
    union all
    select 60, format('there is no policy for %s', d.command), format('create policy %I on %s%s for %s to %s%s%s;',
        d.name, access_private.table_name(differing_policies.relation), case when d.permissive then '' else ' as restrictive' end, d.command,
        (select string_agg(quote_ident(r), ', ') from unnest(differing_policies.roles) r),
        case when d.command <> 'insert' then ' using ' || d.condition else '' end,
        case when d.command in ('insert', 'update') then ' with check ' || d.condition else '' end)
      from due d
      where d.name not in (select s.name from same s);
end $$;
comment on function access_private.differing_policies(regclass, name, name, text[], integer, name[], text) is
  'The policies that are not what the rules of a table say, and the lines that make them so.';

create or replace function access_private.client_columns(
  relation regclass, organization name, owner name, permissions text[], hidden name[]
) returns table (kind text, number smallint)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    -- By column, for reading too: a column that is added later is nobody's until somebody says so. Keys, the tenant and
    -- generated columns are never written by a client, nor what stands beside a sealed column (see keyring/doors.sql), and
    -- whose row it is never changes.
    with mine as (
      select a.attnum, a.attname,
          a.attgenerated = '' and a.attname <> organization and a.attname <> all (hidden) and a.attname not in (
            select h from keyring.doors() d cross join unnest(array[d.sealed, d.index_a, d.index_b]) h
            where d.relation = client_columns.relation and h is not null) as written,
          a.attidentity, a.atthasdef,
          exists (select from pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey)) as key
        from pg_attribute a
        where a.attrelid = client_columns.relation and a.attnum > 0 and not a.attisdropped
    )
    select 'SELECT', m.attnum from mine m where (permissions[1] is not null or owner is not null) and m.attname <> all (hidden)
    union all
    select 'INSERT', m.attnum from mine m
      where permissions[2] is not null and m.written and m.attidentity <> 'a' and (not m.key or not m.atthasdef and m.attidentity = '')
    union all
    select 'UPDATE', m.attnum from mine m
      where permissions[3] is not null and m.written and m.attidentity = '' and not m.key and m.attname is distinct from owner;
end $$;
comment on function access_private.client_columns(regclass, name, name, text[], name[]) is 'Which columns of a table under rules clients may read, insert and update.';

create or replace function access_private.heirs(relation regclass) returns setof oid
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
begin
  return query
    with recursive heirs as (
      select i.inhrelid from pg_inherits i where i.inhparent = heirs.relation
      union
      select i.inhrelid from pg_inherits i join heirs h on i.inhparent = h.inhrelid
    )
    select inhrelid from heirs;
end $$;
comment on function access_private.heirs(regclass) is 'The parts of a table and what inherits from it, all the way down.';

create or replace function access_private.differing_grants(
  relation regclass, organization name, owner name, permissions text[], roles name[], hidden name[]
) returns table (place integer, what text, line text)
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
  set plan_cache_mode = force_generic_plan
  set quote_all_identifiers = off
as $$
#variable_conflict use_column
begin
  return query
    with who as (
      select o.oid, quote_ident(o.rolname) as name, o.rolname = any (roles) as ruled
        from pg_roles o where o.rolname = any (roles || access_private.run_time_roles())
      union all
      select 0, 'public', true
    ), wanted as (
      select w.oid, c.kind, c.number
        from who w cross join access_private.client_columns(relation, organization, owner, permissions, hidden) c
        where w.ruled and w.oid <> 0
      union all
      select w.oid, 'DELETE', 0 from who w where w.ruled and w.oid <> 0 and permissions[4] is not null
    ), have as (
      select x.grantee as oid, x.privilege_type as kind, 0 as number, x.is_grantable
        from pg_class c cross join aclexplode(c.relacl) x where c.oid = differing_grants.relation
      union all
      select x.grantee, x.privilege_type, a.attnum, x.is_grantable
        from pg_attribute a cross join aclexplode(a.attacl) x where a.attrelid = differing_grants.relation and not a.attisdropped
    ), excess as (
      -- Of other roles, what no policy holds: without a policy the rest gives them nothing.
      select h.*
        from have h join who w on w.oid = h.oid
        where (h.is_grantable or not exists (select from wanted n where (n.oid, n.kind, n.number) = (h.oid, h.kind, h.number)))
          and (w.ruled or h.kind in ('TRUNCATE', 'REFERENCES', 'TRIGGER', 'MAINTAIN'))
    ), lacking as (
      select n.*
        from wanted n
        where not exists (select from have h where (h.oid, h.kind, h.number) = (n.oid, n.kind, n.number) and not h.is_grantable)
          -- What is revoked of the table is revoked of its columns.
          or exists (select from excess e where (e.oid, e.kind, e.number) = (n.oid, n.kind, 0))
    ), lines as (
      select 20 as place, e.oid, lower(e.kind) as kind, null::text as columns, bool_or(e.is_grantable) as cascades
        from excess e where e.number = 0 group by e.oid, e.kind
      union all
      select 21, e.oid, lower(e.kind), string_agg(quote_ident(a.attname), ', ' order by a.attnum), bool_or(e.is_grantable)
        from excess e join pg_attribute a on a.attrelid = differing_grants.relation and a.attnum = e.number
        where e.number > 0 and not exists (select from excess t where (t.oid, t.kind, t.number) = (e.oid, e.kind, 0))
        group by e.oid, e.kind
      union all
      select 70, l.oid, lower(l.kind), string_agg(quote_ident(a.attname), ', ' order by a.attnum), false
        from lacking l left join pg_attribute a on a.attrelid = differing_grants.relation and a.attnum = l.number and l.number > 0
        group by l.oid, l.kind
    ), told as (
      select l.place, w.name, bool_or(l.cascades) as cascades,
          string_agg(l.kind || coalesce(' (' || l.columns || ')', ''), ', ' order by array_position(array['select', 'insert', 'update', 'delete'], l.kind), l.kind) as rights
        from lines l join who w on w.oid = l.oid
        group by l.place, w.name
    )
    select t.place, format(case when t.place = 70 then '%s may not yet: %s' else '%s may more than the rules say: %s' end, t.name, t.rights),
        format(case when t.place = 70 then 'grant %s on table %s to %s;' else 'revoke %s on table %s from %s%s;' end,
          t.rights, access_private.table_name(differing_grants.relation), t.name, case when t.cascades then ' cascade' else '' end)
      from told t
    union all
    -- The parts of a table are behind it: by their own name they know no rules.
    select 22, format('%s is reached past the rules by %s', access_private.table_name(h.inhrelid), w.name),
        format('revoke all on table %s from %s;', access_private.table_name(h.inhrelid), w.name)
      from access_private.heirs(relation) h (inhrelid)
      join pg_class c on c.oid = h.inhrelid
      join who w on exists (select from aclexplode(c.relacl) x where x.grantee = w.oid)
        or exists (select from pg_attribute a cross join aclexplode(a.attacl) x where a.attrelid = c.oid and x.grantee = w.oid);
end $$;
comment on function access_private.differing_grants(regclass, name, name, text[], name[], name[]) is
  'What roles may on a table under rules, more or less than the rules say, and the lines that make it so.';
