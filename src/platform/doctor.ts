// `safetypin doctor`: what is wrong with this installation, one line each.
import type pg from 'pg';
import type { DatabaseAccess } from './access.ts';
import { retarget, withClient } from './connection.ts';
import { committedMigrations } from './migrations.ts';

/** One thing that was looked at. */
export interface Finding {
  readonly ok: boolean;
  readonly line: string;
}

type Check = (admin: pg.Client) => Promise<Finding>;

/** Looks at versions, roles and settings of the database. Changes nothing. */
export async function examine(access: DatabaseAccess): Promise<Finding[]> {
  return withClient(retarget(access.admin, access.database), async (admin) => {
    const findings: Finding[] = [];
    for (const check of CHECKS) findings.push(await check(admin));
    return findings;
  });
}

const version: Check = async (admin) => {
  const [row] = await rows(admin, 'select version() as text, current_setting($1)::int as number', [
    'server_version_num',
  ]);
  const major = Math.floor(Number(row?.number) / 10_000);
  const ok = major >= 15 && major <= 18;
  return { ok, line: `${String(row?.text).split(' on ')[0]}${ok ? '' : ': SafetyPin runs on PostgreSQL 15 to 18'}` };
};

const migrated: Check = async (admin) => {
  const [found] = await rows(admin, "select to_regclass('graphile_migrate.migrations') is not null as yes");
  if (!found?.yes) return { ok: false, line: 'no migration has run: npm run migrate:up' };
  const applied = await rows(admin, 'select filename, hash from graphile_migrate.migrations order by filename');
  const wanted = await committedMigrations();
  const same = wanted.filter(({ filename, hash }, i) => applied[i]?.filename === filename && applied[i]?.hash === hash);
  const ok = same.length === wanted.length && applied.length === wanted.length;
  return {
    ok,
    line: `${same.length} of ${wanted.length} committed migrations have run${ok ? '' : ', or others than these'}`,
  };
};

const roles: Check = async (admin) => {
  const strong = await rows(
    admin,
    `select rolname from pg_catalog.pg_roles where rolname like 'safetypin\\_%'
       and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication)`,
  );
  return none(strong, 'rolname', 'roles with no more rights than they need', 'too strong: ');
};

const logins: Check = async (admin) => {
  const wrong = await rows(
    admin,
    `select rolname from pg_catalog.pg_roles where rolname like 'safetypin\\_%'
       and rolcanlogin <> (rolname in ('safetypin_authenticator', 'safetypin_jobs', 'safetypin_auditor'))`,
  );
  return none(wrong, 'rolname', 'logins are the authenticator, the worker and the auditor only', 'login set wrongly: ');
};

const owned: Check = async (admin) => {
  const found = await rows(
    admin,
    `select distinct r.rolname from pg_catalog.pg_class c join pg_catalog.pg_roles r on r.oid = c.relowner
      where r.rolname in ('safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member', 'safetypin_jobs',
                          'safetypin_auditor') and c.relpersistence <> 't'`,
  );
  return none(found, 'rolname', 'no run-time role owns anything', 'owns tables: ');
};

const logging: Check = async (admin) => {
  const printed = await rows(
    admin,
    `select name from (values ('log_parameter_max_length'), ('log_parameter_max_length_on_error'),
       ('auto_explain.log_parameter_max_length')) as v(name)
      where coalesce(current_setting(name, true), '0') not in ('0', '0B', '')
     union all select 'pgaudit.log_parameter' where current_setting('pgaudit.log_parameter', true) = 'on'`,
  );
  return none(printed, 'name', 'bind parameters are kept out of the log', 'bind parameters are logged, set to 0: ');
};

const passwords: Check = async (admin) => {
  const [row] = await rows(admin, 'select current_setting($1) as value', ['password_encryption']);
  return { ok: row?.value === 'scram-sha-256', line: `passwords are kept as ${row?.value}` };
};

const extensions: Check = async (admin) => {
  const odd = await rows(
    admin,
    "select extname from pg_catalog.pg_extension where extname in ('dblink', 'postgres_fdw', 'file_fdw', 'adminpack', 'refint') or extname like 'plpython%'",
  );
  return none(odd, 'extname', 'no extension that reaches outside the database', 'extensions that reach outside: ');
};

const temporary: Check = async (admin) => {
  const [row] = await rows(admin, "select has_database_privilege('public', current_database(), 'temp') as yes");
  return row?.yes
    ? { ok: false, line: 'PUBLIC may make temporary objects here: npm run migrate:up takes that away' }
    : { ok: true, line: 'nobody makes temporary objects' };
};

const CHECKS: readonly Check[] = [version, migrated, roles, logins, owned, logging, passwords, extensions, temporary];

async function rows(admin: pg.Client, sql: string, values: unknown[] = []): Promise<Record<string, unknown>[]> {
  return (await admin.query(sql, values)).rows;
}

function none(found: Record<string, unknown>[], column: string, good: string, bad: string): Finding {
  if (found.length === 0) return { ok: true, line: good };
  return { ok: false, line: bad + found.map((row) => row[column]).join(', ') };
}
