// The worker as a program: it stops when it is told, comes back when the database was away, keeps to its schedule.
import { beforeAll, expect, test } from 'vitest';
import { domainTasks } from '../../src/access/tasks.ts';
import { mailbox } from '../../src/mail/mailbox.ts';
import { withClient } from '../../src/platform/connection.ts';
import { Presence } from '../../src/worker/presence.ts';
import { cronItems, scheduledTasks } from '../../src/worker/schedule.ts';
import { Application } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { startMailServer } from '../support/smtp.ts';
import { until, workerHere } from './workplace.ts';

let db: TestDatabase;
let app: Application;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
});

const asAdmin = <T>(sql: string, values: unknown[] = []) =>
  withClient(db.config('admin'), async (admin) => (await admin.query(sql, values)).rows as T[]);

test('every task that the database knows has a program here, and the other way round', async () => {
  const known = await asAdmin<{ name: string; scheduled: boolean }>(
    'select name, scheduled from platform.tasks order by name',
  );
  const programs = Object.keys({ ...scheduledTasks({} as never), ...domainTasks({} as never, {} as never) });
  const scheduled = cronItems.map(({ task }) => task).sort();
  expect(known.filter((task) => task.scheduled).map(({ name }) => name)).toEqual(scheduled);
  expect(known.map(({ name }) => name)).toEqual([...programs, 'mail__send'].sort());
});

test('scheduled tasks do their work', async () => {
  const worker = await workerHere(app);
  // Job contexts that no job needs any more are what the clean-up removes.
  await asAdmin(
    "insert into platform_private.job_contexts (job_id, task, permissions, created_at) values (-1, 'mail__send', '{}', now() - interval '30 days')",
  );
  for (const task of cronItems.map(({ task }) => task)) {
    await asAdmin('select graphile_worker.add_job($1)', [task]);
  }
  await until(
    'the jobs are done',
    async () => (await asAdmin('select from graphile_worker._private_jobs')).length === 0,
  );
  expect(worker.lines).toEqual([]);
  expect(await asAdmin('select from platform_private.job_contexts where job_id = -1')).toEqual([]);
  const partitions = await asAdmin<{ name: string }>(
    "select inhrelid::regclass::text as name from pg_inherits where inhparent = 'audit.events'::regclass",
  );
  const next = new Date(Date.UTC(new Date().getUTCFullYear(), new Date().getUTCMonth() + 1, 1)).toISOString();
  expect(partitions.map(({ name }) => name).join()).toContain(next.slice(0, 7).replace('-', '_'));
  await worker.close();
});

test('a worker whose connections were all cut goes on by itself', async () => {
  const worker = await workerHere(app);
  const cut = () =>
    asAdmin(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and usename = 'safetypin_jobs'",
      [db.name],
    );
  expect((await cut()).length).toBeGreaterThan(1);
  await app.register('after.cut@example.com', 'Ada', 'Engines');
  await until('the mail is there', () => mailbox.list('after.cut@example.com').length === 1);
  const alive = () =>
    asAdmin<{ name: string }>(
      "select application_name as name from pg_stat_activity where datname = $1 and application_name like 'safetypin worker pool-%'",
      [db.name],
    );
  await until('it says again which pool it is', async () => (await alive()).length === 1);
  await worker.close();
});

test('a worker that could not ask for its tasks when it started, and never asks again, is started anew', async () => {
  await asAdmin('revoke insert, select on graphile_worker._private_tasks from safetypin_jobs');
  const worker = await workerHere(app);
  await app.register('after.refusal@example.com', 'Ada', 'Engines');
  await asAdmin('select pg_sleep(0.5)');
  await asAdmin('grant insert, select on graphile_worker._private_tasks to safetypin_jobs');
  await until('the mail is there', () => mailbox.list('after.refusal@example.com').length === 1, 40);
  expect(worker.lines).toContain('worker: stopped by itself, starts again in 1 s');
  await worker.close();
});

test('a job that was locked for a worker which never heard of it is freed, and one that it runs is not', async () => {
  const worker = await workerHere(app);
  const [alive] = await asAdmin<{ pool: string }>(
    "select replace(application_name, 'safetypin worker ', '') as pool from pg_stat_activity where datname = $1 and application_name like 'safetypin worker pool-%'",
    [db.name],
  );
  const lost = await asAdmin<{ id: string }>("select id from graphile_worker.add_job('nobody__knows')");
  const run = await asAdmin<{ id: string }>("select id from graphile_worker.add_job('nobody__knows')");
  await asAdmin("update graphile_worker._private_jobs set locked_at = now() - interval '6 seconds', locked_by = $1", [
    alive?.pool,
  ]);
  const jobs = await db.connect('jobs');
  const release = 'select graphile_worker.safetypin_release($1, $2) as count';
  expect((await jobs.query(release, [alive?.pool, [run[0]?.id]])).rows).toEqual([{ count: 1 }]);
  expect(await asAdmin('select id from graphile_worker._private_jobs where locked_by is null')).toEqual(lost);
  await asAdmin('delete from graphile_worker._private_jobs');
  await worker.close();
});

test('a mail whose job was locked for a worker which never heard of it is sent all the same', async () => {
  await app.register('never.heard@example.com', 'Ada', 'Engines');
  await asAdmin("update graphile_worker._private_jobs set run_at = now() + interval '1 hour'");
  const worker = await workerHere(app);
  // As it is left when the connection breaks between locking and hearing of it.
  await asAdmin(
    `update graphile_worker._private_jobs set run_at = now(), locked_at = now(), attempts = attempts + 1, locked_by = (
       select replace(application_name, 'safetypin worker ', '') from pg_stat_activity
       where datname = $1 and application_name like 'safetypin worker pool-%')`,
    [db.name],
  );
  await until('the mail is there', () => mailbox.list('never.heard@example.com').length === 1);
  await worker.close();
});

test('a worker that is told to stop while it sends gives the job back within five seconds', async () => {
  const server = await startMailServer();
  server.answer = new Promise(() => {});
  const worker = await workerHere(app, { SMTP_URL: server.url });
  await app.register('slow@example.com', 'Ada', 'Engines');
  await server.mail(0);
  const begun = Date.now();
  await worker.close();
  expect(Date.now() - begun).toBeLessThan(5_000);
  const [job] = await asAdmin<{ locked_by: string | null; last_error: string; attempts: number }>(
    'select locked_by, last_error, attempts from graphile_worker._private_jobs',
  );
  // Restarts are no failures of the job: they use up none of its tries.
  expect(job).toMatchObject({
    locked_by: null,
    attempts: 0,
    last_error: expect.stringContaining('the worker was stopped'),
  });
  await server.close();
  await asAdmin('delete from graphile_worker._private_jobs');
});

test('a worker that is told to stop finishes what it can finish in two seconds', async () => {
  const server = await startMailServer();
  let answer = () => {};
  server.answer = new Promise((resolve) => {
    answer = resolve;
  });
  const worker = await workerHere(app, { SMTP_URL: server.url });
  await app.register('finished@example.com', 'Ada', 'Engines');
  await server.mail(0);
  await app.register('left@example.com', 'Ada', 'Engines');
  await server.mail(1);
  await asAdmin("select graphile_worker.add_job('mail__send', run_at => now() + interval '1 hour')");
  const unsent = 'select from identity_private.mails where sent_at is null';
  const before = (await asAdmin(unsent)).length;
  const closed = worker.close();
  setTimeout(answer, 800);
  await closed;
  expect(await asAdmin('select locked_by, attempts from graphile_worker._private_jobs')).toEqual([
    { locked_by: null, attempts: 0 },
  ]);
  expect(await asAdmin(unsent)).toHaveLength(before - 2);
  expect(server.mails).toHaveLength(2);
  await server.close();
  await asAdmin('delete from graphile_worker._private_jobs');
});

test('JB-02 the clock does not give up what a dead worker had: its jobs are freed before the clock starts', async () => {
  const task = 'platform__clean_up';
  const jobs = await db.connect('jobs');
  const dead = async () => {
    await asAdmin('select graphile_worker.add_job($1, job_key => $1, max_attempts => 5)', [task]);
    await asAdmin("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead', attempts = 1");
  };
  const tick = () => asAdmin('select graphile_worker.add_job($1, job_key => $1, max_attempts => 5)', [task]);
  // The other way round there are two, one of which is an alert.
  await dead();
  await tick();
  await jobs.query('select graphile_worker.safetypin_rescue()');
  expect(await asAdmin('select task from platform_private.failed_jobs')).toEqual([{ task }]);
  await asAdmin('delete from graphile_worker._private_jobs');

  await dead();
  const presence = new Presence(db.config('jobs'));
  await presence.start();
  await tick();
  expect(await asAdmin('select locked_by, attempts from graphile_worker._private_jobs')).toEqual([
    { locked_by: null, attempts: 0 },
  ]);
  expect(await asAdmin('select from platform_private.failed_jobs')).toEqual([]);
  await presence.close();
  await asAdmin('delete from graphile_worker._private_jobs');
});

test('nothing of it is left on the server when it has stopped', async () => {
  const worker = await workerHere(app);
  await worker.close();
  await worker.close();
  const left = await asAdmin(
    "select from pg_stat_activity where datname = $1 and usename = 'safetypin_jobs' and application_name like 'safetypin worker%'",
    [db.name],
  );
  expect(left).toEqual([]);
});

test('a living worker keeps its jobs; a dead one loses them', async () => {
  const worker = await workerHere(app);
  const [alive] = await asAdmin<{ pool: string }>(
    "select replace(application_name, 'safetypin worker ', '') as pool from pg_stat_activity where datname = $1 and application_name like 'safetypin worker pool-%'",
    [db.name],
  );
  await asAdmin("select graphile_worker.add_job('nobody__knows')");
  await asAdmin('update graphile_worker._private_jobs set locked_at = now(), locked_by = $1', [alive?.pool]);
  await asAdmin("select graphile_worker.add_job('nobody__knows')");
  await asAdmin(
    "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead' where locked_by is null",
  );
  const jobs = await db.connect('jobs');
  expect((await jobs.query('select graphile_worker.safetypin_rescue() as count')).rows).toEqual([{ count: 1 }]);
  expect(await asAdmin('select locked_by from graphile_worker._private_jobs order by id')).toEqual([
    { locked_by: alive?.pool },
    { locked_by: null },
  ]);
  // One that has no name yet could be either: nobody is judged while it starts.
  await asAdmin(
    "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead' where locked_by is null",
  );
  await withClient({ ...db.config('jobs'), application_name: 'safetypin worker starting' }, async () => {
    expect((await jobs.query('select graphile_worker.safetypin_rescue() as count')).rows).toEqual([{ count: 0 }]);
  });
  // Another login cannot pretend to be a worker.
  await withClient({ ...db.config('authenticator'), application_name: 'safetypin worker pool-dead' }, async () => {
    expect((await jobs.query('select graphile_worker.safetypin_rescue() as count')).rows).toEqual([{ count: 1 }]);
  });
  await asAdmin('delete from graphile_worker._private_jobs');
  await worker.close();
});
