import type { Lint } from './lint.ts';

/** Who may do what. SECURITY 2.2 to 2.4. */
export const accessLints: readonly Lint[] = [
  {
    name: 'PG-02 temporary objects for everybody',
    cure: 'revoke temporary on the database from public',
    find: `select r.rolname as key, 'TEMP on the database' as detail from actors a join pg_roles r on r.oid = a.role
            where has_database_privilege(a.role, current_database(), 'temp')`,
    defect: `do $$ begin execute format('grant temporary on database %I to public', current_database()); end $$`,
  },
  {
    name: 'PG-03 a role that could plant an object in a schema',
    cure: 'revoke create on the schema at the end of the file that needed it',
    find: `select format('%s on %s', r.rolname, n.nspname) as key, 'CREATE' as detail from actors a join pg_roles r on r.oid = a.role, pg_namespace n
            where n.nspname !~ '^pg_(temp|toast)' and has_schema_privilege(a.role, n.oid, 'create')`,
    defect: 'grant create on schema api to safetypin_member',
  },
  {
    name: 'PG-07, PG-66 something owned by a run-time role',
    cure: 'safetypin_owner, keeper or definer owns it: an owner can make readers run his code',
    find: `select format('%s %s', o.kind, o.name) as key, pg_get_userbyid(o.owner)::text as detail
             from (select 'relation', oid::regclass::text, relowner from pg_class
                   union all select 'function', oid::regprocedure::text, proowner from pg_proc
                   union all select 'operator', oid::regoperator::text, oprowner from pg_operator
                   union all select 'type', oid::regtype::text, typowner from pg_type
                   union all select 'schema', nspname, nspowner from pg_namespace
                   union all select 'database', datname, datdba from pg_database
                   union all select 'operator class', opcname, opcowner from pg_opclass
                   union all select 'language', lanname, lanowner from pg_language
                   union all select 'server', srvname, srvowner from pg_foreign_server
                   union all select 'publication', pubname, pubowner from pg_publication) as o (kind, name, owner)
             join runtime r on r.role = o.owner`,
    defect: 'alter table graphile_worker._private_jobs owner to safetypin_jobs',
  },
  {
    name: 'PG-07 a cast of ours',
    cure: 'drop it: a cast changes what other statements mean',
    find: `select format('%s as %s', castsource::regtype, casttarget::regtype) as key, castcontext::text as detail from pg_cast where oid >= 16384`,
    defect: 'create cast (jsonb as uuid) with inout',
  },
  {
    name: 'PG-08 an extension that was not reviewed',
    cure: 'plpgsql and pgcrypto are enough; dblink, postgres_fdw, file_fdw and their like reach outside',
    find: `select extname as key, extversion as detail from pg_extension where extname not in ('plpgsql', 'pgcrypto')`,
    defect: 'create extension btree_gist',
  },
  {
    name: 'PG-11 a role that reaches a stronger one',
    cure: 'owner, keeper and definer have no members; a login may become anonymous or member only',
    find: `select * from (with recursive reach (start, role) as (
             select role, role from actors
             union select r.start, m.roleid from reach r join pg_auth_members m on m.member = r.role)
           select format('%s -> %s', s.rolname, t.rolname) as key, 'can become' as detail
             from reach r join pg_roles s on s.oid = r.start join pg_roles t on t.oid = r.role
            where r.start <> r.role and t.rolname not in ('safetypin_anonymous', 'safetypin_member')
               or t.rolsuper or t.rolbypassrls or t.rolcreaterole or t.rolcreatedb or t.rolreplication) as reachable`,
    defect: 'grant safetypin_definer to safetypin_jobs',
  },
  {
    name: "PG-13 a view that reads with its owner's rights",
    cure: 'with (security_invoker = true); no materialized view and no foreign table holds rows of tenants',
    find: `select format('%s.%s', o.nspname, c.relname) as key, c.relkind::text as detail from pg_class c join ours o on o.oid = c.relnamespace
            where c.relkind in ('m', 'f') or c.relkind = 'v' and not coalesce(c.reloptions, '{}') && '{security_invoker=true,security_invoker=on}'`,
    defect: 'create view api.odd as select 1 as one',
  },
  {
    name: 'PG-14 several permissive policies for one role and command: they add up',
    cure: 'one permissive policy per table, command and role (F16: it also costs the index)',
    find: `select format('%s: %s for %s', p.table_key, c.command, r.rolname) as key, string_agg(p.polname, ', ' order by p.polname) as detail
             from policies p join pg_roles r on r.oid = p.role
             cross join lateral unnest(case p.polcmd when '*' then '{r,a,w,d}'::text[] else array[p.polcmd::text] end) as c (command)
            where p.polpermissive group by p.table_key, c.command, r.rolname having count(distinct p.polname) > 1`,
    defect: 'create policy odd on access.roles for select to safetypin_member using (false)',
  },
  {
    name: 'PG-14 a policy that lets a client write or read everything',
    cure: 'a condition; `true` is for owner, keeper and definer, who cannot log in',
    find: `select distinct p.key, p.condition as detail from policies p
            where p.polpermissive and (p.role = 0 or p.role in (select role from runtime)) and btrim(p.condition, '() ') in ('true', 'true) (true')`,
    defect: 'create policy odd on access.roles for delete to safetypin_member using (true)',
  },
  {
    name: 'a policy for everybody or for every command',
    cure: 'to <role>, and one policy per command',
    find: `select distinct p.key, case when p.role = 0 then 'to public' else 'for all' end as detail from policies p where p.role = 0 or p.polcmd = '*'`,
    defect: 'create policy odd on access.roles using (false)',
  },
  {
    name: 'F16 a tenant table without its one restrictive policy',
    cure: 'access.protect',
    find: `select format('%s: %s for %s', t.key, p.polcmd, r.rolname) as key, 'no restrictive policy on the tenant' as detail
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attname = 'organization_id' and a.attnotnull
             join policies p on p.polrelid = t.oid and p.polpermissive join runtime u on u.role = p.role join pg_roles r on r.oid = p.role
            where not exists (select from policies q where q.polrelid = t.oid and q.role = p.role and q.polcmd = p.polcmd and not q.polpermissive
                                and q.condition ~ '= \\( SELECT request\\.organization_id\\(\\)')`,
    defect: 'drop policy safetypin_tenant_select on access.roles',
  },
  {
    name: 'PG-20 a grant without a policy, so that it gives nothing',
    cure: 'a policy for that role and command, or no grant',
    find: `select distinct format('%s: %s for %s', t.key, x.privilege, r.rolname) as key, 'no policy' as detail
             from tables t
             cross join lateral (
               select a.grantee, a.privilege_type from aclexplode(t.relacl) a
               union select a.grantee, a.privilege_type from pg_attribute c, aclexplode(c.attacl) a where c.attrelid = t.oid and c.attacl is not null
             ) as x (grantee, privilege)
             join actors n on n.role = x.grantee join pg_roles r on r.oid = x.grantee
            where not t.relispartition and x.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')
              and not exists (select from policies p where p.polrelid = t.oid and p.role in (x.grantee, 0) and p.polpermissive
                    and p.polcmd::text in ('*', case x.privilege when 'SELECT' then 'r' when 'INSERT' then 'a' when 'UPDATE' then 'w' else 'd' end))`,
    defect: 'grant delete on platform.limits to safetypin_member',
  },
  {
    name: 'PG-20 a policy without a grant, so that it gives nothing',
    cure: 'a grant for that role, or no policy',
    find: `select distinct format('%s for %s', p.key, r.rolname) as key, 'no grant' as detail
             from policies p join actors n on n.role = p.role join pg_roles r on r.oid = p.role join tables t on t.oid = p.polrelid
            where p.polpermissive and p.polcmd <> '*' and p.role <> t.relowner and not exists (
              select from (
                select a.grantee, a.privilege_type from aclexplode(t.relacl) a
                union all select a.grantee, a.privilege_type from pg_attribute c, aclexplode(c.attacl) a where c.attrelid = t.oid and c.attacl is not null) x
               where x.grantee = p.role and x.privilege_type = case p.polcmd when 'r' then 'SELECT' when 'a' then 'INSERT' when 'w' then 'UPDATE' else 'DELETE' end)`,
    defect: 'create policy odd on platform.limits for delete to safetypin_anonymous using (false)',
  },
  {
    name: 'PG-20 policies on a table where row-level security is off',
    cure: 'enable it',
    find: `select distinct t.key, 'off' as detail from tables t join policies p on p.polrelid = t.oid where not t.relrowsecurity`,
    defect: 'alter table access.roles disable row level security',
  },
  {
    name: 'F14 a policy that asks an accessor once per row',
    cure: '(select request.…()): once per statement',
    find: `select distinct p.key, p.condition as detail from policies p
            where regexp_replace(p.condition, '\\( SELECT request\\.\\w+\\([^()]*\\)', '', 'g') ~ 'request\\.\\w+\\('`,
    defect:
      'create policy odd on access.roles for delete to safetypin_member using (organization_id = request.organization_id())',
  },
  {
    name: 'PG-51 a policy or function that believes a setting',
    cure: 'ask request.…(), which verify the seal; the few that read settings are reviewed here',
    find: `select distinct p.key, 'current_setting in a policy' as detail from policies p where p.condition ~ 'current_setting'
           union select key, 'current_setting in a function' from routines where source ~ 'current_setting\\s*\\('
           union select format('%s.%s', schemaname, viewname), 'current_setting in a view' from pg_views join ours on nspname = schemaname where definition ~ 'current_setting\\s*\\('`,
    defect: `create policy odd on access.roles for delete to safetypin_member using (organization_id::text = current_setting('a.b'))`,
  },
  {
    name: 'PG-42 a role of ours in a predefined role',
    cure: 'revoke it: pg_read_all_data and its like pass every policy',
    find: `select format('%s in %s', m.member::regrole, m.roleid::regrole) as key, 'member' as detail from pg_auth_members m
            where m.member::regrole::text ~ '^safetypin_' and m.roleid::regrole::text ~ '^pg_'`,
    defect: 'grant pg_read_all_data to safetypin_auditor',
  },
  {
    name: 'PG-44 a grant of TRUNCATE, REFERENCES, TRIGGER or MAINTAIN',
    cure: 'revoke it: none of them asks a policy',
    find: `select format('%s: %s for %s', c.oid::regclass, x.privilege_type, coalesce(r.rolname, 'PUBLIC')) as key, 'grant' as detail
             from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) x left join pg_roles r on r.oid = x.grantee
            where n.nspname !~ '^pg_' and x.grantee <> c.relowner and x.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'USAGE')`,
    defect: 'grant trigger on access.roles to safetypin_member',
  },
  {
    name: 'a grant that its holder may pass on',
    cure: 'without grant option',
    find: `select format('%s for %s', t.key, x.grantee::regrole) as key, x.privilege_type as detail from tables t, aclexplode(t.relacl) x
            where x.is_grantable and x.grantee <> t.relowner`,
    defect: 'grant select on access.roles to safetypin_member with grant option',
  },
  {
    name: 'SELECT granted on single columns of a table that is under no rules',
    cure: 'access.protect grants by column; else grant select on the table: what must not be seen belongs into a private sibling',
    find: `select format('%s.%s for %s', t.key, c.attname, x.grantee::regrole) as key, 'select on a column' as detail
             from tables t join pg_attribute c on c.attrelid = t.oid, aclexplode(c.attacl) x join runtime r on r.role = x.grantee
            where x.privilege_type = 'SELECT' and t.oid not in (select p.relation from access.protections p)`,
    defect: 'grant select (name) on access.permissions to safetypin_anonymous',
  },
  {
    name: 'PG-45 a publication or an event trigger that was not reviewed',
    cure: 'publications ignore policies on the publisher',
    find: `select 'publication ' || pubname as key, '' as detail from pg_publication union all select 'event trigger ' || evtname, '' from pg_event_trigger`,
    defect: 'create publication odd',
  },
];
