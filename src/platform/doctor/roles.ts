// The doctor's checks of roles: what each may, whom it can become, and what was granted past us.
import type pg from 'pg';
import { withClient } from '../connection.ts';
import {
  type Check,
  LOGINS,
  listed,
  OWNERS,
  ok,
  RUN_TIME,
  rows,
  settingsOf,
  unsafe,
  type Verdict,
  warn,
  wrong,
} from './check.ts';

const present: Check = { name: 'roles', look: ({ admin }) => lookAtRoles(admin) };

async function lookAtRoles(admin: pg.Client): Promise<Verdict | Verdict[]> {
  const found: Verdict[] = [];
  const missing = await rows(
    admin,
    `select name from unnest($1::text[]) as name where not exists (select from pg_catalog.pg_roles where rolname = name) order by name`,
    [[...OWNERS, ...RUN_TIME]],
  );
  if (missing.length > 0)
    found.push(wrong(`missing: ${listed(missing, 'name', 8)}; npm run migrate:up, as an administrator`));
  const strong = await rows(
    admin,
    `select rolname || ' (' || concat_ws(', ', case when rolsuper then 'superuser' end,
           case when rolbypassrls then 'bypassrls' end, case when rolcreaterole then 'createrole' end,
           case when rolcreatedb then 'createdb' end, case when rolreplication then 'replication' end) || ')' as name
         from pg_catalog.pg_roles where rolname = any ($1)
          and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication) order by rolname`,
    [[...OWNERS, ...RUN_TIME]],
  );
  if (strong.length > 0) found.push(unsafe(`too strong: ${listed(strong)}; take that away with alter role`));
  const logins = await rows(
    admin,
    `select format('%s %s', rolname, case when rolcanlogin then 'can' else 'cannot' end) as name
         from pg_catalog.pg_roles where rolname = any ($2) and rolcanlogin <> (rolname = any ($1)) order by 1`,
    [LOGINS, [...OWNERS, ...RUN_TIME]],
  );
  if (logins.length > 0) found.push(unsafe(`only ${LOGINS.join(', ')} are to log in: ${listed(logins)}`));
  return found.length > 0 ? found : ok('all there, none with more than it needs');
}

/**
 * Walks memberships as the server would. Up to 15 whoever is a member can become the role; from 16 each grant says
 * whether rights are inherited and whether the role can be taken, and who may grant it can grant it to himself.
 */
const REACH = (version: number) => `
  with recursive reach as (
    select m.member as start, m.roleid, array[m.member, m.roleid] as path from pg_catalog.pg_auth_members m
      where m.member = any (array(select oid from pg_catalog.pg_roles where rolname = any ($1))) ${usable(version)}
    union all
    select r.start, m.roleid, r.path || m.roleid from reach r
      join pg_catalog.pg_auth_members m on m.member = r.roleid ${usable(version)}
      where not m.roleid = any (r.path))
  select s.rolname as start, t.rolname as target, t.rolsuper or t.rolbypassrls as almighty,
    (select string_agg(p.rolname, ' → ' order by n) from unnest(r.path) with ordinality as u (oid, n)
       join pg_catalog.pg_roles p on p.oid = u.oid) as name
  from reach r join pg_catalog.pg_roles s on s.oid = r.start join pg_catalog.pg_roles t on t.oid = r.roleid
  order by 1, 2`;
const usable = (version: number) =>
  version >= 160_000 ? 'and (m.inherit_option or m.set_option or m.admin_option)' : '';

const ALLOWED = new Set(['safetypin_anonymous', 'safetypin_member']);

const reach: Check = { name: 'memberships', look: ({ admin }) => lookAtMemberships(admin) };

async function lookAtMemberships(admin: pg.Client): Promise<Verdict | Verdict[]> {
  const version = await versionOf(admin);
  const found: Verdict[] = [];
  const paths = await rows<{ start: string; target: string; name: string; almighty: boolean }>(admin, REACH(version), [
    [...OWNERS, ...RUN_TIME],
  ]);
  const wrongPaths = paths.filter(({ start, target }) => start !== 'safetypin_authenticator' || !ALLOWED.has(target));
  if (wrongPaths.length > 0) found.push(unsafe(`can become what it must not: ${listed(wrongPaths)}; revoke that`));
  const inherits = await rows(
    admin,
    version >= 160_000
      ? `select m.roleid::regrole::text as name from pg_catalog.pg_auth_members m
            where m.member = to_regrole('safetypin_authenticator') and m.inherit_option`
      : `select rolname as name from pg_catalog.pg_roles where rolname = 'safetypin_authenticator' and rolinherit`,
  );
  if (inherits.length > 0) {
    found.push(
      unsafe(
        'safetypin_authenticator has the rights of members without opening a request: npm run migrate:up, as an administrator',
      ),
    );
  }
  return found.length > 0 ? found : ok('no login can become an owner');
}

/** PG-42: each of these reads or does something past all grants. */
const reading: Check = {
  name: 'tables',
  async look({ admin }) {
    const open = await rows(
      admin,
      `select format('%s %s', r.rolname, c.oid::regclass) as name
         from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        cross join pg_catalog.pg_roles r
        where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname !~ '^(pg_|information_schema$)'
          and r.rolname = any ($1) and has_schema_privilege(r.oid, n.oid, 'usage')
          and (has_table_privilege(r.oid, c.oid, 'select, insert, update, delete, truncate, references, trigger')
            or r.rolname = 'safetypin_authenticator' and has_any_column_privilege(r.oid, c.oid, 'select, insert, update, references'))
          and not (r.rolname = 'safetypin_jobs' and n.nspname = 'graphile_worker')
          and c.oid is distinct from to_regclass('platform.errors')
        order by 1`,
      [['safetypin_authenticator', 'safetypin_jobs']],
    );
    if (open.length > 0) return unsafe(`read or changed without a request: ${listed(open)}; revoke that`);
    return ok('the logins themselves reach no table');
  },
};

const parameters: Check = {
  name: 'parameters',
  async look({ admin }) {
    const granted = await rows(
      admin,
      `select format('%s to %s', p.parname, case a.grantee when 0 then 'PUBLIC' else a.grantee::regrole::text end) as name
         from pg_catalog.pg_parameter_acl p, aclexplode(p.paracl) a
        where a.grantee = 0 or pg_has_role(to_regrole('safetypin_authenticator'), a.grantee, 'member')
           or a.grantee = any (array(select oid from pg_catalog.pg_roles where rolname = any ($1)))
        order by 1`,
      [[...OWNERS, ...RUN_TIME]],
    );
    if (granted.length === 0) return ok('no login may set what only administrators set');
    const line = `revoke on parameter: ${listed(granted)}`;
    return granted.some(({ name }) => name?.startsWith('session_replication_role'))
      ? unsafe(`${line}; it switches triggers off, the audit trail too`)
      : wrong(line);
  },
};

const TIMEOUTS = ['statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout'];

const timeouts: Check = {
  name: 'timeouts',
  async look({ access, admin }) {
    const names = (await versionOf(admin)) >= 170_000 ? [...TIMEOUTS, 'transaction_timeout'] : TIMEOUTS;
    const endless: string[] = [];
    for (const login of [access.authenticator, access.jobs, access.auditor]) {
      const wanted = login === access.authenticator ? names : TIMEOUTS;
      const set = await withClient(login, (client) => settingsOf(client, wanted));
      for (const [name, value] of set) if (value === '0') endless.push(`${login.user} ${name}`);
    }
    if (endless.length === 0) return ok('every login has limits of time');
    return warn(`no limit of time: ${endless.join(', ')}; npm run migrate:up, as an administrator`);
  },
};

const administrator: Check = {
  name: 'administrator',
  async look({ admin, access }) {
    if (access.embedded) return ok('the embedded database is administered by its superuser');
    const [row] = await rows<{ name: string; strong: boolean }>(
      admin,
      'select rolname as name, rolsuper as strong from pg_catalog.pg_roles where rolname = current_user',
    );
    if (!row?.strong) return ok(`${row?.name} administers without being a superuser`);
    return warn(
      `DATABASE_URL holds a superuser (${row.name}): \`safetypin provision\` prints the SQL for a login that has only the owners`,
    );
  },
};

async function versionOf(admin: pg.Client): Promise<number> {
  const [row] = await rows<{ version: number }>(admin, "select current_setting('server_version_num')::int as version");
  return row?.version ?? 0;
}

/** What an administrator must still do about the roles, seen by any login. */
export async function provisionedFindings(admin: pg.Client): Promise<Verdict[]> {
  const found: Verdict[] = [];
  for (const look of [lookAtRoles, lookAtMemberships]) found.push(...[await look(admin)].flat());
  return found.filter(({ level }) => level === 'wrong');
}

export const ROLES: readonly Check[] = [present, reach, reading, parameters, timeouts, administrator];
