// Exchanging refresh tokens (SS-03, SS-06, SS-10, SS-11, OT-11, JW-05): what it moves, what it does not, and who is refused.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeSecret } from '../../src/identity/secrets.ts';
import { variations } from '../identity/mailbox.ts';
import { Application, type Person, refusal, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import {
  events,
  held,
  logout,
  pause,
  REFRESH,
  REFUSED,
  refresh,
  SWITCH,
  secondOrganization,
  switchTo,
  works,
} from './tokens.ts';

const REFRESH_SESSION = 'api_steps.refresh_session(bytea,bytea,bytea)';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

const family = async (session: string) =>
  (
    await admin.query(
      'select hash, successor, rotated_at is not null as rotated from sessions_private.refresh_tokens where session_id = $1 order by created_at',
      [session],
    )
  ).rows;

const endOf = async (session: string) =>
  (
    await admin.query(
      'select ends_at <= clock_timestamp() as over, ended_because as because from sessions.sessions where id = $1',
      [session],
    )
  ).rows[0];

const LIVE = { over: false, because: null };

describe('an exchange', () => {
  it('moves neither the absolute end, nor the assurance, nor when the person signed in (SS-10, OT-11)', async () => {
    const ada = await app.person('ada');
    await admin.query(
      "update sessions.sessions set assurance = 2, authenticated_at = authenticated_at - interval '2 days', ends_at = ends_at - interval '2 days' where id = $1",
      [ada.session],
    );
    const facts = 'select ends_at as expires_at, authenticated_at, assurance from sessions.sessions where id = $1';
    const before = (await admin.query(facts, [ada.session])).rows[0];
    let token = ada.refreshToken;
    for (let i = 0; i < 5; i += 1) {
      const answer = await refresh(app, token);
      expect(answer).toMatchObject({ outcome: 'SIGNED_IN', ...before });
      token = answer.refreshToken;
    }
    expect((await admin.query(facts, [ada.session])).rows[0]).toEqual(before);
  });

  it('gives no access token that outlives the session, and none after its end', async () => {
    const ada = await app.person('ada');
    await admin.query(
      "update sessions.sessions set ends_at = clock_timestamp() + interval '100 seconds' where id = $1",
      [ada.session],
    );
    const answer = await refresh(app, ada.refreshToken);
    expect(answer.access_expires_at).toEqual(answer.expires_at);
    await admin.query('update sessions.sessions set ends_at = clock_timestamp() where id = $1', [ada.session]);
    expect(await refresh(app, answer.refreshToken)).toMatchObject(REFUSED);
    expect(await works(app, answer.credential)).toBe(false);
  });

  it('keeps an access token to its ten minutes while the session lives on (SS-03)', async () => {
    const ada = await app.person('ada');
    const { access_expires_at: until } = await refresh(app, ada.refreshToken);
    expect(Math.round(((until as Date).getTime() - Date.now()) / 1000)).toBeGreaterThan(590);
    expect(Math.round(((until as Date).getTime() - Date.now()) / 1000)).toBeLessThanOrEqual(600);
    await admin.query('update sessions_private.credentials set expires_at = clock_timestamp() where hash = $1', [
      sha256(ada.credential),
    ]);
    expect(await works(app, ada.credential)).toBe(false);
    expect(await endOf(ada.session)).toEqual(LIVE);
  });

  it('is refused to a session that was idle too long; and is a use itself (SS-03)', async () => {
    const age = (who: Person, time: string) =>
      admin.query('update sessions.sessions set created_at = created_at - $2::interval where id = $1', [
        who.session,
        time,
      ]);
    const idle = await app.person('idle');
    await age(idle, '14 days 1 second');
    expect(await refresh(app, idle.refreshToken)).toMatchObject(REFUSED);
    const ada = await app.person('ada');
    await age(ada, '13 days 23 hours');
    const answer = await refresh(app, ada.refreshToken);
    await age(ada, '2 hours');
    expect(await works(app, answer.credential)).toBe(true);
    expect((await refresh(app, answer.refreshToken)).outcome).toBe('SIGNED_IN');
  });

  it('is refused to a person who was suspended, and stays refused when she is back (SS-06)', async () => {
    const ada = await app.person('ada');
    for (const status of ['suspended', 'active']) {
      await admin.query('update identity.people set status = $2 where id = $1', [ada.id, status]);
      expect(await refresh(app, ada.refreshToken)).toMatchObject(REFUSED);
    }
    expect(await endOf(ada.session)).toEqual({ over: true, because: 'person' });
  });

  it('is refused after logout, also where it was asked for just before, and is recorded', async () => {
    const ada = await app.person('ada');
    const leaving = await held(app, ada.credential, 'select api.logout()');
    const waiting = refresh(app, ada.refreshToken);
    await pause(100);
    await leaving.end();
    expect(await waiting).toMatchObject(REFUSED);
    expect(await refresh(app, ada.refreshToken)).toMatchObject(REFUSED);
    expect(await events(admin, 'access.refuse', ada.id, { what: 'refresh' })).toHaveLength(2);
  });

  it('is refused after a switch of organization, also where it was asked for just before (SS-02)', async () => {
    const race = async () => {
      const ada = await app.person('ada');
      const second = await secondOrganization(app, ada);
      const switching = await held(app, ada.credential, SWITCH, [second, randomBytes(32), randomBytes(32)]);
      const waiting = refresh(app, ada.refreshToken);
      await pause(100);
      await switching.end();
      return (await waiting).outcome;
    };
    expect(await race()).toBe('REFUSED');
    await withoutGuard(
      db,
      REFRESH_SESSION,
      /if not found then\s+-- The session was switched/,
      'if false then --',
      async () => {
        expect(await race()).toBe('SIGNED_IN');
      },
    );
    const ada = await app.person('ada');
    const switched = await switchTo(app, ada, await secondOrganization(app, ada));
    expect(await refresh(app, ada.refreshToken)).toMatchObject(REFUSED);
    expect((await refresh(app, switched.refreshToken)).organization_id).toBe(switched.organization_id);
  });
});

describe('what is presented', () => {
  it('is refused cut, flipped, longer, as its own hash, as nothing or as a credential, and nothing changes (SS-11, JW-05)', async () => {
    const ada = await app.person('ada');
    const others = [
      ...variations(ada.refreshToken),
      sha256(ada.refreshToken),
      ada.credential,
      randomBytes(32),
      Buffer.alloc(0),
    ];
    for (const other of others) expect(await refresh(app, other)).toMatchObject(REFUSED);
    expect(await app.call(null, REFRESH, [null, randomBytes(32), randomBytes(32)])).toMatchObject(REFUSED);
    expect(await works(app, ada.refreshToken)).toBe(false);
    expect(await family(ada.session)).toHaveLength(1);
    expect((await refresh(app, ada.refreshToken)).outcome).toBe('SIGNED_IN');
  });

  it('has one spelling: none that is cut, flipped, in other letters or padded is decoded to it', () => {
    const secret = randomBytes(32);
    const text = secret.toString('base64url');
    expect(decodeSecret(text)).toEqual(secret);
    const spelt = [
      `${text}=`,
      `${text}==`,
      ` ${text}`,
      `${text}\n`,
      `${text}A`,
      text.toUpperCase(),
      text.toLowerCase(),
      secret.toString('base64'),
      secret.toString('hex'),
      '',
    ];
    for (let i = 1; i <= text.length; i += 1) spelt.push(text.slice(i), text.slice(0, -i));
    const last = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    for (const sign of last) spelt.push(text.slice(0, -1) + sign);
    for (const other of spelt.filter((each) => each !== text)) {
      expect(decodeSecret(other).equals(secret), other).toBe(false);
    }
  });

  it('with hashes that are none changes nothing: the token is good still', async () => {
    const [ada, bob] = [await app.person('ada'), await app.person('bob')];
    const good = randomBytes(32);
    for (const [successor, credential, code] of [
      [null, good, '23514'],
      [good, null, '23502'],
      [good.subarray(1), good, '23514'],
      [good, Buffer.alloc(0), '23514'],
      [sha256(ada.refreshToken), good, '23505'],
      [sha256(bob.refreshToken), good, '23505'],
      [good, sha256(bob.credential), '23505'],
    ] as const)
      expect(await refusal(app.call(null, REFRESH, [ada.refreshToken, successor, credential]))).toBe(code);
    expect(await endOf(ada.session)).toEqual(LIVE);
    expect((await refresh(app, ada.refreshToken)).outcome).toBe('SIGNED_IN');
    expect(await logout(app, bob.credential)).toBe('ENDED');
  });
});
