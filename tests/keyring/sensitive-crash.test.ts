// F5: a crash makes the counter of readings jump. That is told as what it is: no alert, and not silently.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { EmbeddedCluster } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { Application, type Person } from '../support/actors.ts';
import { handleOf, type TestDatabase } from '../support/database.ts';
import { startPostgres } from '../support/postgres.ts';
import { CLINIC, Openings, PATIENTS } from './openings.ts';

const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
let cluster: EmbeddedCluster;
const handles: TestDatabase[] = [];
let db: TestDatabase;
let keys: string | undefined;
let app: Application;
let openings: Openings;
let ada: Person;

const READ = "select clinic.patients_ssn(p) as ssn from clinic.patients p where name = 'p01'";

/** Everybody connects anew, as after each start. */
async function connect(): Promise<void> {
  const passwords = { ...loadSecrets(dataDirectory) };
  const access = accessTo({ host: cluster.socketDirectory, port: cluster.port, passwords }, 'safetypin');
  if (keys === undefined) await buildDatabase(access, 'safetypin', () => {});
  db = handleOf('safetypin', access);
  handles.push(db);
  app = await Application.beside(db, keys);
  keys = app.keysDirectory;
  openings = await Openings.of(app);
}

async function start(): Promise<void> {
  cluster = await startPostgres({ dataDirectory, settings: { fsync: 'off' } });
}

beforeAll(async () => {
  await start();
  await connect();
  const owner = await db.connect('owner');
  await owner.query(CLINIC);
  ada = await app.person('ada');
  await app.rows(ada.credential, PATIENTS);
}, 120_000);

afterAll(async () => {
  for (const handle of handles) await handle.drop().catch(() => {});
  await cluster.stop();
  removeRun(dataDirectory);
});

/** A value that came, and a backend that is gone before it could commit: PostgreSQL restarts all of them. */
async function crashBehindValue(): Promise<void> {
  const client = new pg.Client(db.config('authenticator'));
  client.on('error', () => {});
  await client.connect();
  await client.query('begin');
  await app.open(client, ada.credential);
  expect((await client.query(READ)).rows).toEqual([{ ssn: '078-05-1101' }]);
  process.kill((client as unknown as { processID: number }).processID, 'SIGKILL');
  await client.end().catch(() => {});
  for (let i = 0; ; i += 1) {
    try {
      await sleep(100);
      await connect();
      return;
    } catch (error) {
      if (i === 100) throw error;
    }
  }
}

test('a clean restart skips no number', async () => {
  await app.rows(ada.credential, READ);
  expect(await openings.alerts()).toEqual([]);
  await cluster.stop();
  await start();
  await connect();
  await app.rows(ada.credential, READ);
  expect(await openings.alerts()).toEqual([]);
}, 60_000);

test('kill -9 of a backend right behind the value is told, with the numbers it may have been', async () => {
  await app.rows(ada.credential, READ);
  const before = await openings.counter();
  await crashBehindValue();
  expect(await openings.counter()).toBeGreaterThan(before + 1);
  await app.rows(ada.credential, READ);
  const told = await openings.alerts();
  expect(told).toMatchObject([
    { action: 'value.skip', details: { because: 'crash', numbers: [{ first: before + 1 }] } },
  ]);
  expect(await openings.alerts()).toEqual([]);
}, 60_000);

test('a rollback beside a crash is an alert of its own', async () => {
  const rolledBack = await db.connect('authenticator');
  await rolledBack.query('begin');
  await app.open(rolledBack, ada.credential);
  await rolledBack.query(READ);
  await rolledBack.query('rollback');
  await rolledBack.end();
  await app.rows(ada.credential, READ);
  await crashBehindValue();
  const told = await openings.alerts();
  expect(told.map(({ action }) => action).sort()).toEqual(['value.mismatch', 'value.skip']);
  expect(told.find(({ action }) => action === 'value.mismatch')).toMatchObject({ details: { count: 1 } });
}, 60_000);

test('a crash while readings wait for their comparison loses none of them', async () => {
  const slow = await db.connect('authenticator');
  await slow.query('begin');
  await app.open(slow, ada.credential);
  await slow.query(READ);
  await app.rows(ada.credential, READ);
  expect(await openings.alerts()).toEqual([]);
  await crashBehindValue();
  const told = await openings.alerts();
  // What the crash broke off before the last committed reading is in no jump.
  expect(told.map(({ action }) => action).sort()).toEqual(['value.mismatch', 'value.skip']);
  expect(told.find(({ action }) => action === 'value.mismatch')).toMatchObject({ details: { count: 1 } });
  expect(await openings.alerts()).toEqual([]);
}, 60_000);
