// JB-06: what runs by the clock is made up for after a downtime, a documented number of times.
import { beforeAll, expect, test } from 'vitest';
import { withClient } from '../../src/platform/connection.ts';
import { cronItems } from '../../src/worker/schedule.ts';
import { Application } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { until, workerHere } from './workplace.ts';

let db: TestDatabase;
let app: Application;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  // Counts the runs: a job that is added to one that waits is no run of its own.
  await asAdmin(`create table public.runs (task text, at timestamptz default now());
    create function public.note_run() returns trigger language plpgsql security definer as $$ begin
      insert into public.runs (task) select t.identifier from graphile_worker._private_tasks t where t.id = old.task_id;
      return null;
    end $$;
    create trigger note_run after delete on graphile_worker._private_jobs for each row execute function public.note_run();`);
});

const asAdmin = <T>(sql: string, values: unknown[] = []) =>
  withClient(db.config('admin'), async (admin) => (await admin.query(sql, values)).rows as T[]);

/** The runs of a worker that starts after its last sign of life was so long ago. */
async function after(days: number): Promise<Record<string, number>> {
  await asAdmin('delete from graphile_worker._private_jobs');
  await asAdmin('delete from public.runs');
  await asAdmin(
    `insert into graphile_worker._private_known_crontabs (identifier, known_since, last_execution)
       select name, now() - interval '1 year', now() - make_interval(days => $2) from unnest($1::text[]) name
     on conflict (identifier) do update set known_since = excluded.known_since, last_execution = excluded.last_execution`,
    [cronItems.map(({ identifier }) => identifier), days],
  );
  const worker = await workerHere(app);
  const counts = async () =>
    Object.fromEntries(
      (
        await asAdmin<{ task: string; runs: number }>(
          'select task, count(*)::int as runs from public.runs group by task',
        )
      ).map(({ task, runs }) => [task, runs]),
    );
  await until('what was missed has run', async () => (await counts()).audit__ensure_partitions !== undefined);
  await until('nothing waits', async () => (await asAdmin('select from graphile_worker._private_jobs')).length === 0);
  await worker.close();
  return counts();
}

test('JB-06 however long the worker was away, partitions are made once, and nothing else is made up for', async () => {
  // A minute that belongs to the clock may pass during the test: then its tasks have run once by right.
  const due = (task: string) => cronItems.find((item) => item.task === task)?.options.backfillPeriod ?? 0;
  for (const days of [2, 30]) {
    for (const [task, runs] of Object.entries(await after(days))) {
      expect(runs, `${task} after ${days} days`).toBe(1);
      if (due(task) === 0) {
        const [last] = await asAdmin<{ fresh: boolean }>(
          "select last_execution > now() - interval '1 minute' as fresh from graphile_worker._private_known_crontabs where identifier = $1",
          [task],
        );
        expect(last?.fresh, task).toBe(true);
      }
    }
  }
});

test('JB-06 several workers that start at once make one run of it', async () => {
  await asAdmin('delete from public.runs');
  await asAdmin("update graphile_worker._private_known_crontabs set last_execution = now() - interval '3 days'");
  const workers = await Promise.all([workerHere(app), workerHere(app), workerHere(app)]);
  await until(
    'it has run',
    async () => (await asAdmin("select from public.runs where task = 'audit__ensure_partitions'")).length > 0,
  );
  await until('nothing waits', async () => (await asAdmin('select from graphile_worker._private_jobs')).length === 0);
  await Promise.all(workers.map((worker) => worker.close()));
  expect(await asAdmin("select from public.runs where task = 'audit__ensure_partitions'")).toHaveLength(1);
});

test('JB-06 a slot that comes while the job of the last one still waits adds nothing', async () => {
  for (const item of cronItems) {
    expect(item.options, item.task).toMatchObject({ jobKey: item.task, jobKeyMode: 'preserve_run_at', maxAttempts: 5 });
  }
});
