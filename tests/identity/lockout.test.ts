// The lock after failures (F19; LG-01, LG-02, LG-06, LG-07, LG-08): exact in a race, one for all doors, never for ever.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Application, type Person, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import {
  accountOf,
  counted,
  finish,
  forget,
  guess,
  guessCode,
  START,
  start,
  submit,
  unlock,
  waitingForCode,
  wrongCodes,
} from './guesses.ts';

const LIMIT = 5;
const START_ATTEMPT = 'identity_private.start_attempt(text,bytea)';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let account: Buffer;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  account = await accountOf(admin, ada);
});

beforeEach(() => forget(admin, account));

describe('the lock', () => {
  it(`of 200 wrong guesses at once ${LIMIT} are judged, and the rest is told when to come back (LG-02)`, async () => {
    const outcomes = await Promise.all(
      Array.from({ length: 200 }, async () => {
        const started = await start(app, ada.email);
        if (started.attempt === null) return started.retry_after;
        const tag = randomBytes(32);
        await submit(app, started.attempt, tag);
        return finish(app, started.attempt, tag);
      }),
    );
    expect(outcomes.filter((outcome) => outcome === 'REFUSED')).toHaveLength(LIMIT);
    const seconds = outcomes.filter((outcome) => typeof outcome === 'number');
    expect(seconds).toHaveLength(200 - LIMIT);
    expect(Math.min(...seconds)).toBeGreaterThan(30);
    expect(Math.max(...seconds)).toBeLessThanOrEqual(60);
    expect(await counted(admin, account)).toEqual({ failures: LIMIT, seconds: 60 });
  });

  it('would have let more through had it looked first and counted then', async () => {
    const naive = `begin
      if (select l.failures >= platform.limit_value('attempt.failures') from identity_private.lockouts l where l.key = account) then
        retry_after := 60;
        return;
      end if;
      insert into identity_private.lockouts as l (key, failures, last_at) values (account, 1, clock_timestamp())
        on conflict on constraint lockouts_pkey do update set failures = l.failures + 1;
      insert into identity_private.attempts (door, account) values (start_attempt.door, start_attempt.account)
        returning id into start_attempt.attempt;
    end`;
    await withoutGuard(db, START_ATTEMPT, /begin[\s\S]*end/, naive, async () => {
      const outcomes = await Promise.all(Array.from({ length: 40 }, () => guess(app, ada.email)));
      expect(outcomes.filter((outcome) => outcome === 'REFUSED').length).toBeGreaterThan(LIMIT);
    });
  });

  it('is one for both doors, also when both are tried at once', async () => {
    const { email, code, account } = await waitingForCode(app, admin);
    const tries = Array.from({ length: 40 }, (_, i) =>
      i % 2 ? guess(app, email) : guessCode(app, email, wrongCodes(code, i + 1)[i] ?? ''),
    );
    const outcomes = await Promise.all(tries);
    expect(outcomes.filter((outcome) => outcome === 'REFUSED')).toHaveLength(LIMIT);
    expect(await counted(admin, account)).toMatchObject({ failures: LIMIT });
    expect(await guessCode(app, email, code)).toBe('LOCKED');
    await unlock(admin, account);
    expect(await guessCode(app, email, code)).toBe('VERIFIED');
  });

  it('hands nothing out, so that no password is hashed for it; the right one is refused under it and good after it (LG-06)', async () => {
    for (let i = 0; i < LIMIT; i += 1) expect(await guess(app, ada.email)).toBe('REFUSED');
    expect(await start(app, ada.email)).toEqual({
      attempt: null,
      retry_after: expect.any(Number),
      scheme: null,
      parameters: null,
      salt: null,
    });
    expect(await app.signIn(ada.email, ada.tag)).toMatchObject({ outcome: 'REFUSED', retry_after: expect.any(Number) });
    expect(await counted(admin, account)).toMatchObject({ failures: LIMIT });
    await unlock(admin, account);
    expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
    expect(await counted(admin, account)).toEqual({ failures: 0, seconds: 0 });
  });

  it('begins anew and doubles with each further failure, up to an hour', async () => {
    for (let i = 0; i < LIMIT; i += 1) await guess(app, ada.email);
    const seconds = [];
    for (let i = 0; i < 8; i += 1) {
      seconds.push((await counted(admin, account)).seconds);
      await unlock(admin, account);
      expect(await guess(app, ada.email)).toBe('REFUSED');
    }
    expect(seconds).toEqual([60, 120, 240, 480, 960, 1920, 3600, 3600]);
    await admin.query(
      'update identity_private.lockouts set failures = 2147483000, locked_until = null where key = $1',
      [account],
    );
    expect(await guess(app, ada.email)).toBe('REFUSED');
    expect(await counted(admin, account)).toMatchObject({ seconds: 3600 });
  });

  it('forgets after a success, and failures that lie a day back do not add up (LG-07)', async () => {
    for (let i = 0; i < LIMIT - 1; i += 1) await guess(app, ada.email);
    expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
    for (let i = 0; i < LIMIT - 1; i += 1) expect(await guess(app, ada.email)).toBe('REFUSED');
    await admin.query(
      "update identity_private.lockouts set last_at = last_at - interval '1 day 1 second' where key = $1",
      [account],
    );
    expect(await guess(app, ada.email)).toBe('REFUSED');
    expect(await counted(admin, account)).toEqual({ failures: 1, seconds: 0 });
  });

  it("of one account is not another one's, and its spelling does not matter", async () => {
    const bob = await app.person('bob');
    for (const email of [
      ada.email,
      ada.email.toUpperCase(),
      ` ${ada.email} `,
      ada.email.replace('ada', 'ADA'),
      ada.email,
    ])
      await guess(app, email);
    expect(await guess(app, ada.email)).toBe('LOCKED');
    expect((await app.signIn(bob.email, bob.tag)).outcome).toBe('SIGNED_IN');
  });

  it('is the same whatever settings the client has', async () => {
    const client = await db.connect('authenticator');
    const settings = [
      'standard_conforming_strings = off',
      'transform_null_equals = on',
      "timezone = 'Asia/Tokyo'",
      "bytea_output = 'escape'",
      "datestyle = 'German'",
    ];
    for (const setting of settings) {
      await client.query('begin');
      await app.open(client, null);
      await client.query(`set local ${setting}`);
      await client.query(START, [ada.email]);
      await client.query('commit');
    }
    expect(await counted(admin, account)).toMatchObject({ failures: settings.length });
  });

  it('holds for addresses that nobody has, in the same way (LG-08)', async () => {
    for (const email of ['nobody.at.all@example.com', 'no address', '']) {
      for (let i = 0; i < LIMIT; i += 1) expect(await guess(app, email)).toBe('REFUSED');
      expect(await guess(app, email)).toBe('LOCKED');
    }
  });

  it('is recorded, at both doors, and says whose account it is where there is one', async () => {
    const { email, code } = await waitingForCode(app, admin);
    const before = (await admin.query('select clock_timestamp() as at')).rows[0].at;
    for (let i = 0; i <= LIMIT; i += 1) await guess(app, ada.email);
    for (let i = 0; i <= LIMIT; i += 1) await guessCode(app, email, wrongCodes(code, 1)[0] ?? '');
    const { rows } = await admin.query(
      `select action, actor_id, details ->> 'because' as because, count(*)::integer
      from audit.events where occurred_at >= $1 and action <> 'registration.request' group by 1, 2, 3 order by 1, 2, 3`,
      [before],
    );
    expect(rows).toEqual([
      { action: 'email.refuse', actor_id: null, because: 'locked', count: 1 },
      { action: 'email.refuse', actor_id: null, because: null, count: LIMIT },
      { action: 'login.failure', actor_id: ada.id, because: 'wrong_password', count: LIMIT },
      { action: 'login.failure', actor_id: null, because: 'locked', count: 1 },
      { action: 'login.lock', actor_id: ada.id, because: null, count: 1 },
      { action: 'login.lock', actor_id: null, because: null, count: 1 },
    ]);
  });

  it('survives a crash, and is written without touching an index (F19)', async () => {
    const { rows } = await admin.query(`select c.relpersistence, array_agg(i.indexrelid::regclass::text) as indexes
      from pg_class c join pg_index i on i.indrelid = c.oid where c.oid = 'identity_private.lockouts'::regclass group by 1`);
    expect(rows).toEqual([{ relpersistence: 'p', indexes: ['identity_private.lockouts_pkey'] }]);
  });
});
