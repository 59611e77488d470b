// Servers that are not ours to command: managed ones, a DBA who runs the SQL by hand, and those that cannot do.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, beforeEach, describe, expect, inject, test } from 'vitest';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import { connectionUrl, retarget, type Say, withClient } from '../../src/platform/connection.ts';
import { examine } from '../../src/platform/doctor/doctor.ts';
import type { EmbeddedCluster } from '../../src/platform/embedded/embedded.ts';
import { withMigrationsFolder } from '../../src/platform/migrate/db-commit.ts';
import { migrateDown } from '../../src/platform/migrate/down.ts';
import { buildDatabase, migrate, withMigrationLock } from '../../src/platform/migrate/migrate.ts';
import { readSql } from '../../src/platform/migrate/provision.ts';
import { provisionScript } from '../../src/platform/migrate/provision-print.ts';
import { loadSecrets, type Secrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { Application } from '../support/actors.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { handleOf } from '../support/database.ts';
import { startPostgres } from '../support/postgres.ts';
import { runScript } from './scripts.ts';

const quiet = () => {};
const ROLES = ['owner', 'keeper', 'definer', 'authenticator', 'anonymous', 'member', 'jobs', 'auditor'];
const hasPsql = spawnSync('psql', ['--version']).status === 0;

let server: EmbeddedCluster;
let secrets: Secrets;
let full: DatabaseAccess;

beforeAll(async () => {
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  server = await startPostgres({
    dataDirectory,
    settings: { fsync: 'off', log_parameter_max_length: '-1' },
    initdbOptions: ['--no-sync'],
  });
  secrets = loadSecrets(dataDirectory);
  full = accessTo({ host: server.socketDirectory, port: server.port, passwords: { ...secrets } }, 'safetypin');
  whenFileEnds(async () => {
    await server.stop();
    removeRun(dataDirectory);
  });
});

/** The way of a login of a person's own, to a server of one's own. */
const as = (user: string, password = user): DatabaseAccess => ({
  ...full,
  admin: { ...full.admin, user, password, database: 'safetypin' },
  embedded: false,
});

const asSuperuser = (sql: string, database = 'postgres') =>
  withClient(retarget(full.admin, database), (client) => client.query(sql));

/** The server as it was new. */
async function empty(): Promise<void> {
  await asSuperuser('drop database if exists safetypin with (force)');
  for (const role of ROLES.map((name) => `safetypin_${name}`).concat(
    'safetypin_migrator',
    'dba',
    'second',
    'outsider',
  )) {
    await asSuperuser(
      `do $$ begin if exists (select from pg_roles where rolname = '${role}') then execute 'drop owned by ${role} cascade; drop role ${role}'; end if; end $$`,
    );
  }
}

beforeEach(empty);

/** All that comes before the migrations. */
const prepare = (access: DatabaseAccess, say: Say = quiet) =>
  withMigrationsFolder({}, (folder) =>
    withMigrationLock(access, say, () => buildDatabase(access, access.database, say, { folder })),
  );

async function journey(access: DatabaseAccess): Promise<void> {
  const db = handleOf('safetypin', { ...full, jobs: access.jobs });
  const person = await (await Application.beside(db)).person('ada');
  expect(person.organization).toMatch(/^[0-9a-f-]{36}$/);
  await db.drop();
}

describe('a DBA runs the printed SQL', () => {
  const ways = ['as a program sends it', ...(hasPsql ? ['with psql'] : [])];
  test.each(ways)(
    '%s, twice; then a login that is only a member of the owners migrates and people sign in',
    async (way) => {
      const script = await provisionScript({ database: 'safetypin', user: 'safetypin_migrator', secrets });
      const variables = { safetypin_migrator_password: 'of its own' };
      for (let time = 0; time < 2; time += 1) {
        if (way !== 'with psql') await runScript(script, full.admin, variables);
        else {
          const args = ['-X', '-q', '-v', 'safetypin_migrator_password=of its own', connectionUrl(full.admin)];
          const ran = spawnSync('psql', args, { input: script, encoding: 'utf8' });
          expect(ran.status, ran.stderr).toBe(0);
        }
      }
      const access = as('safetypin_migrator', 'of its own');
      const { rows } = await asSuperuser(
        "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls as strong from pg_roles where rolname = 'safetypin_migrator'",
      );
      expect(rows).toEqual([{ strong: false }]);
      const lines: string[] = [];
      await migrate(access, (line) => lines.push(line));
      expect(lines).toEqual(['database safetypin: 1 migration run']);
      await migrate(access, (line) => lines.push(line));
      expect(lines).toHaveLength(1);
      const findings = await examine(access);
      expect(findings.filter(({ level, check }) => level === 'wrong' && check !== 'durability')).toEqual([]);
      expect(findings.find(({ check }) => check === 'administrator')?.level).toBe('ok');
      await journey(access);
    },
  );

  test('without passwords it stops before a login has one that nobody chose', async () => {
    const script = await provisionScript({ database: 'safetypin', user: 'safetypin_migrator', secrets: undefined });
    expect(script).not.toContain('SCRAM-SHA-256$');
    for (const password of Object.values(secrets)) expect(script).not.toContain(password);
    await expect(runScript(script, full.admin, {})).rejects.toThrow('syntax error at or near ":"');
    const given = Object.fromEntries(Object.entries(secrets).map(([name, password]) => [`${name}_password`, password]));
    await runScript(script, full.admin, { ...given, safetypin_migrator_password: 'x' });
    await prepare(as('safetypin_migrator', 'x'));
  });

  test('with passwords it still holds no password', async () => {
    const script = await provisionScript({ database: 'safetypin', user: 'safetypin_migrator', secrets });
    for (const password of Object.values(secrets)) expect(script).not.toContain(password);
    expect(script.match(/SCRAM-SHA-256\$4096/g)).toHaveLength(3);
  });

  test('such a login takes back and migrates again', async () => {
    await runScript(await provisionScript({ database: 'safetypin', user: 'safetypin_migrator', secrets }), full.admin, {
      safetypin_migrator_password: 'x',
    });
    const access = as('safetypin_migrator', 'x');
    await migrate(access, quiet);
    await migrateDown(access, quiet, { yes: true });
    await migrate(access, quiet);
  });
});

describe('a managed server: the administrator makes roles and databases, and is no superuser', () => {
  test('a new verifier is not made at each start', async () => {
    await asSuperuser("create role dba login createrole createdb password 'dba'");
    await migrate(as('dba'), quiet);
    const verifiers = async () =>
      (await asSuperuser("select rolpassword from pg_authid where rolname like 'safetypin_%' order by 1")).rows;
    const before = await verifiers();
    await migrate(as('dba'), quiet);
    expect(await verifiers()).toEqual(before);
    await journey(as('dba'));
  });

  test('a second administrator, who made none of the roles, goes on with them or is told the grant', async () => {
    await asSuperuser("create role dba login createrole createdb password 'dba'");
    await prepare(as('dba'), quiet);
    await asSuperuser("create role second login password 'second'; grant connect on database safetypin to second");
    await expect(prepare(as('second'), quiet)).rejects.toThrow(
      /^second may not make roles, and it is no member of safetypin_owner, .* \(grant safetypin_owner, safetypin_keeper, safetypin_definer to second\): let an administrator run the SQL that `safetypin provision` prints$/,
    );
    await asSuperuser('grant safetypin_owner, safetypin_keeper, safetypin_definer to second');
    await prepare(as('second'), quiet);
  });

  test('the maintenance database is closed', async () => {
    await asSuperuser("create role dba login createrole createdb password 'dba'");
    await prepare(as('dba'), quiet);
    await asSuperuser('revoke connect on database postgres from public');
    try {
      await asSuperuser('grant connect on database safetypin to dba');
      await prepare(as('dba'), quiet);
    } finally {
      await asSuperuser('grant connect on database postgres to public');
    }
  });

  test('the database belongs to the provider, and so does the schema of extensions', async () => {
    await asSuperuser('create database safetypin encoding UTF8 template template0');
    await asSuperuser('create schema extensions; create extension pgcrypto schema extensions', 'safetypin');
    await asSuperuser("create role dba login createrole createdb password 'dba'");
    await expect(prepare(as('dba'), quiet)).rejects.toThrow(
      'safetypin_owner may not create in database safetypin: let its owner run: alter database safetypin owner to safetypin_owner',
    );
    await asSuperuser('alter database safetypin owner to safetypin_owner');
    await expect(prepare(as('dba'), quiet)).rejects.toThrow(
      /schema extensions is not ours to open: let its owner run: grant usage on schema extensions to safetypin_keeper/,
    );
    await asSuperuser('grant usage on schema extensions to safetypin_keeper, safetypin_definer', 'safetypin');
    await migrate(as('dba'), quiet);
    await journey(as('dba'));
  });

  test("the parameters of the log and PostgreSQL's own functions are the provider's: said until they are closed", async () => {
    await asSuperuser("create role dba login createrole createdb password 'dba'");
    const lines: string[] = [];
    await prepare(as('dba'), (line) => lines.push(line));
    expect(lines.slice(0, 2)).toEqual([
      expect.stringMatching(/^let an administrator of the server revoke execute on lo_.* from public/),
      'let an administrator of the server set log_parameter_max_length to 0: its log could show secrets',
    ]);
    await asSuperuser('alter database safetypin set log_parameter_max_length = 0');
    await asSuperuser(await readSql('platform/extensions.sql'), 'safetypin');
    lines.length = 0;
    await prepare(as('dba'), (line) => lines.push(line));
    expect(lines).toEqual([]);
  });
});

describe('what cannot be is one line that says what to do', () => {
  test('a login that may nothing, on a server where nothing is', async () => {
    await asSuperuser("create role outsider login password 'outsider'");
    await expect(prepare(as('outsider'), quiet)).rejects.toThrow(
      /^outsider may not make roles, and missing: safetypin_anonymous, .*: let an administrator run the SQL that `safetypin provision` prints$/,
    );
  });

  test('the passwords of another installation', async () => {
    await prepare(full, quiet);
    await asSuperuser(
      "create role second login password 'second'; grant safetypin_owner, safetypin_keeper, safetypin_definer to second; grant connect on database safetypin to second; alter role safetypin_jobs password 'another'",
    );
    await expect(prepare(as('second'), quiet)).rejects.toThrow(
      'safetypin_jobs do not have the passwords of secrets.json: let an administrator run what `safetypin provision --with-passwords` prints',
    );
  });

  test('a role that became too strong is not accepted as provisioned', async () => {
    await prepare(full, quiet);
    await asSuperuser(
      "create role second login password 'second'; grant safetypin_owner, safetypin_keeper, safetypin_definer to second; grant connect on database safetypin to second; grant safetypin_owner to safetypin_jobs",
    );
    await expect(prepare(as('second'), quiet)).rejects.toThrow(
      'can become what it must not: safetypin_jobs → safetypin_owner',
    );
    await asSuperuser('revoke safetypin_owner from safetypin_jobs');
  });

  test('a database that keeps bytes instead of texts', async () => {
    await asSuperuser(
      "create database safetypin encoding 'SQL_ASCII' template template0 locale_provider libc lc_collate 'C' lc_ctype 'C'",
    );
    await expect(prepare(full, quiet)).rejects.toThrow(
      'database safetypin keeps texts as SQL_ASCII: give DATABASE_URL another name and migrate makes one with UTF8',
    );
  });

  test('pgcrypto in another schema', async () => {
    await asSuperuser('create database safetypin encoding UTF8 template template0');
    await asSuperuser('create extension pgcrypto', 'safetypin');
    await expect(prepare(full, quiet)).rejects.toThrow(
      /^pgcrypto is in schema public of this database: let its owner run: alter extension pgcrypto set schema extensions$/,
    );
  });

  test('a server closed to changes', async () => {
    await asSuperuser('alter role postgres set default_transaction_read_only = on');
    try {
      await expect(prepare(full, quiet)).rejects.toThrow(
        'this server takes no changes (default_transaction_read_only is on',
      );
    } finally {
      await withClient(full.admin, async (client) => {
        await client.query('set default_transaction_read_only = off');
        await client.query('alter role postgres reset default_transaction_read_only');
      });
    }
  });
});

test('this file runs on the server it says', async () => {
  const { rows } = await asSuperuser("select current_setting('server_version_num')::int / 10000 as major");
  expect(rows[0].major).toBe(inject('postgres'));
});
