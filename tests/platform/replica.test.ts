// A streaming replica (DESIGN 4): a request opens there while the copy is young, and is refused when it is not, so that
// a revocation holds there too within seconds.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import { serverAccount } from '../../src/platform/embedded/account.ts';
import { giveTo } from '../../src/platform/embedded/cluster.ts';
import type { EmbeddedCluster } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { CLINIC, PATIENTS } from '../keyring/openings.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { Application, type Person, refusal } from '../support/actors.ts';
import { handleOf } from '../support/database.ts';
import { startPostgres } from '../support/postgres.ts';

const SETTINGS = { fsync: 'off', wal_level: 'replica', max_wal_senders: '4', hot_standby: 'on' };
const started: EmbeddedCluster[] = [];
let app: Application;
let ada: Person;
let beating: pg.Client;
let replica: pg.Client;

beforeAll(async () => {
  const place = () => realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  const primary = await startPostgres({ dataDirectory: place(), settings: SETTINGS });
  started.push(primary);
  const passwords = { ...loadSecrets(primary.dataDirectory) };
  const access = accessTo({ host: primary.socketDirectory, port: primary.port, passwords }, 'safetypin');
  await buildDatabase(access, 'safetypin', () => {});
  const db = handleOf('safetypin', access);
  app = await Application.beside(db);
  ada = await app.person('ada');
  await (await db.connect('owner')).query(CLINIC);
  await app.rows(ada.credential, PATIENTS);
  beating = await db.connect('authenticator');

  // A base backup as any tool makes it, then a standby that follows.
  const admin = new pg.Client(access.admin);
  await admin.connect();
  await admin.query("select pg_backup_start('replica', true)");
  const copy = place();
  // cp keeps the owner of each file, which the server insists on.
  for (const part of ['postgres', 'secrets.json']) execFileSync('cp', ['-a', join(primary.dataDirectory, part), copy]);
  const { labelfile } = (await admin.query('select labelfile from pg_backup_stop(false)')).rows[0];
  await admin.end();
  const standby = clusterDirectory(copy);
  for (const [name, text] of [
    ['backup_label', labelfile],
    ['standby.signal', ''],
  ] as const) {
    writeFileSync(join(standby, name), text);
    giveTo(serverAccount(standby), join(standby, name));
  }
  rmSync(join(standby, 'postmaster.pid'), { force: true });
  const second = await startPostgres({
    dataDirectory: copy,
    settings: {
      ...SETTINGS,
      primary_conninfo: `host=${primary.socketDirectory} port=${primary.port} user=postgres password=${passwords.postgres}`,
    },
  });
  started.push(second);
  replica = new pg.Client({ ...access.authenticator, host: second.socketDirectory, port: second.port });
  replica.on('error', () => {});
  await replica.connect();
  afterAll(async () => {
    await replica.end();
    await db.drop().catch(() => {});
    for (const cluster of started.reverse()) {
      await cluster.stop();
      removeRun(cluster.dataDirectory);
    }
  });
});

async function rowsOnReplica(text: string): Promise<number> {
  await replica.query('begin');
  try {
    await replica.query("select set_config('role', sessions.open_request($1, null, '{}'), true)", [ada.credential]);
    return (await replica.query(text)).rowCount ?? 0;
  } finally {
    await replica.query('rollback');
  }
}

const organizationsOnReplica = () => rowsOnReplica('select from access.organizations');

const beat = async () => (await beating.query('select platform.beat() as beat')).rows[0].beat;

it('opens requests while the primary is heard, and refuses them five seconds after', { timeout: 30_000 }, async () => {
  expect(await refusal(organizationsOnReplica())).toBe('OLDCP');
  for (let i = 0; i < 50 && !(await beat()); i += 1) await sleep(100);
  await sleep(300);
  expect(await organizationsOnReplica()).toBe(1);
  await sleep(5000);
  expect(await refusal(organizationsOnReplica())).toBe('OLDCP');
});

it('F5 opens no sensitive value: nothing can be recorded there', async () => {
  await beat();
  await sleep(300);
  expect(await rowsOnReplica('select from clinic.patients')).toBe(20);
  expect(await refusal(rowsOnReplica('select clinic.patients_ssn(p) from clinic.patients p'))).toBe('KEYRO');
  expect(await refusal(rowsOnReplica("select clinic.patients_by_ssn('078-05-1101')"))).toBe('KEYRO');
});

it('sees a revocation as soon as it is sent one', async () => {
  await beat();
  await sleep(300);
  expect(await organizationsOnReplica()).toBe(1);
  await app.call(ada.credential, 'select api.logout()');
  await beat();
  await sleep(300);
  expect(await refusal(organizationsOnReplica())).toBe('AUTHN');
});

it('writes nothing on a primary that nobody copies', async () => {
  await replica.end();
  await started.at(-1)?.stop();
  for (let i = 0; i < 50 && (await beat()); i += 1) await sleep(100);
  expect(await beat()).toBe(false);
  expect(readFileSync(join(started[0]?.dataDirectory ?? '', 'postgres.log'), 'utf8')).not.toMatch(/PANIC/);
});
