// Mails (LG-11, LG-12): what is written to whom, how often, and by whom tokens are made.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { composeAtOnce, mailTo, someAddress, tokenOf, verify } from './mailbox.ts';

const PER_HOUR = 5;

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

const askReset = (email: string) => app.call(null, 'select api.request_password_reset($1)', [email]);
const askAgain = (email: string) => app.call(null, 'select api.resend_verification($1)', [email]);
/** As if all mails had been written that much earlier. */
const pass = (time: string) =>
  admin.query(
    `update identity_private.mails set created_at = created_at - $1::interval, sent_at = sent_at - $1::interval, composed_at = composed_at - $1::interval`,
    [time],
  );

describe('one address', () => {
  it(`gets ${PER_HOUR} mails of a kind in an hour, through whatever door they are asked for and however it is spelt`, async () => {
    const email = someAddress();
    for (let i = 0; i < 3; i += 1) await app.register(email.toUpperCase(), 'Mallory', null);
    for (let i = 0; i < 4; i += 1) await askAgain(i % 2 ? email : ` ${email}`);
    expect((await app.mails()).filter(({ recipient }) => recipient === email)).toHaveLength(PER_HOUR);
    await askAgain(email);
    expect(await app.mails()).toEqual([]);
    await pass('1 hour 1 second');
    await askAgain(email);
    expect(await app.mails()).toHaveLength(1);
  });

  it('and not more when many are written at once', async () => {
    const ada = await app.person('ada');
    for (let i = 0; i < 3 * PER_HOUR; i += 1) await askReset(ada.email);
    expect((await composeAtOnce(app, db)).filter(({ recipient }) => recipient === ada.email)).toHaveLength(PER_HOUR);
  });

  it('which would be more had its turn not been taken', async () => {
    const ada = await app.person('ada');
    for (let i = 0; i < 3 * PER_HOUR; i += 1) await askReset(ada.email);
    await withoutGuard(
      db,
      'identity.compose_mail(uuid)',
      /perform identity_private\.hold_address\(v_address\);([\s\S]*?)(update identity_private\.mails m set composed_at)/,
      '$1perform pg_sleep(0.1); $2',
      async () => {
        expect((await composeAtOnce(app, db)).length).toBeGreaterThan(PER_HOUR);
      },
    );
  });

  /** Somebody else asks every ten minutes for three hours: how many mails come. */
  async function nagged(): Promise<number> {
    const ada = await app.person('ada');
    let came = 0;
    for (let i = 0; i < 18; i += 1) {
      await askReset(ada.email);
      came += (await app.mails()).length;
      await pass('10 minutes 1 second');
    }
    return came;
  }

  it('cannot be cut off by somebody who keeps asking: what was left out is not counted', async () => {
    expect(await nagged()).toBeGreaterThanOrEqual(2 * PER_HOUR);
    await withoutGuard(
      db,
      'identity.compose_mail(uuid)',
      /(perform identity_private\.hold_address[\s\S]*?)set sent_at = /,
      '$1set composed_at = clock_timestamp(), sent_at = ',
      async () => {
        expect(await nagged()).toBe(PER_HOUR);
      },
    );
  });

  it('does not use up what others get, nor one kind what another kind gets', async () => {
    const [ada, bob] = [await app.person('ada'), await app.person('bob')];
    for (let i = 0; i <= PER_HOUR; i += 1) await askReset(ada.email);
    await app.mails();
    await askReset(bob.email);
    await askAgain(ada.email);
    expect((await app.mails()).map(({ recipient, kind }) => [recipient, kind])).toEqual([
      [bob.email, 'password_reset'],
      [ada.email, 'already_registered'],
    ]);
  });
});

describe('a mail', () => {
  /** What a worker that has the job of one mail gets for another one, or for the same one again. */
  async function composed(
    client: pg.ClientBase,
    mail: string,
  ): Promise<{ recipient: string; variables: Record<string, string> }[]> {
    return (await client.query('select * from identity.compose_mail($1)', [mail])).rows;
  }

  /** A transaction of the worker, opened for the waiting mail. */
  async function inJob<T>(
    work: (client: pg.Client, mail: string) => Promise<T>,
    end: 'commit' | 'rollback' = 'commit',
  ): Promise<T> {
    const { rows } = await admin.query(
      "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' returning id, payload ->> 'id' as mail",
    );
    const client = await db.connect('jobs');
    try {
      await client.query('begin');
      await client.query("select set_config('role', platform.open_job($1, $2), true)", [
        rows[0].id,
        await app.envelopes.seal(null),
      ]);
      const result = await work(client, rows[0].mail);
      await client.query(end);
      return result;
    } finally {
      await client.end();
    }
  }

  const done = () => admin.query('delete from graphile_worker._private_jobs');

  it('that is tried again carries a new token, the first one stays good, and using one uses both', async () => {
    for (const used of [0, 1]) {
      const email = someAddress();
      await app.register(email, 'Ada', null);
      const tokens = [await inJob(composed), await inJob(composed)].map(([mail]) =>
        Buffer.from(mail?.variables.token ?? '', 'base64url'),
      );
      await done();
      expect(tokens[0]).not.toEqual(tokens[1]);
      expect(await verify(app, tokens[used] ?? null)).toBe('VERIFIED');
      expect(await verify(app, tokens[1 - used] ?? null)).toBe('REFUSED');
    }
  });

  it('that was taken back leaves no token that is good', async () => {
    await app.register(someAddress(), 'Ada', null);
    const [mail] = await inJob(composed, 'rollback');
    await done();
    expect(await verify(app, Buffer.from(mail?.variables.token ?? '', 'base64url'))).toBe('REFUSED');
  });

  it('that was sent is not written again', async () => {
    await app.register(someAddress(), 'Ada', null);
    await inJob(async (client, mail) => {
      await client.query('select identity.mark_mail_sent($1)', [mail]);
      expect(await composed(client, mail)).toEqual([]);
    });
    await done();
  });

  it('is written by its job only: not by the login of the application, nor by the worker without a job', async () => {
    await app.register(someAddress(), 'Ada', null);
    const { rows } = await admin.query('select id from identity_private.mails order by created_at desc limit 1');
    const person = await app.person('ada');
    for (const call of ['identity.compose_mail', 'identity.mark_mail_sent']) {
      for (const credential of [null, person.credential]) {
        expect(await refusal(app.rows(credential, `select ${call}($1)`, [rows[0].id]))).toBe('42501');
      }
      const worker = await db.connect('jobs');
      expect(await refusal(worker.query(`select ${call}($1)`, [rows[0].id]))).toBe('DENYD');
      await worker.query('begin');
      expect(await refusal(worker.query("select sessions.open_request(null, null, '{}')"))).toBe('42501');
      await worker.end();
    }
  });

  it('to nobody is not written, and neither is one to somebody who may not sign in', async () => {
    const gone = await app.person('gone');
    await admin.query("update identity.people set status = 'suspended' where id = $1", [gone.id]);
    for (const email of [gone.email, someAddress(), 'no address', '']) await askReset(email);
    expect(await app.mails()).toEqual([]);
    expect(
      (
        await admin.query(
          "select 1 from identity_private.mails where sent_at is null and created_at > (select max(created_at) - interval '1 second' from identity_private.mails) and lookup is not null",
        )
      ).rows,
    ).toEqual([]);
  });

  it('has its secrets nowhere but in itself: not in the queue, not in the outbox', async () => {
    const person: Person = await app.person('ada');
    await askReset(person.email);
    const queue = JSON.stringify((await admin.query('select payload from graphile_worker._private_jobs')).rows);
    expect(queue).toMatch(/^\[\{"payload":\{"id":"[0-9a-f-]{36}"\}\}\]$/);
    const mail = await mailTo(app, person.email);
    expect(tokenOf(mail)).toHaveLength(32);
    const { rows } = await admin.query("select string_agg(m::text, ' ') as outbox from identity_private.mails m");
    for (const secret of [tokenOf(mail).toString('hex'), mail.variables.token ?? '', person.email])
      expect(rows[0].outbox).not.toContain(secret);
  });

  it('of the worker is read by nobody with a context of another transaction', async () => {
    await app.register(someAddress(), 'Ada', null);
    const context = await inJob(
      async (client) => (await client.query("select current_setting('safetypin.context') as value")).rows[0].value,
    );
    const thief = await db.connect('jobs');
    await thief.query('begin');
    await thief.query("select set_config('safetypin.context', $1, true)", [context]);
    expect(
      await refusal(thief.query('select * from identity.compose_mail($1)', [randomBytes(16).toString('hex')])),
    ).toBe('DENYD');
    await done();
  });
});
