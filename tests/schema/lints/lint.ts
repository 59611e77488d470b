/** A rule about the catalog, as a query that finds what breaks it. */
export interface Lint {
  /** Short name, and the statement of SECURITY.md it holds us to where there is one. */
  readonly name: string;
  /** What to do about a finding. */
  readonly cure: string;
  /** Finds rows (key, detail). `ours(oid)` and the other names of prelude.sql are there. */
  readonly find: string;
  /** SQL of an administrator that breaks the rule, to prove that the lint sees it. */
  readonly defect: string;
}

/** What is common to all lints, put before each query. */
export const PRELUDE = `
with ours as (
  select n.oid, n.nspname from pg_namespace n
   where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'graphile_migrate', 'graphile_worker', 'public')
), member_of_extension as (
  select classid, objid from pg_depend where deptype = 'e'
), tables as (
  select c.oid, o.nspname, c.relname, c.relkind, c.relispartition, c.relowner, c.relacl, c.relrowsecurity,
         c.relforcerowsecurity, format('%s.%s', o.nspname, c.relname) as key
    from pg_class c join ours o on o.oid = c.relnamespace where c.relkind in ('r', 'p')
), routines as (
  select p.*, coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) as source, p.oid as id, o.nspname, format('%s.%s(%s)', o.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) as key
    from pg_proc p join ours o on o.oid = p.pronamespace
   where not exists (select from member_of_extension e where e.classid = 'pg_proc'::regclass and e.objid = p.oid)
), policies as (
  select p.*, t.key as table_key, t.nspname, format('%s: %s', t.key, p.polname) as key, r.role,
         coalesce(pg_get_expr(p.polqual, p.polrelid), '') || ' ' || coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '') as condition
    from pg_policy p join tables t on t.oid = p.polrelid cross join unnest(p.polroles) as r (role)
), runtime (role) as (
  select oid from pg_roles
   where rolname in ('safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member', 'safetypin_jobs', 'safetypin_auditor')
), actors (role) as (
  select role from runtime
  union all select oid from pg_roles where rolname in ('safetypin_definer', 'safetypin_keeper')
)
`;
