// The doctor's checks of what is in the database: owners, PUBLIC, extensions, row-level security, triggers, readings.
import { type Check, listed, NOT_SYSTEM, ok, RUN_TIME, rows, unsafe, type Verdict, warn, wrong } from './check.ts';

const owned: Check = {
  name: 'owners',
  async look({ admin }) {
    // PG-66: whoever owns an index, a view or a type can make others run his code.
    const found = await rows(
      admin,
      `select format('%s: %s', d.refobjid::regrole, pg_describe_object(d.classid, d.objid, d.objsubid)) as name
         from pg_catalog.pg_shdepend d
        where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o'
          and d.dbid in (0, (select oid from pg_catalog.pg_database where datname = current_database()))
          and d.refobjid = any (array(select oid from pg_catalog.pg_roles where rolname = any ($1)))
        order by 1`,
      [RUN_TIME],
    );
    if (found.length === 0) return ok('no login owns anything');
    return unsafe(`owned by a login: ${listed(found)}; reassign it to safetypin_owner`);
  },
};

const publicRights: Check = {
  name: 'PUBLIC',
  async look({ admin }) {
    const found: Verdict[] = [];
    const [on] = await rows<{ temporary: boolean; making: boolean; open: boolean; name: string }>(
      admin,
      `select has_database_privilege('public', current_database(), 'temp') as temporary,
         has_database_privilege('public', current_database(), 'create') as making,
         has_database_privilege('public', current_database(), 'connect') as open, current_database() as name`,
    );
    if (on?.temporary)
      found.push(wrong('everybody may make temporary objects here: npm run migrate:up takes that away'));
    if (on?.making)
      found.push(wrong(`everybody may make schemas here: revoke create on database ${on.name} from public`));
    if (on?.open) found.push(warn('everybody on this server may connect here: npm run migrate:up takes that away'));
    const schemas = await rows(
      admin,
      `select nspname as name from pg_catalog.pg_namespace
        where ${NOT_SYSTEM} and has_schema_privilege('public', oid, 'create') order by 1`,
    );
    if (schemas.length > 0)
      found.push(wrong(`everybody may create in schema ${listed(schemas)}: revoke create from public`));
    const callable = await rows(
      admin,
      `select p.oid::regprocedure as name from pg_catalog.pg_proc p
        where p.proowner = any (array(select oid from pg_catalog.pg_roles
                where rolname in ('safetypin_owner', 'safetypin_keeper', 'safetypin_definer')))
          and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0)
        order by 1`,
    );
    if (callable.length > 0) found.push(wrong(`everybody may call ${listed(callable)}: revoke execute from public`));
    const shared = await rows(
      admin,
      `select distinct p.proname as name from pg_catalog.pg_proc p
        where p.pronamespace = 'pg_catalog'::regnamespace
          and p.proname ~ '^(lo_(create|put|from_bytea)|lowrite|pg_cancel_backend|pg_terminate_backend)$'
          and has_function_privilege('public', p.oid, 'execute') order by 1`,
    );
    if (shared.length > 0) {
      found.push(
        warn(
          `any login may fill the disk or end the requests of others: revoke execute on ${listed(shared)} from public`,
        ),
      );
    }
    const future = await rows(
      admin,
      `select rolname as name from pg_catalog.pg_roles r
        where rolname in ('safetypin_owner', 'safetypin_keeper', 'safetypin_definer')
          and to_regclass('graphile_migrate.migrations') is not null
          and exists (select from pg_catalog.pg_namespace where nspname = 'platform')
          and not exists (select from pg_catalog.pg_default_acl d where d.defaclrole = r.oid
            and d.defaclobjtype = 'f' and d.defaclnamespace = 0
            and not exists (select from aclexplode(d.defaclacl) a where a.grantee = 0))
        order by 1`,
    );
    if (future.length > 0) {
      found.push(
        wrong(
          `new functions of ${listed(future)} can be called by everybody: alter default privileges for role … revoke execute on functions from public`,
        ),
      );
    }
    return found.length > 0 ? found : ok('PUBLIC may nothing here');
  },
};

/** PG-08: reach outside the database, or are known to be unsafe. */
const FORBIDDEN = ['dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'refint'];

const extensions: Check = {
  name: 'extensions',
  async look({ admin }) {
    const found: Verdict[] = [];
    const installed = await rows<{ name: string; schema: string; version: string; newest: string | null }>(
      admin,
      `select e.extname as name, e.extnamespace::regnamespace::text as schema, e.extversion as version,
         (select default_version from pg_catalog.pg_available_extensions a where a.name = e.extname) as newest
         from pg_catalog.pg_extension e order by 1`,
    );
    const crypto = installed.find(({ name }) => name === 'pgcrypto');
    if (!crypto)
      found.push(wrong('pgcrypto is missing: install the contrib package of the server, then npm run migrate:up'));
    else if (crypto.schema !== 'extensions') {
      found.push(wrong(`pgcrypto is in schema ${crypto.schema}: alter extension pgcrypto set schema extensions`));
    }
    for (const { name, version, newest } of installed) {
      if (newest && newest !== version)
        found.push(warn(`${name} is ${version}, the server has ${newest}: alter extension ${name} update`));
    }
    const odd = installed.filter(({ name }) => FORBIDDEN.includes(name) || /^pl(python|perlu|tclu|sh|r$)/.test(name));
    if (odd.length > 0)
      found.push(wrong(`reaches outside of the database or past its rules: drop extension ${listed(odd)}`));
    return found.length > 0 ? found : ok(`pgcrypto ${crypto?.version}, nothing that reaches outside`);
  },
};

/** Schemas of ours: those whose owner is one of the three. */
const OURS = `n.nspowner = any (array(select oid from pg_catalog.pg_roles
  where rolname in ('safetypin_owner', 'safetypin_keeper', 'safetypin_definer'))) and n.nspname <> 'graphile_migrate'`;

const rowSecurity: Check = {
  name: 'row security',
  async look({ admin }) {
    const open = await rows(
      admin,
      `select c.oid::regclass as name from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        where ${OURS} and c.relkind in ('r', 'p') and not c.relrowsecurity
          and exists (select from aclexplode(c.relacl) a where a.grantee <> c.relowner)
          and (n.nspname <> 'graphile_worker') order by 1`,
    );
    if (open.length > 0)
      return unsafe(`no row-level security on ${listed(open)}: select access.protect('…'), or enable it`);
    return ok('every table that somebody may read has row-level security');
  },
};

const triggers: Check = {
  name: 'triggers',
  async look({ admin }) {
    // PG-60: a trigger that is switched off is missed by nobody but the auditor.
    const off = await rows(
      admin,
      `select format('%s on %s', t.tgname, t.tgrelid::regclass) as name
         from pg_catalog.pg_trigger t
         join pg_catalog.pg_class c on c.oid = t.tgrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
         join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where not t.tgisinternal and n.nspname !~ '^(pg_|information_schema$)'
          and (t.tgenabled = 'D' or (p.pronamespace in (to_regnamespace('audit'), to_regnamespace('keyring')) and t.tgenabled <> 'A'))
        order by 1`,
    );
    if (off.length === 0) return ok('no trigger is switched off');
    return unsafe(`switched off: ${listed(off)}; alter table … enable always trigger …`);
  },
};

const readings: Check = {
  name: 'readings',
  async look({ admin }) {
    // F5: what a rollback takes back is the record, not what was read.
    const [row] = await rows<{ alerts: number; last: string; waiting: boolean }>(
      admin,
      `select count(*)::int as alerts, to_char(max(e.occurred_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as last,
         (select s.waiting > 0 and coalesce(s.judged_at < clock_timestamp() - interval '1 hour', true)
            from keyring.openings_state() s) as waiting
         from audit.events e
        where e.organization_id = platform.no_organization() and e.action = 'value.mismatch'
          and e.occurred_at > clock_timestamp() - interval '30 days'`,
    );
    if (row && row.alerts > 0) {
      const times = row.alerts === 1 ? 'once' : `${row.alerts} times`;
      return warn(
        `sensitive values were read and not recorded, ${times} in 30 days, last at ${row.last} UTC: look at value.mismatch in audit.events`,
      );
    }
    if (row?.waiting) {
      return warn('readings of sensitive columns wait to be compared with their records: is a worker running?');
    }
    return ok('what was read of sensitive columns is recorded');
  },
};

export const OBJECTS: readonly Check[] = [owned, publicRights, extensions, rowSecurity, triggers, readings];
