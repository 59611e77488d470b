// Ending sessions (SS-05, SS-06, SS-08, SS-14): at once, one's own only, and never more of them than allowed.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { accountOf, finish, start, submit } from '../identity/guesses.ts';
import { Application, type Person, refusal, type SignIn, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { events, logout, pause, refresh, secondOrganization, works } from './tokens.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

const revoke = async (credential: Buffer | null, session: string | null) =>
  (await app.call<{ outcome: string }>(credential, 'select api.revoke_session($1) as outcome', [session])).outcome;

const live = async (person: { id: string }) =>
  (
    await admin.query(
      'select count(*)::int as n from sessions.sessions where person_id = $1 and ends_at > clock_timestamp()',
      [person.id],
    )
  ).rows[0].n;

const record = async (credentials: Buffer[], at: Date[], client: pg.Pool | pg.ClientBase = app.pool): Promise<number> =>
  (await client.query('select sessions.record_activity($1, $2) as n', [credentials.map(sha256), at])).rows[0].n;

const another = (person: Person): Promise<SignIn> => app.signIn(person.email, person.tag);

describe('ending a session', () => {
  it("of one's own ends it for the next request and the next refresh, and is recorded (SS-05, SS-08)", async () => {
    const ada = await app.person('ada');
    const second = await another(ada);
    expect(await revoke(ada.credential, second.session_id)).toBe('ENDED');
    expect(await works(app, second.credential)).toBe(false);
    expect((await refresh(app, second.refreshToken)).outcome).toBe('REFUSED');
    expect(await works(app, ada.credential)).toBe(true);
    expect(await events(admin, 'session.end', ada.id, { session: second.session_id })).toMatchObject([
      { details: { because: 'revoked' }, session_id: ada.session },
    ]);
    expect(await revoke(ada.credential, ada.session)).toBe('ENDED');
    expect(await works(app, ada.credential)).toBe(false);
  });

  it('of somebody else is refused like one that is not there, and is recorded', async () => {
    const [ada, bob] = [await app.person('ada'), await app.person('bob')];
    for (const session of [bob.session, crypto.randomUUID(), null])
      expect(await revoke(ada.credential, session)).toBe('REFUSED');
    expect(await events(admin, 'access.refuse', ada.id, { what: 'revoke session' })).toHaveLength(3);
    expect(await works(app, bob.credential)).toBe(true);
    expect(await refusal(revoke(null, bob.session))).toBe('42501');
    await withoutGuard(db, 'api.revoke_session(uuid)', 'and s.person_id = request.signed_in_id()', '', async () => {
      expect(await revoke(ada.credential, bob.session)).toBe('ENDED');
    });
  });

  it('that is over is refused, and is over for the reason that it ended for', async () => {
    const ada = await app.person('ada');
    const second = await another(ada);
    expect(await logout(app, second.credential)).toBe('ENDED');
    expect(await refusal(logout(app, second.credential))).toBe('AUTHN');
    expect(await revoke(ada.credential, second.session_id)).toBe('REFUSED');
    expect(
      (await admin.query('select ended_because from sessions.sessions where id = $1', [second.session_id])).rows,
    ).toEqual([{ ended_because: 'logout' }]);
  });

  it("all others at once leaves this one, and other people's", async () => {
    const [ada, bob] = [await app.person('ada'), await app.person('bob')];
    const others = [await another(ada), await another(ada)];
    expect(await app.call(ada.credential, 'select api.revoke_other_sessions() as outcome')).toEqual({
      outcome: 'ENDED',
    });
    expect(await Promise.all([ada, ...others, bob].map(({ credential }) => works(app, credential)))).toEqual([
      true,
      false,
      false,
      true,
    ]);
    for (const { refreshToken } of others) expect((await refresh(app, refreshToken)).outcome).toBe('REFUSED');
    expect((await refresh(app, ada.refreshToken)).outcome).toBe('SIGNED_IN');
  });

  it('is not for who has a role but no session: nobody is signed out by a bare login', async () => {
    const ada = await app.person('ada');
    const client = await db.connect('authenticator');
    await client.query('set role safetypin_member');
    expect((await client.query('select api.logout() as outcome')).rows).toEqual([{ outcome: 'REFUSED' }]);
    expect((await client.query('select api.revoke_other_sessions() as outcome')).rows).toEqual([
      { outcome: 'REFUSED' },
    ]);
    expect(await refusal(client.query('select api.revoke_session($1)', [ada.session]))).toBe('CTXNO');
    expect(await works(app, ada.credential)).toBe(true);
  });

  it('is seen by its owner only: everybody reads their own sessions', async () => {
    const [ada, bob] = [await app.person('ada'), await app.person('bob')];
    const second = await another(ada);
    await record([ada.credential, bob.credential], [new Date(), new Date()]);
    const read = 'select id from sessions.sessions order by id';
    expect((await app.rows(ada.credential, read)).map(({ id }) => id)).toEqual([ada.session, second.session_id].sort());
    expect(await app.rows(ada.credential, 'select session_id from sessions.activity')).toEqual([
      { session_id: ada.session },
    ]);
    expect(await app.rows(bob.credential, read)).toEqual([{ id: bob.session }]);
    expect(await refusal(app.rows(null, read))).toBe('42501');
    expect(await refusal(app.rows(ada.credential, 'select * from sessions_private.credentials'))).toBe('42501');
  });

  it('comes with suspending the person, also to a sign-in that is under way (SS-06)', async () => {
    const suspend = (ada: Person) =>
      admin.query("update identity.people set status = 'suspended' where id = $1", [ada.id]);
    const overtaken = async (): Promise<number> => {
      const ada = await app.person('ada');
      const { attempt } = await start(app, ada.email);
      await submit(app, attempt, ada.tag);
      const slow = finish(app, attempt, ada.tag);
      await pause(150);
      await suspend(ada);
      expect(await slow).toBe('SIGNED_IN');
      return live(ada);
    };
    const signIn = 'api_steps.finish_sign_in(uuid,bytea,uuid,bytea,bytea)';
    await withoutGuard(db, signIn, /(v_organization := sessions_private)/, 'perform pg_sleep(0.4); $1', async () => {
      expect(await overtaken()).toBe(0);
    });
    await withoutGuard(
      db,
      signIn,
      /for no key update of p, w;([\s\S]*?)(v_organization := sessions_private)/,
      ';$1perform pg_sleep(0.4); $2',
      async () => {
        expect(await overtaken()).toBe(1);
      },
    );
  });
});

describe('the number of sessions of a person', () => {
  it('holds in a race of 50 sign-ins: the oldest end (SS-14)', async () => {
    const ada = await app.person('ada');
    await admin.query("update platform.limits set value = 7 where name = 'session.parallel'");
    const race = async () => {
      const attempts = [];
      for (let i = 0; i < 50; i += 1) {
        attempts.push((await start(app, ada.email)).attempt);
        await admin.query('delete from identity_private.lockouts where key = $1', [await accountOf(admin, ada)]);
        await submit(app, attempts.at(-1) ?? null, ada.tag);
      }
      expect(new Set(await Promise.all(attempts.map((attempt) => finish(app, attempt, ada.tag))))).toEqual(
        new Set(['SIGNED_IN']),
      );
    };
    await race();
    expect(await live(ada)).toBe(7);
    expect(await works(app, ada.credential)).toBe(false);
    expect(
      (
        await admin.query(
          "select count(*)::int as n from sessions.sessions where person_id = $1 and ended_because = 'limit'",
          [ada.id],
        )
      ).rows,
    ).toEqual([{ n: 44 }]);
    await withoutGuard(
      db,
      'api_steps.finish_sign_in(uuid,bytea,uuid,bytea,bytea)',
      'for no key update of p, w',
      '',
      () =>
        withoutGuard(
          db,
          'sessions_private.start_session(uuid,uuid,integer,bytea,bytea)',
          /perform from identity\.people .* for no key update;/,
          '',
          async () => {
            await race();
            expect(await live(ada)).toBeGreaterThan(7);
          },
        ),
    );
    await admin.query("update platform.limits set value = 50 where name = 'session.parallel'");
  });
});

it('a second organization does not make a second session', async () => {
  const ada = await app.person('ada');
  await secondOrganization(app, ada);
  expect(await live(ada)).toBe(1);
});
