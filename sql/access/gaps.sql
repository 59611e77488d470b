-- Purpose: what became different since it was put under rules, and what in an exposed schema never was. For a server
-- that starts and for a host's CI: one pass over the catalog, and nothing is changed.

create or replace function access_private.gaps_of_protected() returns table (object text, what text, line text, stops boolean)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_relation regclass;
  v record;
begin
  for v_relation in
    select c.oid::regclass from access.protections p join pg_class c on c.oid = p.relation order by access_private.table_name(c.oid)
  loop
    select k.* into v from access_private.kept(v_relation) k;
    return query
      select access_private.table_name(v_relation), o.what, o.line, true
        from access_private.obstacles(v_relation, v.organization, v.owner, v.permissions || v.assign, v.assurance, v.roles, v.hidden) o;
    -- Whoever takes the column away that the rest is about hears of that alone.
    continue when found;
    return query
      -- An index that is missing is slow, and lets nobody past.
      select access_private.table_name(v_relation), d.what, d.line, d.place <> 80
        from access_private.differences(v_relation, v.organization, v.owner, v.permissions, v.assurance, v.roles, v.audited, v.assign, v.hidden) d
        order by d.place, d.line;
  end loop;
end $$;
comment on function access_private.gaps_of_protected() is 'What is not as the rules of the tables under rules say.';

create or replace function access_private.gaps_of_schemas(schemas name[]) returns table (object text, what text, line text, stops boolean)
  language sql stable
  set search_path = pg_catalog, pg_temp
  set row_security = on
  set quote_all_identifiers = off
as $$
  with recursive over (id, ancestor) as (
    select i.inhrelid, i.inhparent from pg_inherits i
    union
    select o.id, i.inhparent from over o join pg_inherits i on i.inhrelid = o.ancestor
  ), here as (
    select c.oid, c.relkind, c.reloptions, c.relispartition, format('%I.%I', n.nspname, c.relname) as name
      from pg_namespace n join pg_class c on c.relnamespace = n.oid
      where n.nspname = any (gaps_of_schemas.schemas) and c.relkind in ('r', 'p', 'v', 'm', 'f')
  ), borrowed as (
    -- What runs with the rights of its owner: for whoever may call it, and behind whatever has it as a trigger.
    select p.oid::regprocedure::text as name, pg_get_userbyid(p.proowner) as owner, p.prokind
      from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.prosecdef and pg_get_userbyid(p.proowner) not in ('safetypin_definer', 'safetypin_keeper')
        and (n.nspname = any (gaps_of_schemas.schemas) and exists (
            select from pg_roles r where r.rolname = any (access_private.run_time_roles()) and has_function_privilege(r.oid, p.oid, 'execute'))
          or exists (
            select from pg_trigger t where t.tgfoid = p.oid and not t.tgisinternal and (
              t.tgrelid in (select x.relation from access.protections x) or t.tgrelid in (select h.oid from here h))))
  )
  select g.name, g.what, g.line, true
    from (
      select h.name, 'not under rules' as what, format('select access.protect(%L);', coalesce((
            select access_private.table_name(a.relid) from pg_partition_ancestors(h.oid) with ordinality a (relid, level) where h.relispartition order by a.level desc limit 1),
          h.name)) as line
        from here h
        where h.relkind in ('r', 'p')
          and not exists (select from access.protections p where p.relation = h.oid)
          and not exists (select from over o join access.protections p on p.relation = o.ancestor where o.id = h.oid)
      union all
      select h.name, 'a view that reads with the rights of its owner, past all rules', format('alter view %s set (security_invoker = true);', h.name)
        from here h
        where h.relkind = 'v' and not coalesce((select o.option_value::boolean from pg_options_to_table(h.reloptions) o where o.option_name = 'security_invoker'), false)
      union all
      select h.name, case h.relkind when 'm' then 'a materialized view holds rows of everybody, and knows no rules' else 'a foreign table knows no rules' end,
          format('select access.exempt(%L, ''…'');', h.name)
        from here h
        where h.relkind in ('m', 'f')
      union all
      select b.name, format('runs with the rights of %s, past all rules', b.owner),
          format('alter %s %s security invoker;', case b.prokind when 'p' then 'procedure' else 'function' end, b.name)
        from borrowed b
    ) g
    where not exists (select from access.exemptions e where e.object = g.name)
    order by g.name, g.what
$$;
comment on function access_private.gaps_of_schemas(name[]) is 'What in these schemas is neither under rules nor exempt, and what goes past rules anywhere.';

create or replace function access.gaps(schemas name[] default '{}') returns table (object text, what text, line text, stops boolean)
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select * from access_private.gaps_of_protected()
  union all
  select * from access_private.gaps_of_schemas(gaps.schemas)
$$;
comment on function access.gaps(name[]) is
  'Where rules do not hold, each with the line to run: tables under rules that are not as their rules say any more, and in these schemas whatever is neither under rules nor exempt (access.exempt). No row means none. A server does not start with one that stops it. Changes nothing.';
