// JB-05, AZ-13: organizations take turns. However many jobs one has waiting, another's single job is among the next.
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from 'graphile-worker';
import type pg from 'pg';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { workerLogger } from '../../src/worker/log.ts';
import { Application, type Person, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { until } from './workplace.ts';

const MANY = Math.max(3_000, Math.round(100_000 * loadConfig().testScale));
/** Time of one job of these tests. */
const WORK = 10;
/** What is promised: however many jobs others have, a single one takes at most so many times what it takes alone. */
const FACTOR = 5;

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let big: Person;
let small: Person;
const done = new Set<string>();

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  await admin.query(`
    insert into platform.tasks (name, payload, description) values ('clinic__export', '{id}', 'For a test.');
    create function api.try_enqueue(jobs integer) returns bigint[] language sql volatile security definer
      set search_path = pg_catalog, pg_temp
      as 'select array_agg(platform.enqueue(''clinic__export'', json_build_object(''id'', platform.uuid_v7()))) from generate_series(1, jobs)';
    alter function api.try_enqueue(integer) owner to safetypin_definer;
    grant execute on function api.try_enqueue(integer) to safetypin_member`);
  big = await app.person('big');
  small = await app.person('small');
});

/** Enqueues in transactions of a thousand, as an import would. */
async function enqueue(person: Person, count: number): Promise<string[]> {
  const ids: string[] = [];
  while (ids.length < count) {
    const { rows } = await app.as(person.credential, (client) =>
      client.query<{ ids: string[] }>('select api.try_enqueue($1) as ids', [Math.min(count - ids.length, 1000)]),
    );
    ids.push(...(rows[0]?.ids ?? []));
  }
  return ids;
}

/** Four workers, as a process of ours has. */
async function startWorkers(): Promise<() => Promise<void>> {
  const pool = db.pool('jobs', { max: 6 });
  pool.on('connect', (client) => client.on('error', () => {}));
  const runner = await run({
    pgPool: pool,
    taskList: {
      async clinic__export(_payload, { job }) {
        await sleep(WORK);
        done.add(job.id);
      },
    },
    concurrency: 4,
    noHandleSignals: true,
    parsedCronItems: [],
    logger: workerLogger(() => {}),
  });
  const stop = () => runner.stop().catch(() => {});
  onTestFinished(stop);
  return stop;
}

/** Milliseconds from asking for one job to its end, so many times one after the other; the middle and the longest. */
async function latencies(person: Person, times: number): Promise<{ middle: number; longest: number }> {
  const measured: number[] = [];
  for (let time = 0; time < times; time += 1) {
    const began = performance.now();
    const [id] = await enqueue(person, 1);
    while (!done.has(id ?? '')) await sleep(1);
    measured.push(performance.now() - began);
  }
  measured.sort((one, other) => one - other);
  return { middle: measured[Math.floor(times / 2)] ?? 0, longest: measured.at(-1) ?? 0 };
}

const waiting = async () =>
  (await admin.query('select count(*)::int as count from graphile_worker._private_jobs')).rows[0].count as number;

test(`JB-05 ${MANY} jobs of one organization do not hold up the single job of another`, {
  timeout: 300_000,
}, async () => {
  const stop = await startWorkers();
  const alone = await latencies(small, 15);
  await stop();

  const began = performance.now();
  await enqueue(big, 300);
  const each = (performance.now() - began) / 300;
  // The rest as it would be enqueued, in one statement: all that is beyond the depth is alike.
  await admin.query(
    `with made as (
       insert into graphile_worker._private_jobs (task_id, payload, max_attempts, priority)
         select j.task_id, j.payload, j.max_attempts, j.priority
           from (select * from graphile_worker._private_jobs order by id desc limit 1) j, generate_series(1, $1)
         returning id)
     insert into platform_private.job_contexts (job_id, task, organization_id, person_id, permissions, lane)
       select m.id, c.task, c.organization_id, c.person_id, c.permissions, c.lane
         from made m, (select * from platform_private.job_contexts order by job_id desc limit 1) c`,
    [MANY - 300],
  );
  await startWorkers();
  const from = { jobs: await waiting(), at: performance.now() };
  const beside = await latencies(small, 15);
  const left = await waiting();
  const rate = ((from.jobs - left) / (performance.now() - from.at)) * 1000;
  const figures = `alone ${alone.middle.toFixed(0)}, beside ${left} waiting ${beside.middle.toFixed(0)} (longest ${beside.longest.toFixed(0)}) ms; ${rate.toFixed(0)} jobs/s; enqueueing ${each.toFixed(2)} ms`;
  if (process.env.SAFETYPIN_FIGURES) console.log(figures);
  expect(left, figures).toBeGreaterThan(MANY / 2);
  expect(beside.middle, figures).toBeLessThan(FACTOR * Math.max(alone.middle, WORK));
  await admin.query('delete from graphile_worker._private_jobs where locked_at is null');
});

test('JB-05 without turns it waits for all of them', async () => {
  await withoutGuard(
    db,
    'platform.enqueue(text,json)',
    'v_task.attempts, v_waiting)',
    'v_task.attempts, 0)',
    async () => {
      await enqueue(big, 600);
      const [id] = await enqueue(small, 1);
      const stop = await startWorkers();
      await until('a good part of the others is done', async () => (await waiting()) < 450, 60);
      expect(done.has(id ?? '')).toBe(false);
      await stop();
      await admin.query('delete from graphile_worker._private_jobs where locked_at is null');
    },
  );
});

test('JB-05 two that both have many waiting take turns, up to the depth that is counted', async () => {
  const first = await enqueue(big, 150);
  const second = await enqueue(small, 150);
  const { rows } = await admin.query<{ id: string; priority: number }>(
    'select id, priority from graphile_worker._private_jobs order by priority, run_at, id',
  );
  expect(rows).toHaveLength(300);
  const order = rows.map(({ id }) => (first.includes(id) ? 'big' : second.includes(id) ? 'small' : 'other'));
  // The first two hundred are one of each in turn; what is beyond the depth follows in the order of its making.
  for (let turn = 0; turn < 100; turn += 1)
    expect(order.slice(2 * turn, 2 * turn + 2).sort()).toEqual(['big', 'small']);
  expect(order.slice(200)).toEqual([...Array(50).fill('big'), ...Array(50).fill('small')]);
  await admin.query('delete from graphile_worker._private_jobs');
  // Who has nothing waiting begins at the front again.
  const [next] = await enqueue(big, 1);
  expect((await admin.query('select id, priority from graphile_worker._private_jobs')).rows).toEqual([
    { id: next, priority: 0 },
  ]);
  await admin.query('delete from graphile_worker._private_jobs');
});
