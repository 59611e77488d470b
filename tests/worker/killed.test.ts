// JB-02: a worker is killed at random moments of its tasks, over and over. What it does in our tables happens once; a
// mail comes at least once, and what comes twice can be told by its Message-ID.
import { randomInt, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { cronItems } from '../../src/worker/schedule.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { type ReceivedMail, startMailServer } from '../support/smtp.ts';
import { killHard, spawnWorker, tokenOf, until } from './workplace.ts';

/** Each is what a kill aims at in turn; the jobs beside it are hit as well. At full scale 50 times each. */
const TASKS = ['mail__send', ...cronItems.map(({ task }) => task)];
const KILLS = TASKS.length * Math.max(1, Math.round(50 * loadConfig().testScale ** 1.7));
/** Milliseconds: how long after a task was seen to run a kill comes at the latest. Longer than most of them run. */
const LATEST = 60;
const MAILS = 3;
/** Jobs that one worker runs at a time. */
const AT_ONCE = 4;

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let partition: string;
let dropped = 0;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  ({ partition } = await one<{ partition: string }>(
    "select max(inhrelid::regclass::text) as partition from pg_inherits where inhparent = 'audit.events'::regclass and inhrelid <> 'audit.events_default'::regclass",
  ));
  // Who deletes or inserts what, once each: a row that was removed twice or an event written twice would show.
  await admin.query(`
    create table public.partitions (name text);
    create function public.note_partition() returns event_trigger language plpgsql security definer as $$ begin
      insert into public.partitions select object_identity from pg_event_trigger_ddl_commands()
        where command_tag = 'CREATE TABLE' and object_identity like 'audit.events%';
    end $$;
    create event trigger note_partition on ddl_command_end when tag in ('CREATE TABLE') execute function public.note_partition()`);
});

const one = async <T>(sql: string, values: unknown[] = []) => (await admin.query(sql, values)).rows[0] as T;
const count = async (from: string) =>
  (await one<{ count: number }>(`select count(*)::int as count from ${from}`)).count;

/** Work for each task there is, some hundred milliseconds of it; one task is taken first. */
async function makeWork(addresses: string[], first: string): Promise<void> {
  for (let made = 0; made < MAILS; made += 1) {
    const email = `${randomUUID()}@example.com`;
    await app.register(email, 'Ada', 'Engines');
    addresses.push(email);
  }
  await admin.query(
    `insert into identity_private.attempts (door, account, created_at)
       select 'password', 'old', now() - interval '3 days' from generate_series(1, 5000)`,
  );
  await admin.query(
    `insert into sessions_private.credentials (hash, session_id, expires_at)
       select sha256(convert_to(gen_random_uuid()::text, 'UTF8')), $1, now() - interval '3 days' from generate_series(1, 5000)`,
    [ada.session],
  );
  await admin.query(
    `insert into keyring_private.transport_keys (key, created_at)
       select decode(repeat('ab', 64), 'hex'), now() - interval '3 days' from generate_series(1, 3000)`,
  );
  await admin.query(
    `insert into platform_private.job_contexts (job_id, task, permissions, created_at)
       select -row_number() over () - (select count(*) from platform_private.job_contexts), 'mail__send', '{}', now() - interval '3 days' from generate_series(1, 3000)
     on conflict do nothing`,
  );
  await admin.query("select graphile_worker.add_job('mail__send', '{}', max_attempts => 1)");
  if ((await count(`pg_class where oid = to_regclass('${partition}')`)) === 1) {
    await admin.query(`drop table ${partition}`);
    dropped += 1;
  }
  for (const { task } of cronItems) {
    const due = task === first ? "now() - interval '1 hour'" : 'now()';
    await admin.query(`select graphile_worker.add_job($1, run_at => ${due})`, [task]);
  }
}

const busy = (task: string) =>
  count(`graphile_worker.jobs where locked_at is not null and task_identifier = '${task}'`);
const UNFINISHED = '(attempts < max_attempts or locked_at is not null)';
const open = () => count(`graphile_worker._private_jobs where ${UNFINISHED}`);
/** A task that takes a few milliseconds may be over before anybody looks. */
const isOver = async (task: string) =>
  (await count(`graphile_worker.jobs where task_identifier = '${task}' and ${UNFINISHED}`)) === 0;

function messageId({ headers }: ReceivedMail): string | undefined {
  return /^message-id: (.*)$/im.exec(headers)?.[1];
}

test(`JB-02 ${KILLS} kills at random moments: our tables as if there had been none, each mail once or more`, {
  timeout: 600_000,
}, async () => {
  const server = await startMailServer();
  const environment = { SMTP_URL: server.url };
  const addresses: string[] = [];
  const hit: Record<string, number> = {};
  for (let kills = 0; kills < KILLS; kills += 1) {
    const aim = TASKS[kills % TASKS.length] as string;
    await makeWork(addresses, aim);
    const worker = spawnWorker(db, app.keysDirectory, environment);
    await until('it works', async () => (await busy(aim)) > 0 || (await isOver(aim)));
    await sleep(randomInt(0, LATEST));
    const { rows } = await admin.query(
      'select task_identifier as task from graphile_worker.jobs where locked_at is not null',
    );
    await killHard(worker);
    for (const { task } of rows) hit[task] = (hit[task] ?? 0) + 1;
  }
  if (process.env.SAFETYPIN_FIGURES) console.log('running when it was killed:', hit);
  const last = spawnWorker(db, app.keysDirectory, environment);
  const began = performance.now();
  await until('all is done', async () => (await open()) === 0, 60);
  // Two minutes are promised, of which a worker that is there needs seconds.
  expect(performance.now() - began).toBeLessThan(60_000);
  await admin.query("select graphile_worker.add_job('platform__report_failures')");
  await until('the report is done', async () => (await open()) === 0);
  await killHard(last);

  // Ours: once.
  expect(await count("identity_private.attempts where account = 'old'")).toBe(0);
  expect(await count("sessions_private.credentials where expires_at < now() - interval '2 days'")).toBe(0);
  expect(await count("keyring_private.transport_keys where created_at < now() - interval '2 days'")).toBe(0);
  expect(await count('platform_private.job_contexts where job_id < 0')).toBe(0);
  expect(await count('identity_private.mails where sent_at is null')).toBe(0);
  expect(await count('public.partitions')).toBe(dropped);
  expect(await count(`pg_class where oid = to_regclass('${partition}')`)).toBe(1);
  const failed = await count('platform_private.failed_jobs');
  expect(await count("platform_private.failed_jobs where task = 'mail__send'")).toBe(failed);
  expect(failed).toBe(KILLS);
  const events = await admin.query(
    "select details ->> 'job' as job, count(*)::int as times from audit.events where action = 'job.fail' group by 1",
  );
  expect(events.rows).toHaveLength(KILLS);
  for (const { times, job } of events.rows) expect(times, job).toBe(1);
  // What is not over is untouched.
  expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
  expect((await app.call<{ id: string }>(ada.credential, 'select request.user_id() as id')).id).toBe(ada.id);

  // Mails: each at least once; twice only where a kill came between sending and marking, and then with the same id.
  expect(server.mails.length - addresses.length).toBeLessThanOrEqual(KILLS * AT_ONCE);
  for (const email of addresses) {
    const mails = server.mails.filter(({ to }) => to.includes(email));
    expect(mails.length, email).toBeGreaterThanOrEqual(1);
    expect(new Set(mails.map(messageId)).size, email).toBe(1);
    const outcomes = [];
    for (const mail of mails) {
      const token = tokenOf(mail.text);
      const answer = await app.call<{ outcome: string }>(null, 'select api_steps.verify_email($1) as outcome', [token]);
      outcomes.push(answer.outcome);
    }
    expect(outcomes, email).toEqual(['VERIFIED', ...Array(mails.length - 1).fill('REFUSED')]);
  }
  expect(new Set(server.mails.map(messageId)).size).toBe(addresses.length);
  await server.close();
});
