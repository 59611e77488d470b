-- One row for each object of ours and each grantee that matters, also where nothing is granted: absence is shown.
-- Letters as in psql: r select, a insert, w update, d delete, D truncate, x references, t trigger, m maintain,
-- U usage, C create, X execute, c connect, T temporary.
with ours as (
  select n.oid, n.nspname from pg_namespace n
   where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'graphile_migrate')
), extension_member as (
  select classid, objid from pg_depend where deptype = 'e'
), grantee (rank, label, role) as (
  values (1, 'PUBLIC', 0::oid), (2, 'anonymous', to_regrole('safetypin_anonymous')::oid),
    (3, 'member', to_regrole('safetypin_member')::oid), (4, 'authenticator', to_regrole('safetypin_authenticator')::oid),
    (5, 'jobs', to_regrole('safetypin_jobs')::oid), (6, 'auditor', to_regrole('safetypin_auditor')::oid),
    (7, 'definer', to_regrole('safetypin_definer')::oid), (8, 'keeper', to_regrole('safetypin_keeper')::oid),
    (9, 'owner', to_regrole('safetypin_owner')::oid)
), object (kind, name, owner, note, acl) as (
  select 1, 'database', datdba, '', coalesce(datacl, acldefault('d', datdba)) from pg_database where datname = current_database()
  union all
  select 2, 'schema ' || o.nspname, n.nspowner, '', coalesce(n.nspacl, acldefault('n', n.nspowner)) from ours o join pg_namespace n using (oid)
  union all
  select 3, format('%s %s.%s', case c.relkind when 'S' then 'sequence' when 'v' then 'view' else 'table' end, o.nspname, c.relname), c.relowner, '',
         coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
    from pg_class c join ours o on o.oid = c.relnamespace
   where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f') and not (c.relispartition and c.relname ~ '\d{4}_?\d{2}$')
  union all
  select 4, format('column %s.%s.%s', o.nspname, c.relname, a.attname), c.relowner, '', a.attacl
    from pg_attribute a join pg_class c on c.oid = a.attrelid join ours o on o.oid = c.relnamespace
   where a.attacl is not null and not a.attisdropped
     and not (c.relispartition and c.relname ~ '\d{4}_?\d{2}$')
  union all
  select 5, format('function %s.%s(%s)', o.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proowner,
         case when p.prosecdef then 'DEFINER' else 'invoker' end, coalesce(p.proacl, acldefault('f', p.proowner))
    from pg_proc p join ours o on o.oid = p.pronamespace
   where not exists (select from extension_member e where e.classid = 'pg_proc'::regclass and e.objid = p.oid)
  union all
  select 6, format('type %s.%s', o.nspname, t.typname), t.typowner, '', coalesce(t.typacl, acldefault('T', t.typowner))
    from pg_type t join ours o on o.oid = t.typnamespace
   where t.typtype in ('d', 'e', 'r') and not exists (select from extension_member e where e.classid = 'pg_type'::regclass and e.objid = t.oid)
)
select o.kind, o.name, replace(pg_get_userbyid(o.owner)::text, 'safetypin_', '') as owner, o.note,
       array_agg(coalesce(held.letters, '-') order by g.rank) as held
  from object o
 cross join grantee g
  left join lateral (
    select string_agg(distinct case a.privilege_type when 'SELECT' then 'r' when 'INSERT' then 'a' when 'UPDATE' then 'w'
             when 'DELETE' then 'd' when 'TRUNCATE' then 'D' when 'REFERENCES' then 'x' when 'TRIGGER' then 't'
             when 'MAINTAIN' then 'm' when 'USAGE' then 'U' when 'CREATE' then 'C' when 'EXECUTE' then 'X'
             when 'CONNECT' then 'c' when 'TEMPORARY' then 'T' else '?' end
             || case when a.is_grantable then '*' else '' end, '') as letters
      from aclexplode(o.acl) a
     where a.grantee = g.role and (a.grantee <> o.owner or o.kind = 4)
  ) held on true
 group by o.kind, o.name, o.owner, o.note
 order by o.kind, o.name collate "C"
