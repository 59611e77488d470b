// CR-08: PostgreSQL itself is killed in the middle of sealing the rows of a table: what was committed stands, and the job
// goes on from there. Nothing is sealed twice or lost.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import type { EmbeddedCluster } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { Application } from '../support/actors.ts';
import { handleOf, type TestDatabase } from '../support/database.ts';
import { startPostgres } from '../support/postgres.ts';
import { WorkHand } from './works.ts';

const ROWS = 400;
const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
const handles: TestDatabase[] = [];
let cluster: EmbeddedCluster;

async function start(keys?: string) {
  cluster = await startPostgres({ dataDirectory, settings: { fsync: 'off' } });
  const passwords = { ...loadSecrets(dataDirectory) };
  const access = accessTo({ host: cluster.socketDirectory, port: cluster.port, passwords }, 'safetypin');
  if (keys === undefined) await buildDatabase(access, 'safetypin', () => {});
  const db = handleOf('safetypin', access);
  handles.push(db);
  const app = await Application.beside(db, keys);
  return { db, app, hand: await WorkHand.of(app) };
}

afterAll(async () => {
  for (const handle of handles) await handle.drop().catch(() => {});
  await cluster.stop();
  removeRun(dataDirectory);
});

const READ = 'select name, clinic.patients_ssn(p) as ssn from clinic.patients p order by length(name), name';

test('CR-08 PostgreSQL killed amid a batch', { timeout: 180_000 }, async () => {
  const { db, app, hand } = await start();
  const ada = await app.person('ada');
  const owner = await db.connect('owner');
  await owner.query(`create schema clinic;
    create table clinic.patients (organization_id uuid not null, id uuid default platform.uuid_v7(), name text, ssn text, primary key (organization_id, id));
    select access.protect('clinic.patients')`);
  const fill =
    "insert into clinic.patients (name, ssn) select 'p' || n, 'canary-' || n from generate_series(1, $1::integer) n";
  await app.rows(ada.credential, fill, [ROWS]);
  await owner.query("select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true)");
  const before = await app.rows(ada.credential, READ);
  expect(before).toHaveLength(ROWS);
  for (let batch = 0; batch < 3; batch += 1) await hand.batch(50);
  const { rows } = await hand.admin.query('select pg_backend_pid() as pid');
  const killed = hand.batch(50, 'keyring__work', async () => {
    // A backend that is killed takes all others with it.
    process.kill(rows[0].pid, 'SIGKILL');
    await new Promise((resolve) => setTimeout(resolve, 500));
  });
  await expect(killed).rejects.toThrow();
  await cluster.stop();

  const again = await start(app.keysDirectory);
  expect(await again.app.rows(ada.credential, READ)).toEqual(before);
  const sealed = 'select count(ssn_sealed)::int as n from clinic.patients';
  expect((await again.hand.admin.query(sealed)).rows).toEqual([{ n: 150 }]);
  expect(await again.hand.works()).toMatchObject([{ done: '150', finished_at: null }]);
  await again.hand.finish(50);
  expect(await again.app.rows(ada.credential, READ)).toEqual(before);
  expect(await again.hand.works()).toMatchObject([{ done: `${2 * ROWS}`, problem: null }]);
});
