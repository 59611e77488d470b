// A sign-up survives a mail server that is down, and a worker that is killed at any moment.
import { beforeAll, describe, expect, test } from 'vitest';
import { mailbox } from '../../src/mail/mailbox.ts';
import { Application, GOOD } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { type MailServer, startMailServer } from '../support/smtp.ts';
import { killHard, tokenOf, until, workerApart, workerHere } from './workplace.ts';

let db: TestDatabase;
let app: Application;
let people = 0;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
});

const someone = () => `person${++people}@example.com`;

async function jobsLeft(): Promise<number> {
  const admin = await db.connect('admin');
  const { rows } = await admin.query('select count(*)::int as count from graphile_worker._private_jobs');
  await admin.end();
  return rows[0].count;
}

async function verify(text: string): Promise<string> {
  const row = await app.call<{ outcome: string }>(null, 'select api_steps.verify_email($1) as outcome', [
    tokenOf(text),
  ]);
  return row.outcome;
}

async function withServer<T>(work: (server: MailServer) => Promise<T>, port = 0): Promise<T> {
  const server = await startMailServer(port);
  try {
    return await work(server);
  } finally {
    await server.close();
  }
}

test('a mail reaches the mailbox when there is no mail server, and its link works', async () => {
  const worker = await workerHere(app);
  const email = someone();
  await app.register(email, 'Ada', 'Engines');
  await until('the mail is there', () => mailbox.list(email).length === 1);
  const [mail] = mailbox.list(email);
  expect(mail).toMatchObject({
    to: email,
    subject: 'Confirm your e-mail address',
    code: expect.stringMatching(/^\d{6}$/),
  });
  expect(mail?.links).toEqual([
    expect.stringMatching(/^https:\/\/id\.example\.org\/api\/auth\/verify-email\/[\w-]{43}$/),
  ]);
  expect(mail?.text).toContain(mail?.links[0]);
  expect(mail?.text).toContain(mail?.code);
  expect(await verify(mail?.text ?? '')).toBe('VERIFIED');
  await until('the job is done', async () => (await jobsLeft()) === 0);
  await worker.close();
});

test('each kind of mail that the database asks for is written, in the language of the person', async () => {
  const worker = await workerHere(app);
  const email = someone();
  const newest = async (number: number) => {
    await until(`mail ${number} is there`, () => mailbox.list(email).length === number);
    return mailbox.list(email)[0];
  };
  await app.register(email, 'Fay', 'Fans');
  expect((await newest(1))?.subject).toBe('Confirm your e-mail address');
  expect(await verify(mailbox.list(email)[0]?.text ?? '')).toBe('VERIFIED');

  await app.register(email, 'WIN AT evil.example', 'Nobody');
  const already = await newest(2);
  expect(already).toMatchObject({ subject: 'You have an account already', links: [], code: null });
  expect(already?.text).not.toContain('WIN');

  const admin = await db.connect('admin');
  await admin.query("update identity.people set locale = 'de'");
  await app.call(null, 'select api.request_password_reset($1)', [email]);
  const reset = await newest(3);
  expect(reset).toMatchObject({ subject: 'Setzen Sie Ihr Passwort zurück', code: null });
  expect(reset?.text).toMatch(/^Guten Tag Fay,/);
  const token = tokenOf(reset?.text ?? '');
  const how = await app.call<Record<string, unknown>>(null, 'select * from api_steps.prepare_password_reset($1, $2)', [
    token,
    GOOD,
  ]);
  const changed = await app.call<{ outcome: string }>(
    null,
    'select * from api_steps.reset_password($1, $2, $3, $4, $5, $6)',
    [token, GOOD, how.scheme, how.parameters, how.salt, Buffer.alloc(32, 7)],
  );
  expect(changed.outcome).toBe('CHANGED');
  expect(await newest(4)).toMatchObject({ subject: 'Ihr Passwort wurde geändert', links: [], code: null });

  await app.call(null, 'select api.request_password_reset($1)', ['nobody.at.all@example.com']);
  await until('the jobs are done', async () => (await jobsLeft()) === 0);
  expect(mailbox.list('nobody.at.all@example.com')).toEqual([]);
  expect(worker.lines).toEqual([]);
  await worker.close();
});

test('a sign-up while the mail server is down gets its mail when it is back, and the link works', async () => {
  const email = someone();
  const port = await withServer(async (server) => server.port);
  const worker = await workerHere(app, { SMTP_URL: `smtp://127.0.0.1:${port}` });
  await app.register(email, 'Bob', 'Boats');
  await until('the first try failed', () => worker.lines.length > 0);
  expect(worker.lines).toEqual(['job mail__send failed (try 1 of 16): sending a mail: ECONNREFUSED ESOCKET']);
  await withServer(async (server) => {
    const mail = await server.mail(0);
    expect(mail.to).toEqual([email]);
    expect(await verify(mail.text)).toBe('VERIFIED');
    await until('the job is done', async () => (await jobsLeft()) === 0);
    expect(server.mails).toHaveLength(1);
    await worker.close();
  }, port);
});

test('a mail server that refuses is asked again, and its answer is kept nowhere', async () => {
  const email = someone();
  await withServer(async (server) => {
    server.refusal = { code: 451, message: 'CANARY come back later' };
    const worker = await workerHere(app, { SMTP_URL: server.url });
    await app.register(email, 'Cid', 'Carts');
    await until('the first try failed', () => worker.lines.length > 0);
    expect(worker.lines[0]).toMatch(/^job mail__send failed \(try 1 of 16\): sending a mail: \w+ 451$/);
    const admin = await db.connect('admin');
    const jobs = await admin.query('select row_to_json(j)::text as text from graphile_worker._private_jobs j');
    expect(jobs.rowCount).toBe(1);
    for (const secret of [email, 'CANARY', 'Cid', 'Carts']) expect(jobs.rows[0].text).not.toContain(secret);
    server.refusal = undefined;
    const mail = await server.mail(0);
    expect(await verify(mail.text)).toBe('VERIFIED');
    await worker.close();
  });
});

describe('a worker that is killed', () => {
  const keys = () => app.keysDirectory;

  test('while the mail server has the mail and has not said so: it is sent again, and both links are good until one is used', async () => {
    const email = someone();
    await withServer(async (server) => {
      const first = await workerApart(db, keys(), { SMTP_URL: server.url });
      server.answer = new Promise(() => {});
      await app.register(email, 'Dee', 'Drums');
      await server.mail(0);
      await killHard(first);
      server.answer = undefined;
      await workerApart(db, keys(), { SMTP_URL: server.url });
      const again = await server.mail(1);
      expect(again.to).toEqual([email]);
      expect(tokenOf(again.text)).not.toEqual(tokenOf(server.mails[0]?.text ?? ''));
      expect(messageId(again.headers)).toBe(messageId(server.mails[0]?.headers ?? ''));
      expect(await verify(server.mails[0]?.text ?? '')).toBe('VERIFIED');
      expect(await verify(again.text)).toBe('REFUSED');
      await until('the job is done', async () => (await jobsLeft()) === 0);
    });
  });

  test('between sending and marking: the mail comes once more, not never, and the job ends', async () => {
    const email = someone();
    await withServer(async (server) => {
      const first = await workerApart(db, keys(), { SMTP_URL: server.url });
      let answer = () => {};
      server.answer = new Promise((resolve) => {
        answer = resolve;
      });
      await app.register(email, 'Eve', 'Eggs');
      await server.mail(0);
      // The mail's row is held, so that the worker, once it has the answer, waits before it can mark the mail.
      const admin = await db.connect('admin');
      const watcher = await db.connect('admin');
      await admin.query('begin');
      await admin.query('select from identity_private.mails where sent_at is null for update');
      answer();
      await until('the worker wants to mark the mail', async () => {
        const waiting = await watcher.query(
          "select from pg_stat_activity where datname = $1 and wait_event_type = 'Lock' and query like '%mark_mail_sent%'",
          [db.name],
        );
        return waiting.rowCount === 1;
      });
      await killHard(first);
      await admin.query('rollback');
      server.answer = undefined;

      await workerApart(db, keys(), { SMTP_URL: server.url });
      const mail = await server.mail(1);
      expect(mail.to).toEqual([email]);
      expect(await verify(mail.text)).toBe('VERIFIED');
      await until('the job is done', async () => (await jobsLeft()) === 0);
    });
  });
});

function messageId(headers: string): string | undefined {
  return /^message-id: (.*)$/im.exec(headers)?.[1];
}
