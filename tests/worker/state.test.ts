// What operators see of the queue: counts and ages by task and state, nothing of what jobs carry.
import { beforeAll, expect, test } from 'vitest';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;

beforeAll(async () => {
  db = await cloneDatabase();
});

test.each(['authenticator', 'jobs'] as const)('%s reads counts and ages by task and state', async (login) => {
  const admin = await db.connect('admin');
  await admin.query('delete from graphile_worker._private_jobs');
  const states = {
    waiting: "run_at = now() - interval '100 seconds'",
    running: "locked_at = now() - interval '50 seconds', locked_by = 'somebody'",
    retrying: "run_at = now() + interval '1 hour', attempts = 3, created_at = now() - interval '200 seconds'",
    scheduled: "run_at = now() + interval '1 hour', created_at = now() - interval '300 seconds'",
    failed: 'attempts = max_attempts',
  };
  for (const change of Object.values(states)) {
    for (const task of ['mail__send', 'made_up__one', 'made_up__two']) {
      await admin.query('select graphile_worker.add_job($1)', [task]);
      await admin.query(
        `update graphile_worker._private_jobs set ${change} where id = (select max(id) from graphile_worker._private_jobs)`,
      );
    }
  }
  await admin.query("update platform_private.failed_jobs set failed_at = now() - interval '400 seconds'");
  const client = await db.connect(login);
  const { rows } = await client.query(
    'select task, state, jobs::int, round(oldest_seconds)::int as age from platform.queue_state()',
  );
  const ages = { waiting: 100, running: 50, retrying: 200, scheduled: 300, failed: 400 };
  for (const [state, age] of Object.entries(ages)) {
    for (const [task, jobs] of [
      ['mail__send', 1],
      ['unknown', 2],
    ] as const) {
      const row = rows.find((one) => one.task === task && one.state === state);
      expect(row, `${task} ${state}`).toMatchObject({ jobs });
      expect(Math.abs(row.age - age), `${task} ${state}`).toBeLessThan(10);
    }
  }
  expect(rows).toHaveLength(10);
  await admin.end();
  await client.end();
});
