import type { Lint } from './lint.ts';

/** What stands around tables and functions: settings, sequences, PostgreSQL's own objects. SECURITY 2.1 to 2.5, splinter. */
export const surroundingLints: readonly Lint[] = [
  {
    name: 'PG-04 a function of the job queue or of a host that PUBLIC may execute',
    cure: 'revoke execute on the function from public',
    find: `select p.oid::regprocedure::text as key, 'public may execute' as detail
             from pg_proc p join pg_namespace n on n.oid = p.pronamespace, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
            where a.grantee = 0 and n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'extensions', 'graphile_migrate')`,
    defect: 'grant execute on function graphile_worker.safetypin_rescue() to public',
  },
  {
    name: 'PG-07 anything at all owned by a run-time role',
    cure: 'safetypin_owner, keeper or definer owns it',
    find: `select pg_describe_object(d.classid, d.objid, d.objsubid) as key, pg_get_userbyid(d.refobjid)::text as detail
             from pg_shdepend d join runtime r on r.role = d.refobjid
            where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o' and d.dbid in (0, (select oid from pg_database where datname = current_database()))`,
    defect:
      'create collation platform.odd from "C"; alter collation platform.odd owner to safetypin_owner; grant create on schema platform to safetypin_jobs; alter collation platform.odd owner to safetypin_jobs',
  },
  {
    name: 'PG-08 an extension whose objects stand in a schema of the API',
    cure: 'create extension … with schema extensions',
    find: `select extname as key, n.nspname::text as detail from pg_extension e join pg_namespace n on n.oid = e.extnamespace
            where n.nspname not in ('pg_catalog', 'extensions')`,
    defect: 'create extension btree_gist with schema api',
  },
  {
    name: 'PG-20 row-level security without any policy, so that nobody sees a row',
    cure: 'a policy, or a reviewed line here that says who reads it and how',
    find: `select t.key, 'no policy' as detail from tables t
            where t.relrowsecurity and not t.relispartition and not exists (select from pg_policy p where p.polrelid = t.oid)`,
    defect:
      'create table platform.odd (id int primary key); alter table platform.odd enable row level security, force row level security',
  },
  {
    name: 'PG-21 a policy that asks what a person can write herself',
    cure: 'compare columns that no client may update with request.…(); nothing inside JSON, no name of a role',
    find: `select distinct p.key, p.condition as detail from policies p where p.condition ~* '(->|#>|jsonb?_|metadata|current_user|session_user)'`,
    defect: `create policy odd on audit.events for insert to safetypin_member with check (details ->> 'role' = 'admin')`,
  },
  {
    name: 'PG-22 a login without timeouts',
    cure: 'alter role … set statement_timeout, lock_timeout and idle_in_transaction_session_timeout',
    find: `select format('%s: %s', r.rolname, s.name) as key, 'not set, or 0' as detail from pg_roles r
             cross join unnest(array['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout']) as s (name)
            where r.rolname ~ '^safetypin_' and r.rolcanlogin and not exists (
              select from pg_db_role_setting d, unnest(d.setconfig) c where d.setrole = r.oid and d.setdatabase = 0 and c ~ format('^%s=[1-9]', s.name))`,
    defect: 'alter role safetypin_jobs reset lock_timeout',
  },
  {
    name: 'PG-22 a function that changes a timeout',
    cure: 'timeouts stand on the logins; nothing a client may call raises one',
    find: `select key, 'names a timeout' as detail from routines where source ~* '\\m\\w+_timeout\\M' or array_to_string(proconfig, ' ') ~* '_timeout'`,
    defect: `create function api.odd() returns int language sql set search_path = pg_catalog, pg_temp set statement_timeout = 0 as 'select 1'`,
  },
  {
    name: 'PG-37 a sequence that a run-time role may use',
    cure: 'ids are platform.uuid_v7(); what a sequence counts, it counts over all organizations',
    find: `select format('%s for %s', c.oid::regclass, r.rolname) as key, 'usage, select or update' as detail
             from pg_class c join pg_namespace n on n.oid = c.relnamespace, runtime u join pg_roles r on r.oid = u.role
            where c.relkind = 'S' and n.nspname !~ '^pg_' and has_sequence_privilege(u.role, c.oid, 'usage, select, update')`,
    defect: 'grant usage on sequence graphile_worker.tasks_id_seq to safetypin_member',
  },
  {
    name: 'PG-41 a function for large objects that a role of ours may execute',
    cure: 'revoke execute from public: sql/platform/extensions.sql does, where it may',
    find: `select format('%s for %s', p.oid::regprocedure, r.rolname) as key, 'large objects' as detail from pg_proc p, actors a join pg_roles r on r.oid = a.role
            where p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^(lo_|loread$|lowrite$)' and has_function_privilege(a.role, p.oid, 'execute')`,
    defect: 'grant execute on function lo_create(oid) to public',
  },
  {
    name: 'PG-45 a role of ours that may replicate',
    cure: 'alter role … noreplication: what is replicated has no policies',
    find: `select rolname::text as key, 'replication' as detail from pg_roles where rolname ~ '^safetypin_' and rolreplication`,
    defect: 'alter role safetypin_auditor replication',
  },
  {
    name: 'PG-46 a function that sends notifications',
    cure: 'nobody can be kept from listening: enqueue a job, whose notification names nothing',
    find: `select key, 'notify' as detail from routines where source ~* '\\mpg_notify\\M|\\mnotify\\s+[\\w"]'`,
    defect: `create function api.odd() returns void language sql set search_path = pg_catalog, pg_temp as $$ select pg_notify('a', 'b') $$`,
  },
  {
    name: 'PG-60 a setting that a role was allowed to set',
    cure: 'revoke set on parameter …: session_replication_role and its like switch rules off',
    find: `select format('%s for %s', p.parname, coalesce(r.rolname, 'PUBLIC')) as key, x.privilege_type as detail
             from pg_parameter_acl p, aclexplode(p.paracl) x left join pg_roles r on r.oid = x.grantee where x.grantee = 0 or r.rolname ~ '^safetypin_'`,
    defect: 'grant set on parameter session_replication_role to safetypin_owner',
  },
  {
    name: 'PG-65 a trigger or constraint of ours that waits for the commit',
    cure: 'not deferrable: at commit the role and the context may be others',
    find: `select format('%s: %s', t.key, g.tgname) as key, 'trigger' as detail from pg_trigger g join tables t on t.oid = g.tgrelid where g.tgdeferrable and not g.tgisinternal
           union select format('%s: %s', t.key, c.conname), 'constraint' from pg_constraint c join tables t on t.oid = c.conrelid where c.condeferrable`,
    defect: 'alter table access.roles add constraint roles_odd unique (organization_id, created_at) deferrable',
  },
  {
    name: 'PG-67 a rule that asks when the transaction began',
    cure: 'clock_timestamp(): now() stands still while a transaction is held open',
    find: `select key, 'now()' as detail from routines
            where regexp_replace(source, '--[^\\n]*', '', 'g') ~* '\\m(now|transaction_timestamp)\\s*\\(|\\m(current_(timestamp|date|time)|localtime(stamp)?)\\M'
           union select distinct p.key, 'now() in a policy' from policies p where p.condition ~* '\\mnow\\(|current_(timestamp|date)'
           union select format('%s default of %s', t.key, a.attname), 'now() as a default' from pg_attrdef d join tables t on t.oid = d.adrelid
             join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum where pg_get_expr(d.adbin, d.adrelid) ~* '\\mnow\\(|current_(timestamp|date)'`,
    defect: `alter table access.roles alter column created_at set default now()`,
  },
];
