// From an empty server to a database that is up to date; again, at once, by a weaker administrator, and after a change.
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import { retarget, withClient } from '../../src/platform/connection.ts';
import { examine } from '../../src/platform/doctor/doctor.ts';
import { withMigrationsFolder } from '../../src/platform/migrate/db-commit.ts';
import { buildDatabase, migrate, withMigrationLock } from '../../src/platform/migrate/migrate.ts';
import { matchesVerifier, scramVerifier } from '../../src/platform/migrate/scram.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { handleOf } from '../support/database.ts';
import { startPostgres } from '../support/postgres.ts';

const quiet = () => {};

/** The way to a database of the test server that is not there yet; dropped when the file ends. */
function nowhere(): DatabaseAccess {
  const name = `t_${randomBytes(8).toString('hex')}`;
  const access = accessTo(inject('cluster'), name);
  handleOf(name, access);
  return access;
}

async function migrationsOf(access: DatabaseAccess): Promise<string[]> {
  return withClient(retarget(access.admin, access.database), async (admin) => {
    const { rows } = await admin.query('select filename from graphile_migrate.migrations order by filename');
    return rows.map(({ filename }) => filename);
  });
}

test('three at once on an empty server make one database, and two of them wait', async () => {
  const access = nowhere();
  const lines: string[] = [];
  await Promise.all([1, 2, 3].map(() => migrate(access, (line) => lines.push(line))));
  expect(lines.filter((line) => line.endsWith('created'))).toEqual([`database ${access.database} created`]);
  expect(lines.filter((line) => line.startsWith('waiting')).length).toBeGreaterThanOrEqual(2);
  expect(await migrationsOf(access)).toEqual(['000001.sql']);
});

describe('a database that was built by another migration', () => {
  const access = nowhere;

  test('is left as it is, with one line that says what to do', async () => {
    const old = access();
    await migrate(old, quiet);
    await withClient(retarget(old.admin, old.database), async (admin) => {
      await admin.query("update graphile_migrate.migrations set hash = 'sha1:older'");
      await admin.query('create table public.precious (v int); insert into public.precious values (7)');
    });
    await expect(migrate(old, quiet)).rejects.toThrow(
      `database ${old.database} was built by another 000001.sql than this clone has: \`npm run db:reset\` builds it anew and ERASES what is in it.`,
    );
    await expect(migrate({ ...old, embedded: false }, quiet)).rejects.toThrow(
      'use a new database, or the version of SafetyPin that built this one',
    );
    await withClient(retarget(old.admin, old.database), async (admin) => {
      expect((await admin.query('select v from public.precious')).rows).toEqual([{ v: 7 }]);
    });
    expect((await examine(old)).find(({ check }) => check === 'migrations')).toMatchObject({
      level: 'wrong',
      line: '0 of 1 committed migrations have run; the database has others than this clone: 000001.sql (changed)',
    });
  });

  test('by one that is newer, is left too', async () => {
    const newer = access();
    await migrate(newer, quiet);
    await withClient(retarget(newer.admin, newer.database), (admin) =>
      admin.query(
        "insert into graphile_migrate.migrations (hash, previous_hash, filename) select 'sha1:newer', hash, '000002.sql' from graphile_migrate.migrations",
      ),
    );
    await expect(migrate(newer, quiet)).rejects.toThrow('was built by another 000002.sql');
  });
});

test('a migration that fails changes nothing and says which line of which file', async () => {
  const access = nowhere();
  const bad = [
    '--! Previous: -',
    '--! Hash: sha1:x',
    '--! AllowInvalidHash',
    '',
    'create schema first;',
    '--! Included odd/tables.sql',
    '-- Purpose: odd',
    'create table first.t (id int);',
    'do $$ begin',
    "  raise exception 'no' using hint = 'yes';",
    'end $$;',
    '--! EndIncluded odd/tables.sql',
    '',
  ].join('\n');
  await withMigrationsFolder({ '000001-odd.sql': bad }, async (folder) => {
    const failed = withMigrationLock(access, quiet, () => buildDatabase(access, access.database, quiet, { folder }));
    await expect(failed).rejects.toThrow(
      /^ERROR P0001: no\n {2}sql\/odd\/tables\.sql, line 3:\n {2}3 \| do \$\$ begin\n[\s\S]*hint: yes/,
    );
  });
  await withClient(retarget(access.admin, access.database), async (admin) => {
    expect((await admin.query("select to_regnamespace('first') as schema")).rows).toEqual([{ schema: null }]);
  });
  expect(await migrationsOf(access)).toEqual([]);
  await migrate(access, quiet);
  expect(await migrationsOf(access)).toEqual(['000001.sql']);
});

test('passwords reach the server as verifiers that PostgreSQL itself would make', () => {
  // RFC 7677, section 3: the example of the standard.
  const verifier = scramVerifier('pencil', Buffer.from('W22ZaJ0SNY7soEsUEjb6gQ==', 'base64'), 4096);
  expect(verifier).toBe(
    'SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=',
  );
  expect(matchesVerifier(verifier, 'pencil')).toBe(true);
  expect(matchesVerifier(verifier, 'pencils')).toBe(false);
  for (const other of ['', 'md5abc', 'SCRAM-SHA-256$4096:AA==$x', 'SCRAM-SHA-256$'])
    expect(matchesVerifier(other, 'pencil')).toBe(false);
});

describe('an administrator who is no superuser', () => {
  let access: DatabaseAccess;

  beforeAll(async () => {
    // Roles belong to the whole server, so this needs a server of its own.
    const dataDirectory = mkdtempSync(join(tmpdir(), DATA_PREFIX));
    const server = await startPostgres({ dataDirectory, settings: { fsync: 'off' }, initdbOptions: ['--no-sync'] });
    whenFileEnds(async () => {
      await server.stop();
      removeRun(dataDirectory);
    });
    const cluster = { host: server.socketDirectory, port: server.port, passwords: { ...loadSecrets(dataDirectory) } };
    const full = accessTo(cluster, 'safetypin');
    await withClient(full.admin, (admin) => admin.query("create role dba login createrole createdb password 'dba'"));
    access = {
      ...full,
      admin: { ...full.admin, user: 'dba', password: 'dba', database: 'safetypin' },
      embedded: false,
    };
  });

  test('installs everything, and is told what he must ask for', async () => {
    const lines: string[] = [];
    await migrate(access, (line) => lines.push(line));
    const ask = expect.stringMatching(/^let an administrator of the server revoke execute on lo_/);
    expect(lines).toEqual([ask, 'database safetypin created']);
    await migrate(access, (line) => lines.push(line));
    expect(lines.slice(2)).toEqual([ask]);
  });

  test('and then each login comes in with its password', async () => {
    for (const login of [access.authenticator, access.jobs, access.auditor]) {
      await withClient(login, async (client) => {
        expect((await client.query('select session_user::text as name')).rows).toEqual([{ name: login.user }]);
      });
    }
  });

  test('a password that changed is set anew', async () => {
    const changed = { ...access, jobs: { ...access.jobs, password: 'another' } };
    await expect(withClient(changed.jobs, async () => {})).rejects.toMatchObject({ code: '28P01' });
    await migrate(changed, quiet);
    await withClient(changed.jobs, async () => {});
    await expect(withClient(access.jobs, async () => {})).rejects.toMatchObject({ code: '28P01' });
  });
});
