// JB-04: what cannot succeed is given up at once, everything else after a bounded number of tries, and that is seen: a
// row, an event, a line, a metric, a command. JB-03: what is kept of a failure holds nothing of a person.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { withClient } from '../../src/platform/connection.ts';
import { failureOf } from '../../src/worker/failure.ts';
import { changeJobs, listJobs } from '../../src/worker/operate.ts';
import { Application, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { type MailServer, startMailServer } from '../support/smtp.ts';
import { until, workerHere } from './workplace.ts';

let db: TestDatabase;
let app: Application;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
});

const asAdmin = <T>(sql: string, values: unknown[] = []) =>
  withClient(db.config('admin'), async (admin) => (await admin.query(sql, values)).rows as T[]);

const jobs = () =>
  asAdmin<{ id: string; attempts: number; max_attempts: number; last_error: string; is_available: boolean }>(
    'select id, attempts, max_attempts, last_error, is_available from graphile_worker._private_jobs order by id',
  );
const givenUp = () =>
  asAdmin<{ job_id: string; task: string; attempts: number; error: string }>(
    'select job_id, task, attempts, error from platform_private.failed_jobs order by job_id',
  );
const clear = () => asAdmin('delete from graphile_worker._private_jobs');

async function withServer(work: (server: MailServer) => Promise<void>): Promise<void> {
  const server = await startMailServer();
  try {
    await work(server);
  } finally {
    await server.close();
    await clear();
  }
}

test.each([
  ['the text', undefined],
  ['the recipient', 'recipient' as const],
])('JB-04 a mail of which the server refuses %s for good is tried once, said once, and noted', async (_what, stage) => {
  await withServer(async (server) => {
    server.refusal = { code: 550, message: 'CANARY nobody here', ...(stage && { stage }) };
    const worker = await workerHere(app, { SMTP_URL: server.url });
    await app.register(`${randomUUID()}@example.com`, 'Ada', 'Engines');
    await until('it is given up', async () => (await givenUp()).length === 1);
    const [job] = await jobs();
    expect(job).toMatchObject({ attempts: 1, max_attempts: 1, is_available: false });
    expect(job?.last_error).toMatch(/^sending a mail: [A-Z]+ 550$/);
    expect(await givenUp()).toEqual([{ job_id: job?.id, task: 'mail__send', attempts: 1, error: job?.last_error }]);
    expect(worker.lines).toEqual([
      expect.stringMatching(/^job mail__send failed \(try 1 of 1\); it is given up: .* 550$/),
    ]);
    await worker.close();
  });
});

test.each([
  [451, 'DATA', 'again'],
  [550, 'DATA', 'final'],
  [552, 'DATA', 'final'],
  [550, 'RCPT TO', 'final'],
  [452, 'RCPT TO', 'again'],
  // Faults of ours: the next try may find them mended, and no mail is lost by them.
  [553, 'MAIL FROM', 'again'],
  [530, 'RCPT TO', 'again'],
  [535, 'AUTH PLAIN', 'again'],
  [554, 'CONN', 'again'],
])('JB-04 an answer of %i to %s means: %s', (responseCode, command, kind) => {
  const error = Object.assign(new Error('CANARY'), { code: 'EENVELOPE', responseCode, command });
  expect(failureOf(error, 'sending a mail')).toMatchObject({
    kind,
    message: `sending a mail: EENVELOPE ${responseCode}`,
  });
});

test('JB-04 a job that always fails is tried with growing pauses, as often as its task says, and no more', async () => {
  const worker = await workerHere(app, { SMTP_URL: 'smtp://127.0.0.1:1' });
  await app.register(`${randomUUID()}@example.com`, 'Ada', 'Engines');
  const pauses: number[] = [];
  // The pauses are skipped, not shortened: each is read first.
  await until(
    'it is given up',
    async () => {
      const [moved] = await asAdmin<{ pause: number }>(
        `update graphile_worker._private_jobs j set run_at = now() from (select id, run_at from graphile_worker._private_jobs) old
        where old.id = j.id and j.locked_at is null and j.attempts > 0 and j.attempts < j.max_attempts and j.run_at > now() + interval '1 second'
        returning extract(epoch from old.run_at - now())::int as pause`,
      );
      if (moved) {
        pauses.push(moved.pause);
        // Nudges the worker.
        await asAdmin("select pg_notify('jobs:insert', '')");
      }
      return (await givenUp()).length === 1;
    },
    60,
  );
  const [job] = await jobs();
  expect(job).toMatchObject({ attempts: 16, max_attempts: 16, is_available: false });
  expect(pauses).toHaveLength(15);
  expect(pauses[8]).toBeGreaterThan(6_000);
  // 40 hours in all: for as long as the registration is kept.
  expect(pauses.reduce((sum, pause) => sum + pause, 0) / 3600).toBeGreaterThan(35);
  expect(pauses.reduce((sum, pause) => sum + pause, 0) / 3600).toBeLessThan(48);
  expect(worker.lines.filter((line) => line.includes('given up'))).toHaveLength(1);
  await worker.close();
  await clear();
});

test('JB-04 a payload that is none, a job made by hand and one of a task that nobody knows end as well', async () => {
  const worker = await workerHere(app);
  await asAdmin(`select graphile_worker.add_job('mail__send', '{"id": "CANARY canary@example.com"}')`);
  await asAdmin(`select graphile_worker.add_job('mail__send', json_build_object('id', gen_random_uuid()))`);
  await until('both are given up', async () => (await givenUp()).length === 2);
  expect((await jobs()).map(({ attempts, last_error }) => ({ attempts, last_error }))).toEqual([
    { attempts: 1, last_error: 'mail__send needs the id of a mail' },
    { attempts: 1, last_error: 'composing a mail: CTXJB' },
  ]);
  await clear();

  // A worker never takes it, so it would wait for ever.
  const report = () => asAdmin("select graphile_worker.add_job('platform__report_failures', job_key => 'report')");
  const reported = async () =>
    (await asAdmin("select from graphile_worker._private_jobs where key = 'report'")).length === 0;
  await asAdmin("select graphile_worker.add_job('nobody__knows')");
  await report();
  await until('the report is done', reported);
  // Young: its release may be on its way.
  expect(await givenUp()).toEqual([]);
  await asAdmin("update graphile_worker._private_jobs set created_at = now() - interval '11 minutes'");
  await report();
  await until('the report is done', reported);
  expect(await givenUp()).toMatchObject([{ task: 'nobody__knows', attempts: 25, error: 'no task of that name' }]);
  await worker.close();
  await clear();
});

test('JB-04 a job whose worker died in the last try is noted too', async () => {
  const [made] = await asAdmin<{ id: string }>(
    "select id from graphile_worker.add_job('mail__send', max_attempts => 1)",
  );
  await asAdmin("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead', attempts = 1");
  expect(await givenUp()).toEqual([]);
  await asAdmin("select graphile_worker.force_unlock_workers('{pool-dead}')");
  expect(await givenUp()).toMatchObject([{ job_id: made?.id, attempts: 1 }]);
  // Without the trigger nobody would know of it.
  await clear();
  await asAdmin('alter table graphile_worker._private_jobs disable trigger safetypin_note_failure');
  await asAdmin("select graphile_worker.add_job('mail__send', max_attempts => 1)");
  await asAdmin("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'pool-dead', attempts = 1");
  await asAdmin("select graphile_worker.force_unlock_workers('{pool-dead}')");
  expect(await givenUp()).toEqual([]);
  await asAdmin('alter table graphile_worker._private_jobs enable always trigger safetypin_note_failure');
  await clear();
});

test('JB-04 what was given up is an event once, a metric, and a row that an operator retries or drops', async () => {
  await withServer(async (server) => {
    server.refusal = { code: 550, message: 'CANARY' };
    const worker = await workerHere(app, { SMTP_URL: server.url });
    for (let count = 0; count < 2; count += 1) await app.register(`${randomUUID()}@example.com`, 'Ada', 'Engines');
    await until('both are given up', async () => (await givenUp()).length === 2);
    const ids = (await givenUp()).map(({ job_id }) => job_id);
    const [first, second] = ids as [string, string];
    const events = (action: string) =>
      asAdmin<{ details: object; severity: string }>(
        "select details, severity from audit.events where action = $1 and details ->> 'job' = any ($2) order by (details ->> 'job')::bigint",
        [action, ids],
      );
    for (let time = 0; time < 2; time += 1) {
      await asAdmin("select graphile_worker.add_job('platform__report_failures', job_key => 'report')");
      await until(
        'the report is done',
        async () => (await asAdmin("select from graphile_worker._private_jobs where key = 'report'")).length === 0,
      );
    }
    expect(await events('job.fail')).toEqual(
      ids.map((id) => ({
        severity: 'alert',
        details: { job: Number(id), task: 'mail__send', attempts: 1, error: expect.stringMatching(/ 550$/) },
      })),
    );
    expect(await asAdmin("select state, jobs::int from platform.queue_state() where task = 'mail__send'")).toEqual([
      { state: 'failed', jobs: 2 },
    ]);

    const said: string[] = [];
    await listJobs(db.access, (line) => said.push(line));
    expect(said.join('\n')).toMatch(
      new RegExp(
        `${first} \\| mail__send \\| failed \\| 1 of 1 \\| \\d{4}-\\d\\d-\\d\\d \\d\\d:\\d\\d +\\| sending a mail: [A-Z]+ 550`,
      ),
    );
    expect(said.join('\n')).toContain('(2 rows)');
    expect(said.join('\n')).not.toMatch(/CANARY|Ada|Engines|example\.com/);

    server.refusal = undefined;
    said.length = 0;
    await changeJobs(db.access, 'retry', [first], (line) => said.push(line));
    await server.mail(0);
    await until('it is done', async () => (await jobs()).length === 1);
    await changeJobs(db.access, 'drop', [second], (line) => said.push(line));
    expect(said).toEqual([`${first}: runs again`, `${second}: removed`]);
    expect(await givenUp()).toEqual([]);
    expect(await events('job.retry')).toMatchObject([{ details: { job: Number(first), task: 'mail__send' } }]);
    expect(await events('job.drop')).toMatchObject([{ details: { job: Number(second), task: 'mail__send' } }]);
    await expect(changeJobs(db.access, 'drop', [second], () => {})).rejects.toThrow(`no job that waits: ${second}`);
    await expect(changeJobs(db.access, 'retry', ['1; drop'], () => {})).rejects.toThrow('needs the ids');
    await worker.close();
  });
});

test('JB-03 nothing of a person stands in the queue after jobs that failed in every way', async () => {
  await withServer(async (server) => {
    server.refusal = { code: 550, message: 'CANARY refused' };
    const worker = await workerHere(app, { SMTP_URL: server.url });
    const email = `canary.${randomUUID()}@canary.example.com`;
    await app.register(email, 'CANARY NAME', 'CANARY ORGANIZATION');
    await until('it is given up', async () => (await givenUp()).length === 1);
    server.refusal = { code: 451, message: `CANARY later ${email}` };
    await app.register(`canary.${randomUUID()}@canary.example.com`, 'CANARY NAME', 'CANARY ORGANIZATION');
    // A fault in the database whose message holds a value.
    const canary =
      "begin raise exception 'CANARY %', id using detail = 'CANARY detail', hint = 'CANARY hint'; end $$ --";
    await withoutGuard(
      db,
      'identity.compose_mail(uuid)',
      /declare[\s\S]*/,
      canary.replace(' $$ --', '\n$function$\n'),
      async () => {
        await app.register(`canary.${randomUUID()}@canary.example.com`, 'CANARY NAME', 'CANARY ORGANIZATION');
        await until('three failed', async () => (await jobs()).filter(({ last_error }) => last_error).length === 3);
      },
    );
    const tables = await asAdmin<{ name: string }>(
      "select c.oid::regclass::text as name from pg_class c where c.relnamespace = 'graphile_worker'::regnamespace and c.relkind in ('r', 'v') union all select 'platform_private.failed_jobs' union all select 'platform_private.job_contexts'",
    );
    expect(tables.length).toBeGreaterThan(5);
    for (const { name } of tables) {
      const rows = await asAdmin<{ text: string }>(`select row_to_json(t)::text as text from ${name} t`);
      for (const { text } of rows) expect(text, name).not.toMatch(/canary/i);
    }
    expect(worker.lines.join('\n')).not.toMatch(/canary/i);
    expect((await jobs()).map(({ last_error }) => last_error).at(-1)).toBe('composing a mail: P0001');
    await worker.close();
  });
});
