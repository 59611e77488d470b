// Canaries: people whose every word is looked for afterwards, in all that PostgreSQL writes down (PG-61, CR-09, LW-04).
// The log is as loud as production may have it; what makes it louder shows values, and is refused by the doctor.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, it, vi } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { examine } from '../../src/platform/doctor/doctor.ts';
import { LOGIN } from '../api/api.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { asInPlans, filesUnder, Hunt } from '../support/hunt.ts';
import { distributionTools } from '../support/tools.ts';
import { keysOf } from './keys.ts';
import { Life } from './lives.ts';
import { type Loud, REFUSED, startLoud } from './loud.ts';
import { SHOWN_BY_SQL } from './records.ts';

/** More than 50 canaries a person. */
const PEOPLE = Math.ceil((1000 / 50) * loadConfig().testScale);
const PLANTED = `planted${crypto.randomUUID().replaceAll('-', '')}`;

let loud: Loud;
let hunt: Hunt;
/** All that was seen in passing: statements that ran, and jobs that waited. */
const passing = new Set<string>();
/** What server and worker printed. */
const printed: string[] = [];
let count = 0;
let folder: string;

beforeAll(async () => {
  const spies = ['stderr', 'stdout'] as const;
  for (const name of spies) {
    const write = process[name].write.bind(process[name]);
    vi.spyOn(process[name], 'write').mockImplementation((...args: Parameters<typeof write>) => {
      printed.push(String(args[0]));
      return write(...args);
    });
  }
  loud = await startLoud();
  folder = mkdtempSync(join(tmpdir(), 'safetypin-hunt-'));
  // The server writes into it, as whoever it runs.
  chmodSync(folder, 0o777);
  whenFileEnds(() => rmSync(folder, { recursive: true, force: true }));
  hunt = new Hunt();
  hunt.add('planted', PLANTED);
  let isOver = false;
  const watching = watch(() => isOver);
  watching.catch(() => {});
  for (let person = 0; person < PEOPLE; person += 1) {
    const life = new Life(loud);
    await life.live(folder);
    life.addTo(hunt);
    hunt.add('organization', life.organization);
    count += life.canaries.size;
  }
  isOver = true;
  await watching;
  for (const [name, key] of await keysOf(loud.db, loud.app)) {
    hunt.add(name.replace(/ of [0-9a-f-]{36}$/, '').replace(/ \d+/, ''), key);
  }
  await plant();
}, 300_000);

async function watch(isOver: () => boolean): Promise<void> {
  const watcher = await loud.db.connect('admin');
  // Says nothing itself, hundreds of times a second.
  const quiet = ["log_statement = 'none'", 'log_min_duration_statement = -1', 'auto_explain.log_min_duration = -1'];
  for (const setting of [...quiet, 'log_duration = off', "log_min_messages = 'error'"])
    await watcher.query(`set ${setting}`);
  while (!isOver()) {
    const { rows } = await watcher.query<{ text: string }>(
      `select query as text from pg_stat_activity where pid <> pg_backend_pid()
       union select j::text from graphile_worker._private_jobs j union select c::text from platform_private.job_contexts c`,
    );
    for (const { text } of rows) passing.add(text);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  await watcher.end();
}

/** One canary where each search must find it, or it would find nothing else either. */
async function plant(): Promise<void> {
  const { admin } = loud;
  await admin.query('create table public.planted (note text, long text)');
  await admin.query('alter table public.planted alter long set storage external');
  await admin.query('insert into public.planted values ($1, $2)', [PLANTED, `${PLANTED} `.repeat(500)]);
  await admin.query(`do $$ begin /* ${PLANTED} */ end $$`);
  await admin.query(
    'insert into graphile_worker._private_jobs (task_id, payload) select min(id), $1 from graphile_worker._private_tasks',
    [{ note: PLANTED }],
  );
  const sleeper = await loud.db.connect('admin');
  await sleeper.query(`select 1 /* ${PLANTED} */`);
  const { rows } = await admin.query<{ text: string }>(
    'select query as text from pg_stat_activity union all select payload::text from graphile_worker._private_jobs',
  );
  for (const { text } of rows.filter((row) => row.text.includes(PLANTED))) passing.add(text);
  await sleeper.end();
  await admin.query('delete from graphile_worker._private_jobs where payload::jsonb ? $1', ['note']);
  await admin.query('checkpoint');
}

/** Where the transport keys lie: unlogged, so left out by base backups and replicas. */
async function transportKeys(): Promise<string> {
  const { rows } = await loud.admin.query("select pg_relation_filepath('keyring_private.transport_keys') as path");
  const path = join(loud.cluster, rows[0].path);
  expect(filesUnder(loud.cluster)).toContain(`${path}_init`);
  return path;
}

const sorted = (found: Iterable<string>): string[] => [...found].sort();
/** Lie in the database by their nature, as its half of what opens anything. */
const ITS_OWN = [
  'half of the database',
  ...['export', 'guess', 'request', 'value'].flatMap((purpose) => [
    `seal key ${purpose}, inner`,
    `seal key ${purpose}, outer`,
  ]),
];

describe('of people whose every word is a canary', () => {
  it('there are as many as were asked for, and all were looked for', () => {
    expect(count).toBeGreaterThanOrEqual(1000 * loadConfig().testScale);
  });

  it('PG-61, CR-09: the server log at its loudest has none, but what clients who hold SQL compare with or COPY', () => {
    expect(statSync(loud.log).size).toBeGreaterThan(500_000);
    expect(sorted(hunt.inFile(loud.log))).toEqual(sorted(['planted', ...SHOWN_BY_SQL]));
  });

  it('CR-09: no statement that ran, no job that waited and no statistic has one', async () => {
    const { rows } = await loud.admin.query<{ query: string }>('select query from pg_stat_statements');
    expect(rows.length).toBeGreaterThan(300);
    expect(sorted(hunt.in(rows.map(({ query }) => query).join('\n')))).toEqual(['planted']);
    expect([...passing].some((text) => text.includes('open_request'))).toBe(true);
    expect([...passing].some((text) => text.includes('max_attempts') || /^\(\d+,/.test(text))).toBe(true);
    expect(sorted(hunt.in([...passing].join('\n')))).toEqual(['planted']);
  });

  it('CR-09: neither server nor worker says one', () => {
    process.stderr.write(`${PLANTED}\n`);
    expect(sorted(hunt.in([...printed, ...loud.said].join('\n')))).toEqual(['planted']);
  });

  it('LW-04: the data directory has only what is plain: heap, TOAST, WAL, statistics', async () => {
    const unlogged = await transportKeys();
    const found = hunt.inFolder(loud.cluster, (file) => file !== unlogged);
    expect(sorted(found.keys())).toEqual(sorted([...ITS_OWN, 'organization', 'planted']));
    const places = (found.get('planted') ?? []).map((path) => path.split('/')[0]);
    expect(new Set(places)).toEqual(new Set(['base', 'pg_stat_tmp', 'pg_wal']));
    // The table, and what is too long for it.
    expect(places.filter((place) => place === 'base').length).toBeGreaterThanOrEqual(2);
  });

  it('F6: a transport key lies in its own unlogged file alone, which no base backup and no replica takes', async () => {
    // Written anew, since what is unlogged may stay in memory until the server stops.
    await loud.admin.query('vacuum full keyring_private.transport_keys');
    const unlogged = await transportKeys();
    expect(hunt.inFolder(loud.cluster).get('transport key')).toEqual([unlogged.slice(loud.cluster.length + 1)]);
  });

  it('LW-04: a dump of every table has only what is plain', async () => {
    const { rows } = await loud.admin.query<{ name: string }>(
      "select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace where relkind = 'r' and nspname !~ '^pg_|^information_schema'",
    );
    expect(rows.length).toBeGreaterThan(40);
    for (const [i, { name }] of rows.entries())
      await loud.admin.query(`copy ${name} to '${join(folder, `${i}.copy`)}'`);
    // An unlogged table: the key of a day is in a dump that takes it, and opens nothing but what was caught that day.
    expect(sorted(hunt.inFolder(folder).keys())).toEqual(
      sorted([...ITS_OWN, 'organization', 'planted', 'transport key']),
    );
  });

  it('a sort that does not fit into memory writes down what it sorts: whoever opens values by thousands knows it', async () => {
    const client = await loud.db.connect('admin');
    await client.query("set work_mem = '64kB'");
    await client.query('begin');
    await client.query(`declare c cursor for select $1 || i from generate_series(1, 20000) i order by md5(i::text)`, [
      PLANTED,
    ]);
    await client.query('fetch 1 from c');
    const temporary = hunt.inFolder(loud.cluster, (file) => file.includes('pgsql_tmp'));
    expect(sorted(temporary.keys())).toEqual(['planted']);
    await client.query('rollback');
    await client.end();
    expect(hunt.inFolder(loud.cluster, (file) => file.includes('pgsql_tmp')).size).toBe(0);
  });

  it.skipIf(distributionTools() === undefined)(
    "LW-04: neither have pg_dump's dump and pg_basebackup's copy",
    async () => {
      const { host, port, password } = loud.db.config('admin') as { host: string; port: number; password: string };
      const tools = distributionTools() as string;
      const env = { PGHOST: host, PGPORT: String(port), PGPASSWORD: password, PGUSER: 'postgres' };
      const [dump, copy] = [join(folder, 'dump.sql'), join(folder, 'copy')];
      execFileSync(join(tools, 'pg_dump'), ['--file', dump, 'safetypin'], { env });
      expect(sorted(hunt.inFile(dump))).toEqual(sorted([...ITS_OWN, 'organization', 'planted', 'transport key']));
      execFileSync(
        join(tools, 'pg_dump'),
        ['--file', dump, '--no-unlogged-table-data', '--exclude-schema', 'keyring_private', 'safetypin'],
        { env },
      );
      expect(sorted(hunt.inFile(dump))).toEqual(['organization', 'planted']);
      execFileSync(join(tools, 'pg_basebackup'), ['--pgdata', copy, '--wal-method', 'fetch', '--checkpoint', 'fast'], {
        env,
      });
      expect(sorted(hunt.inFolder(copy).keys())).toEqual(sorted([...ITS_OWN, 'organization', 'planted']));
    },
  );
});

describe('PG-61: what production refuses is what shows values, each setting alone; and no key even so', () => {
  // auto_explain of 15 has no setting for parameters.
  const settings = Object.entries(REFUSED).filter(
    ([name]) => inject('postgres') > 15 || !name.startsWith('auto_explain.log_p'),
  );
  it.each(settings)('%s = %s', async (setting, value) => {
    const { admin, api } = loud;
    await admin.query(`alter database safetypin set ${setting} = '${value}'`);
    await anew();
    const from = statSync(loud.log).size;
    const stray = `stray${crypto.randomUUID().replaceAll('-', '')}@example.com`;
    const { data } = await api.gql(LOGIN, { i: { email: stray, password: 'a word that is long' } });
    expect(data.login.outcome).toBe('REFUSED');
    await api.gql(LOGIN, { i: { email: `\u0000${stray}`, password: 'a word that is long' } });
    const findings = await examine(loud.db.access, { only: 'log' });
    await admin.query(`alter database safetypin set ${setting} = 0`);
    await anew();
    expect(findings.filter((finding) => finding.unsafe).map(({ line }) => line)).toEqual([
      expect.stringContaining(`set ${setting} to `),
    ]);
    const log = readFileSync(loud.log).subarray(from).toString('latin1');
    const plans = log.replace(/\s+/g, '');
    expect(log.includes(stray) || plans.includes(asInPlans(Buffer.from(stray)))).toBe(true);
    const keys = new Hunt();
    const all = await keysOf(loud.db, loud.app);
    for (const [name, key] of all) keys.add(name, key);
    expect(sorted(keys.in(log))).toEqual([]);
    expect([...all].filter(([, key]) => plans.includes(asInPlans(key))).map(([name]) => name)).toEqual([]);
  });

  /** Connections of the logins begin again, and with them their settings. */
  async function anew(): Promise<void> {
    await loud.admin.query(
      "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename like 'safetypin%' and datname = current_database()",
    );
    for (let tries = 0; (await loud.api.send('/readyz')).status !== 200 && tries < 200; tries += 1) {
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
});
