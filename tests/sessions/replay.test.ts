// Replayed refresh tokens (SS-09; RFC 9700 4.14.2): a lost answer signs nobody out, a stolen token signs the thief out.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { cleanUp, events, firstUse, REFUSED, refresh, works } from './tokens.ts';

const REFRESH_SESSION = 'api_steps.refresh_session(bytea,bytea,bytea)';
const MANY = Math.max(50, Math.round(500 * loadConfig().testScale));

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
const STOLEN = { over: true, because: 'replay' };

describe('a lost answer', () => {
  it('is given again: the same successor, while neither it nor what came with it was used', async () => {
    const ada = await app.person('ada');
    await firstUse(app, ada.credential);
    const answers = [
      await refresh(app, ada.refreshToken),
      await refresh(app, ada.refreshToken),
      await refresh(app, ada.refreshToken),
    ];
    for (const answer of answers) {
      expect(answer).toMatchObject({
        outcome: 'SIGNED_IN',
        session_id: ada.session,
        person_id: ada.id,
        organization_id: ada.organization,
      });
      expect(answer.refreshToken).toEqual(answers[0]?.refreshToken);
      expect(await works(app, answer.credential)).toBe(true);
    }
    expect(await family(ada.session)).toHaveLength(2);
    expect(await events(admin, 'token.refresh', ada.id)).toHaveLength(1);
    expect((await refresh(app, answers[0]?.refreshToken as Buffer)).outcome).toBe('SIGNED_IN');
    expect(await endOf(ada.session)).toEqual(LIVE);
  });

  it(`of ${MANY} exchanges at once is one successor, the same for all, and no family of its own (SS-09)`, async () => {
    const ada = await app.person('ada');
    const answers = await Promise.all(Array.from({ length: MANY }, () => refresh(app, ada.refreshToken)));
    expect(new Set(answers.map(({ outcome }) => outcome))).toEqual(new Set(['SIGNED_IN']));
    expect(new Set(answers.map(({ refreshToken }) => refreshToken.toString('hex'))).size).toBe(1);
    const tokens = await family(ada.session);
    expect(tokens.map(({ rotated }) => rotated)).toEqual([true, false]);
    expect(tokens[0].successor).toEqual(tokens[1].hash);
    expect(await endOf(ada.session)).toEqual(LIVE);
    expect((await refresh(app, answers[0]?.refreshToken as Buffer)).outcome).toBe('SIGNED_IN');
  });

  it('which would fail for some, did they not take their turn', async () => {
    const ada = await app.person('ada');
    await withoutGuard(
      db,
      REFRESH_SESSION,
      /for no key update;([\s\S]*?)(if v_token\.rotated_at is null then)/,
      ';$1perform pg_sleep(0.05); $2',
      async () => {
        const answers = await Promise.all(Array.from({ length: 10 }, () => refusal(refresh(app, ada.refreshToken))));
        expect(answers).toContain('23505');
      },
    );
  });
});

describe('a token that was exchanged', () => {
  it('ends the family when its successor was exchanged: both are out, and it is recorded', async () => {
    const ada = await app.person('ada');
    const first = await refresh(app, ada.refreshToken);
    const second = await refresh(app, first.refreshToken);
    expect(await refresh(app, ada.refreshToken)).toMatchObject(REFUSED);
    expect(await endOf(ada.session)).toEqual(STOLEN);
    for (const credential of [ada.credential, first.credential, second.credential])
      expect(await works(app, credential)).toBe(false);
    for (const token of [second.refreshToken, first.refreshToken, ada.refreshToken])
      expect(await refresh(app, token)).toMatchObject(REFUSED);
    expect(await events(admin, 'token.replay', ada.id)).toMatchObject([
      {
        severity: 'alert',
        organization_id: ada.organization,
        details: { session: ada.session, origin: expect.any(String) },
      },
    ]);
  });

  it('however old it is', async () => {
    const ada = await app.person('ada');
    const tokens = [ada.refreshToken];
    for (let i = 0; i < 5; i += 1) tokens.push((await refresh(app, tokens.at(-1) as Buffer)).refreshToken);
    expect(await refresh(app, tokens[2] as Buffer)).toMatchObject(REFUSED);
    expect(await endOf(ada.session)).toEqual(STOLEN);
  });

  it('ends the family when the access token that came with its successor was used', async () => {
    const ada = await app.person('ada');
    const answer = await refresh(app, ada.refreshToken);
    await firstUse(app, answer.credential);
    expect(await refresh(app, ada.refreshToken)).toMatchObject(REFUSED);
    expect(await endOf(ada.session)).toEqual(STOLEN);
    expect(await refresh(app, answer.refreshToken)).toMatchObject(REFUSED);
  });

  it('would give the thief the successor, were that use not looked at', async () => {
    const ada = await app.person('ada');
    await firstUse(app, (await refresh(app, ada.refreshToken)).credential);
    await withoutGuard(
      db,
      REFRESH_SESSION,
      /or exists \(select from sessions_private\.credentials c .*\)/,
      '',
      async () => {
        expect((await refresh(app, ada.refreshToken)).outcome).toBe('SIGNED_IN');
      },
    );
  });

  it('still does days later, when the credential that was used has run out and been removed', async () => {
    const daysLater = async (): Promise<{ kept: number; outcome: string }> => {
      const ada = await app.person('ada');
      const old = await refresh(app, ada.refreshToken);
      const answer = await refresh(app, old.refreshToken);
      for (const { credential } of [old, answer]) await firstUse(app, credential);
      await admin.query(
        "update sessions_private.credentials set expires_at = expires_at - interval '3 days' where session_id = $1",
        [ada.session],
      );
      await cleanUp(app, admin);
      const { rows } = await admin.query('select hash from sessions_private.credentials where session_id = $1', [
        ada.session,
      ]);
      return { kept: rows.length, outcome: (await refresh(app, old.refreshToken)).outcome };
    };
    // Only the one that is still needed is kept.
    expect(await daysLater()).toEqual({ kept: 1, outcome: 'REFUSED' });
    await withoutGuard(
      db,
      'sessions.clean_up(integer)',
      /and not \(o\.first_used_at[\s\S]*?s\.ends_at > v_now\)\)/,
      '',
      async () => {
        expect(await daysLater()).toEqual({ kept: 0, outcome: 'SIGNED_IN' });
      },
    );
  });

  it('is refused to whoever names another successor, and that is theft', async () => {
    const ada = await app.person('ada');
    await refresh(app, ada.refreshToken);
    expect(await refresh(app, ada.refreshToken, randomBytes(32))).toMatchObject(REFUSED);
    expect(await endOf(ada.session)).toEqual(STOLEN);
    const bob = await app.person('bob');
    const answers = await Promise.all(
      Array.from({ length: 10 }, () => refresh(app, bob.refreshToken, randomBytes(32))),
    );
    expect(answers.filter(({ outcome }) => outcome === 'SIGNED_IN')).toHaveLength(1);
    expect(await endOf(bob.session)).toEqual(STOLEN);
  });
});
