-- What each role holds on each class of objects of ours, all of it together, also where that is nothing and also where
-- there is no such object: a first grant on a new kind of object is a line that changes.
with ours as (
  select n.oid from pg_namespace n where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'graphile_migrate')
), grantee (rank, label, role) as (
  values (1, 'PUBLIC', 0::oid), (2, 'anonymous', to_regrole('safetypin_anonymous')::oid),
    (3, 'member', to_regrole('safetypin_member')::oid), (4, 'authenticator', to_regrole('safetypin_authenticator')::oid),
    (5, 'jobs', to_regrole('safetypin_jobs')::oid), (6, 'auditor', to_regrole('safetypin_auditor')::oid),
    (7, 'definer', to_regrole('safetypin_definer')::oid), (8, 'keeper', to_regrole('safetypin_keeper')::oid),
    (9, 'owner', to_regrole('safetypin_owner')::oid)
), class (rank, name) as (
  select ordinality, name from unnest(array['database', 'schema', 'table', 'partition', 'column', 'view', 'materialized view',
    'foreign table', 'sequence', 'function', 'procedure', 'aggregate', 'extension function', 'type', 'domain', 'language',
    'foreign data wrapper', 'foreign server', 'large object', 'large-object function', 'parameter', 'tablespace',
    'default privileges']) with ordinality as c (name, ordinality)
), held (class, owner, acl) as (
  select 'database', datdba, coalesce(datacl, acldefault('d', datdba)) from pg_database where datname = current_database()
  union all select 'schema', nspowner, coalesce(nspacl, acldefault('n', nspowner)) from pg_namespace join ours using (oid)
  union all
  select case c.relkind when 'v' then 'view' when 'm' then 'materialized view' when 'f' then 'foreign table' when 'S' then 'sequence'
           else case when c.relispartition then 'partition' else 'table' end end,
         c.relowner, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
    from pg_class c join ours o on o.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
  union all
  select 'column', 0::oid, a.attacl from pg_attribute a join pg_class c on c.oid = a.attrelid join ours o on o.oid = c.relnamespace where a.attacl is not null
  union all
  select case when e.objid is not null then 'extension function' when p.prokind = 'p' then 'procedure' when p.prokind = 'a' then 'aggregate' else 'function' end,
         p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc p join ours o on o.oid = p.pronamespace
    left join pg_depend e on e.classid = 'pg_proc'::regclass and e.objid = p.oid and e.deptype = 'e'
  union all
  select case t.typtype when 'd' then 'domain' else 'type' end, t.typowner, coalesce(t.typacl, acldefault('T', t.typowner))
    from pg_type t join ours o on o.oid = t.typnamespace where t.typtype in ('d', 'e', 'r')
  union all select 'language', lanowner, coalesce(lanacl, acldefault('l', lanowner)) from pg_language where lanname not in ('internal', 'c')
  union all select 'foreign data wrapper', fdwowner, coalesce(fdwacl, acldefault('F', fdwowner)) from pg_foreign_data_wrapper
  union all select 'foreign server', srvowner, coalesce(srvacl, acldefault('S', srvowner)) from pg_foreign_server
  union all select 'large object', lomowner, coalesce(lomacl, acldefault('L', lomowner)) from pg_largeobject_metadata
  union all
  select 'large-object function', proowner, coalesce(proacl, acldefault('f', proowner))
    from pg_proc where pronamespace = 'pg_catalog'::regnamespace and proname ~ '^(lo_|loread$|lowrite$)'
  union all select 'parameter', 0::oid, paracl from pg_parameter_acl
  union all select 'tablespace', spcowner, coalesce(spcacl, acldefault('t', spcowner)) from pg_tablespace
  union all
  -- What a new object of an owner would give to others.
  select 'default privileges', defaclrole, defaclacl from pg_default_acl
)
select c.name, array_agg('{' || coalesce(x.letters, '') || '}' order by g.rank) as held
  from class c
 cross join grantee g
  left join lateral (
    select string_agg(distinct case a.privilege_type when 'SELECT' then 'r' when 'INSERT' then 'a' when 'UPDATE' then 'w'
             when 'DELETE' then 'd' when 'TRUNCATE' then 'D' when 'REFERENCES' then 'x' when 'TRIGGER' then 't'
             when 'MAINTAIN' then 'm' when 'USAGE' then 'U' when 'CREATE' then 'C' when 'EXECUTE' then 'X'
             when 'CONNECT' then 'c' when 'TEMPORARY' then 'T' when 'SET' then 's' when 'ALTER SYSTEM' then 'A' else '?' end
             || case when a.is_grantable then '*' else '' end, '') as letters
      from held h, aclexplode(h.acl) a
     where h.class = c.name and a.grantee = g.role and a.grantee <> h.owner
  ) x on true
 group by c.rank, c.name
 order by c.rank
