// The doctor on a server of its own, which each test breaks in one way and mends again: every check must be able to go
// wrong, and say so in one line.
import { randomInt } from 'node:crypto';
import { appendFileSync, mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import { retarget, withClient } from '../../src/platform/connection.ts';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import type { Finding } from '../../src/platform/doctor/check.ts';
import { examine, refuseUnsafe } from '../../src/platform/doctor/doctor.ts';
import { flawsOf, poolerFlawsOf } from '../../src/platform/doctor/flaws.ts';
import { judgeVersion } from '../../src/platform/doctor/server.ts';
import type { EmbeddedCluster } from '../../src/platform/embedded/embedded.ts';
import { migrate } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { findingsTable } from '../../src/platform/table.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { startPostgres } from '../support/postgres.ts';
import { BREAKAGES } from './breakages.ts';

let server: EmbeddedCluster;
let access: DatabaseAccess;
let admin: pg.Client;

beforeAll(async () => {
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  server = await startPostgres({
    dataDirectory,
    settings: { max_prepared_transactions: '2', wal_level: 'logical' },
    initdbOptions: ['--no-sync'],
  });
  const passwords = { ...loadSecrets(dataDirectory) };
  access = accessTo({ host: server.socketDirectory, port: server.port, passwords }, 'safetypin');
  await migrate(access, () => {});
  admin = new pg.Client(retarget(access.admin, 'safetypin'));
  admin.on('error', () => {});
  await admin.connect();
  whenFileEnds(async () => {
    await admin.end();
    await server.stop();
    removeRun(dataDirectory);
  });
});

const badOnes = (findings: readonly Finding[]) => findings.filter(({ level }) => level === 'wrong');
const linesOf = (findings: readonly Finding[], check: string) =>
  findings.filter((finding) => finding.check === check).map(({ level, line }) => `${level}: ${line}`);

/** Breaks something, looks, and mends it. */
async function broken(breaking: string, mending: string, check: string, on = access): Promise<string[]> {
  await admin.query(breaking);
  try {
    return linesOf(await examine(on, { only: check }), check);
  } finally {
    await admin.query(mending);
  }
}

test('a sound installation has nothing wrong, and each check says something', async () => {
  const findings = await examine(access);
  expect(badOnes(findings)).toEqual([]);
  expect(new Set(findings.map(({ check }) => check)).size).toBeGreaterThan(20);
  for (const { line } of findings) expect(line).toMatch(/^[^\n]{10,}$/);
  await refuseUnsafe(access, false);
});

describe('the version', () => {
  test('of this very server is judged by the table of known flaws', async () => {
    const [line] = linesOf(await examine(access), 'version');
    const { rows } = await admin.query("select current_setting('server_version_num')::int as number");
    const known = flawsOf(rows[0].number);
    expect(line).toContain(known ? `update to ${known.update} or newer` : 'ok: PostgreSQL');
  });

  test('PG-70: below the repair of pgcrypto it is wrong, below later repairs to be known', () => {
    for (const [number, level, said] of [
      [180_001, 'wrong', 'CVE-2026-2005'],
      [170_007, 'wrong', 'CVE-2026-2006'],
      [160_011, 'wrong', 'update to 16.16'],
      [150_015, 'wrong', 'update to 15.20'],
      [180_003, 'warn', 'CVE-2026-6473'],
      [180_004, 'warn', 'CVE-2026-14680'],
      [170_011, 'warn', 'CVE-2026-6460'],
      [180_007, 'ok', 'PostgreSQL 18.7'],
      [150_020, 'ok', 'PostgreSQL 15.20'],
      [140_030, 'wrong', 'SafetyPin needs 15 to 18'],
      [190_000, 'warn', 'was tried with 15 to 18 only'],
    ] as const) {
      expect(judgeVersion(number)).toMatchObject({ level, line: expect.stringContaining(said) });
    }
  });

  test('PG-55: so is that of PgBouncer', () => {
    expect(poolerFlawsOf('1.18.0')).toHaveLength(3);
    expect(poolerFlawsOf('1.25.1')).toHaveLength(2);
    expect(poolerFlawsOf('1.26.0')).toHaveLength(1);
    expect(poolerFlawsOf('1.26.1')).toEqual([]);
    expect(poolerFlawsOf('1.30.0')).toEqual([]);
    expect(poolerFlawsOf('2.0')).toEqual([]);
  });
});

test('a clock that is apart by more than a second is to be known, by more than five wrong', async () => {
  const at = async (ahead: number) =>
    linesOf(await examine(access, { only: 'clock', now: () => Date.now() + ahead }), 'clock')[0];
  expect(await at(0)).toBe('ok: the clocks of the server and of this machine agree');
  expect(await at(2_500)).toMatch(/^warn: the server's clock is 2\.[45] s behind ours: run a time service/);
  expect(await at(-9_000)).toMatch(/^wrong: the server's clock is (8\.9|9\.0) s ahead of ours.*refused meanwhile$/);
});

describe('each of these is seen, with what to do about it', () => {
  test.each(BREAKAGES)('$name', async ({ breaking, mending, check, said, password }) => {
    const on = password ? { ...access, admin: { ...access.admin, password } } : access;
    if (password) await admin.query(`alter role postgres password '${password}'`);
    const lines = await broken(breaking, mending, check, on).finally(() =>
      admin.query(`alter role postgres password ${pg.escapeLiteral(String(access.admin.password))}`),
    );
    expect(lines.join('\n')).toContain(said);
    if (breaking.includes('password')) await migrate(access, () => {});
    const after = await examine(access, { only: check });
    expect(linesOf(after, check).join('\n'), 'after mending').not.toContain(said);
  });
});

test('what production must not run on is refused before anybody is served, each in a line', async () => {
  await admin.query('alter role safetypin_jobs bypassrls; alter database safetypin set log_parameter_max_length = -1');
  const refused = refuseUnsafe(access, false);
  await expect(refused).rejects.toThrow(/^log: .*set log_parameter_max_length to 0\nroles: too strong: safetypin_jobs/);
  await admin.query('alter role safetypin_jobs nobypassrls; alter database safetypin set log_parameter_max_length = 0');
  await refuseUnsafe(access, false);
});

test('a login that may see less is told what it could not look at, and is no reason to fail', async () => {
  await admin.query(
    "create role seer login password 'a long one, of its own'; grant connect on database safetypin to seer",
  );
  const seer = {
    ...access,
    admin: { ...access.admin, user: 'seer', password: 'a long one, of its own' },
    embedded: false,
  };
  const findings = await examine(seer);
  expect(findings.find(({ check }) => check === 'admission')?.line).toBe('pg_hba.conf is not for this login to read');
  expect(linesOf(findings, 'migrations')[0]).toMatch(/^warn: could not be looked at: permission denied/);
});

test('the table is aligned, and has no colour where nobody sees it', async () => {
  const table = findingsTable(await examine(access), (_, text) => text);
  expect(table).toMatch(/^(ok {3}|warn ) {2}version {11}PostgreSQL/m);
  expect(table).toMatch(/\n\n0 wrong, \d+ to know, \d+ ok$/);
  expect(table).not.toContain('\u001b');
});

test('a server set up to lose data, to keep few connections and to trust anybody', async () => {
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  const address = `127.77.${randomInt(1, 255)}.${randomInt(1, 255)}`;
  const careless = await startPostgres({
    dataDirectory,
    settings: {
      fsync: 'off',
      full_page_writes: 'off',
      wal_level: 'minimal',
      max_wal_senders: '0',
      max_connections: '22',
      password_encryption: 'md5',
      // An address of its own on this machine, since the port is everybody's.
      listen_addresses: address,
    },
    initdbOptions: ['--no-sync'],
  });
  try {
    const passwords = { ...loadSecrets(dataDirectory) };
    const loose = accessTo({ host: careless.socketDirectory, port: careless.port, passwords }, 'postgres');
    const findings = await examine(loose);
    const said = findings.map(({ level, check, line }) => `${level} ${check}: ${line}`).join('\n');
    expect(said).toContain('wrong durability: fsync is off');
    expect(said).toContain('wrong durability: full_page_writes is off');
    expect(said).toContain('warn durability: wal_level is minimal');
    expect(said).toContain('wrong connections: 19 connections: one process of ours takes 20');
    expect(said).toContain('wrong roles: missing: safetypin_anonymous, safetypin_auditor,');
    expect(said).toContain('wrong migrations: 0 of 1 committed migrations have run: npm run migrate:up');
    expect(said).toContain('wrong extensions: pgcrypto is missing');

    const rules = [
      'host all nobody 0.0.0.0/0 trust',
      'host all nobody 10.0.0.0/8 password',
      'host all nobody 10.1.0.0/16 md5',
    ];
    appendFileSync(join(clusterDirectory(dataDirectory), 'pg_hba.conf'), `\n${rules.join('\n')}\n`);
    const admission = linesOf(await examine(loose, { only: 'admission' }), 'admission').join('\n');
    expect(admission).toMatch(/^wrong: .*without a password: line \d+ \(host trust\); use scram-sha-256$/m);
    expect(admission).toMatch(/^wrong: .*in clear: line \d+ \(host password\)/m);
    expect(admission).toMatch(/^warn: .*still accepts md5: line \d+ \(host md5\)/m);
    expect(admission).toMatch(/^warn: .*without TLS: line \d+ \(host trust\), .*; use hostssl$/m);

    const near = { ...loose, admin: { ...loose.admin, host: address, ssl: false }, embedded: false };
    expect(linesOf(await examine(near, { only: 'encryption' }), 'encryption')).toEqual([
      'warn: not encrypted, on this machine only: use TLS on any other',
    ]);
    expect(linesOf(await examine(near, { only: 'administrator' }), 'administrator')[0]).toMatch(
      /^warn: DATABASE_URL holds a superuser \(postgres\): `safetypin provision` prints/,
    );
    await withClient(loose.admin, (client) =>
      client.query(
        "create database bytes encoding 'SQL_ASCII' template template0 locale_provider libc lc_collate 'C' lc_ctype 'C'",
      ),
    );
    const bytes = await examine({ ...loose, database: 'bytes' }, { only: 'encoding' });
    expect(linesOf(bytes, 'encoding')[0]).toMatch(/^wrong: texts are SQL_ASCII: make a new database/);
  } finally {
    await careless.stop();
    removeRun(dataDirectory);
  }
});
