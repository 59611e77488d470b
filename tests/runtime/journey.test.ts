// A PostgreSQL of your own from empty to in use, as its administrator sees it: migrate, start, walk the public
// contract, stop, start again. Runs on every version that tests run on (tests/versions).
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { EmbeddedCluster } from '../../src/platform/embedded/embedded.ts';
import { walk } from '../journeys/walk.ts';
import { startPostgres } from '../support/postgres.ts';
import { endPrograms, leftUsing } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

let place: Workplace;
let server: EmbeddedCluster;
beforeAll(async () => {
  place = await makeWorkplace();
  const dataDirectory = join(place.folder, 'server');
  mkdirSync(dataDirectory);
  server = await startPostgres({ dataDirectory, initdbOptions: ['--no-sync'], settings: { fsync: 'off' } });
});
afterEach(endPrograms);
afterAll(async () => {
  await server.stop();
  await place.remove();
});

/** The URL of the administrator, who may have to make the database first. */
const url = (database: string) =>
  `postgres://postgres:${server.superuserPassword}@/${database}?host=${encodeURIComponent(server.socketDirectory)}`;

test('migrate, start, the whole journey, stop, and start again on what is there', { timeout: 120_000 }, async () => {
  const env = { DATABASE_URL: url('own') };
  const migrate = () => place.run('npm', ['run', '-s', 'safetypin', '--', 'migrate'], { env });
  const first = migrate();
  expect((await first.ends(60)).code, first.said).toBe(0);
  expect(first.said).toContain('database own created');
  const second = migrate();
  expect((await second.ends(60)).code, second.said).toBe(0);
  expect(second.said).toContain('database own is up to date');

  for (let turn = 0; turn < 2; turn += 1) {
    const program = place.start({ env: { ...env, LOG_LEVEL: 'debug' } });
    const [, base = ''] = await program.says(/SafetyPin is ready on (\S+)/);
    await walk(base);
    program.signalGroup('SIGINT');
    expect(await program.ends(), program.said).toEqual({ code: 0, signal: null });
    // Nothing of a person in what server and worker wrote, one record a line, each with its request (SS-12, AU-09).
    expect(program.said).not.toMatch(/example\.com|a long sentence|eyJ|Bearer|and friends/);
    const records = program.stderr.split('\n').filter((line) => line.startsWith('{'));
    expect(records.length).toBeGreaterThan(30);
    for (const line of records) expect(JSON.parse(line)).toHaveProperty('requestId');
  }
  expect(await leftUsing(place.dataDirectory)).toEqual([]);

  const admin = new pg.Client({ connectionString: url('own') });
  await admin.connect();
  const { rows } = await admin.query(
    `select current_setting('server_version_num')::int / 10000 as major,
            (select count(*)::int from access.organizations) as organizations`,
  );
  await admin.end();
  expect(rows).toEqual([{ major: inject('postgres'), organizations: 4 }]);
});
