// The same rows whatever way the planner chooses: workers forced upon every plan that allows them, and statements
// compiled (PG-56). Anybody with SQL can ask for both.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { type EmbeddedCluster, startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { cloneDatabase, handleOf, type TestDatabase } from '../support/database.ts';
import { distributionWithJit } from '../support/distribution.ts';
import { SHIPPED } from '../versions/servers.ts';
import { everythingRead, makeReaders, type Readers, readable } from './readers.ts';

const PLAIN = 'set local max_parallel_workers_per_gather = 0; set local jit = off';

/** Workers for everything. `regress` also hides them in plans, so those are looked at with `on`. */
const workers = (force: 'on' | 'regress', major: number) =>
  `set local ${major < 16 ? 'force_parallel_mode' : 'debug_parallel_query'} = ${force};
   set local parallel_leader_participation = off; set local max_parallel_workers_per_gather = 2;
   set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0;
   set local min_parallel_table_scan_size = 0; set local min_parallel_index_scan_size = 0`;

/** Compiled, not optimized, which takes seconds where the policies call functions. */
const JIT = `set local jit = on; set local jit_above_cost = 0; set local jit_inline_above_cost = -1;
   set local jit_optimize_above_cost = -1`;

async function planOf({ app, ada }: Readers, settings: string, statement: string): Promise<string> {
  return await app.as(ada.credential, async (client) => {
    await client.query(settings);
    const { rows } = await client.query(`explain (analyze, timing off) ${statement}`);
    return rows.map((row) => row['QUERY PLAN']).join('\n');
  });
}

const OWN_VISITS = 'select note from clinic.visits where organization_id = request.organization_id()';
const VISITS = 'select count(*) from clinic.visits';

describe('with workers', () => {
  const forced = workers('regress', inject('postgres'));
  let admin: pg.Client;
  let readers: Readers;
  let plain: Map<string, string>;
  beforeAll(async () => {
    const db = await cloneDatabase();
    readers = await makeReaders(db);
    admin = await db.connect('admin');
    plain = await everythingRead(readers, await readable(admin), PLAIN);
  });

  it('every actor reads of every table what he reads without (PG-56)', async () => {
    expect(plain.size).toBeGreaterThan(40);
    expect(plain.get(`ada: ${OWN_VISITS}`)).toMatch(/^300 rows/);
    expect(plain.get(`gone: ${OWN_VISITS}`)).toBe('AUTHN');
    expect(await everythingRead(readers, await readable(admin), forced)).toEqual(plain);
    const plan = await planOf(readers, workers('on', inject('postgres')), VISITS);
    expect(plan).toMatch(/Workers Launched: [12]/);
  });

  it('and would not, were what tells the actor allowed in a worker, which is another process (PG-56)', async () => {
    const { rows } = await admin.query(
      `select format('alter function %s parallel safe', oid::regprocedure) as weaken from pg_proc
        where pronamespace in ('request'::regnamespace, 'request_private'::regnamespace) and proparallel = 'r'`,
    );
    for (const { weaken } of rows) await admin.query(weaken);
    const weakened = await everythingRead(readers, await readable(admin), forced);
    await admin.query(rows.map(({ weaken }) => weaken.replace('parallel safe', 'parallel restricted')).join(';'));
    const other = [...plain].filter(([key, rows]) => weakened.get(key) !== rows).map(([key]) => key);
    expect(other).toContain(`ada: ${OWN_VISITS}`);
  });
});

const distribution = distributionWithJit();
if (!distribution && process.env.CI) throw new Error('no PostgreSQL with JIT on this machine: install postgresql');
const title = distribution ? 'compiled' : 'compiled: skipped, no PostgreSQL with JIT here (package postgresql)';

/** Its server is another than the run's, so one run is enough. */
const compiled = () => {
  let server: EmbeddedCluster;
  let db: TestDatabase;
  let admin: pg.Client;
  let readers: Readers;
  let major: number;
  beforeAll(async () => {
    const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
    server = await startEmbedded({ dataDirectory, binaries: distribution ?? '', settings: { fsync: 'off' } });
    const passwords = { ...loadSecrets(dataDirectory) };
    const access = accessTo({ host: server.socketDirectory, port: server.port, passwords }, 'safetypin');
    await buildDatabase(access, 'safetypin', () => {});
    db = handleOf('safetypin', access);
    readers = await makeReaders(db);
    admin = await db.connect('admin');
    major = (await admin.query("select current_setting('server_version_num')::int / 10000 as major")).rows[0].major;
  });
  afterAll(async () => {
    await db.drop();
    await server.stop();
    removeRun(server.dataDirectory);
  });

  it('alone and with workers, every actor reads what he reads without (PG-56)', async () => {
    const tables = await readable(admin);
    const plain = await everythingRead(readers, tables, PLAIN);
    expect(plain.get(`ada: ${OWN_VISITS}`)).toMatch(/^300 rows/);
    expect(await everythingRead(readers, tables, JIT)).toEqual(plain);
    expect(await everythingRead(readers, tables, `${JIT};${workers('regress', major)}`)).toEqual(plain);
    expect(await planOf(readers, JIT, VISITS)).toMatch(/JIT:/);
    expect(await planOf(readers, `${JIT};${workers('on', major)}`, VISITS)).toMatch(
      /Workers Launched: [12][\s\S]*JIT:/,
    );
  });
};
if (inject('postgres') === SHIPPED) describe.runIf(distribution)(title, compiled);
