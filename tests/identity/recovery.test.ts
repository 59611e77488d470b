// A forgotten password (PW-10, PW-12, SS-07, LG-08, LG-11, LG-12): the mailbox gives one new password, once, and everybody
// else is out.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, GOOD, type Person, refusal, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { finish, guess, start, submit } from './guesses.ts';
import { MAIL_TOKENS, mailTo, tokenOf, variations } from './mailbox.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

async function resetToken(person: Person): Promise<Buffer> {
  await app.call(null, 'select api.request_password_reset($1)', [person.email]);
  return tokenOf(await mailTo(app, person.email));
}

interface Prepared {
  outcome: string | null;
  reasons: string[];
  scheme: string;
  parameters: object;
  salt: Buffer;
}

const prepare = (token: Buffer | null, facts: object = GOOD) =>
  app.call<Prepared & pg.QueryResultRow>(null, 'select * from api_steps.prepare_password_reset($1, $2)', [
    token,
    facts,
  ]);

const COST = { memory: 19456, passes: 2, parallelism: 1, length: 32 };

const reset = (token: Buffer | null, tag = randomBytes(32), facts: object = GOOD) =>
  app.call<{ outcome: string; reasons: string[] }>(
    null,
    'select * from api_steps.reset_password($1, $2, $3, $4, $5, $6)',
    [token, facts, 'argon2id', COST, randomBytes(16), tag],
  );

const REFUSED = { outcome: 'REFUSED', reasons: ['TOKEN_INVALID'] };
const CHANGED = { outcome: 'CHANGED', reasons: [] };

const signIn = async (person: Person, tag: Buffer) => (await app.signIn(person.email, tag)).outcome;

describe('a reset', () => {
  it('sets the new password, ends every session and refresh token, lifts the lock, and tells the owner (SS-07, LG-11)', async () => {
    const ada = await app.person('ada');
    const second = await app.signIn(ada.email, ada.tag);
    const token = await resetToken(ada);
    while ((await guess(app, ada.email)) !== 'LOCKED');
    const how = await prepare(token);
    expect(how).toMatchObject({ outcome: null, reasons: [], scheme: 'argon2id', parameters: COST });
    expect(how.salt).toHaveLength(16);
    const tag = randomBytes(32);
    expect(await reset(token, tag)).toEqual(CHANGED);
    for (const credential of [ada.credential, second.credential])
      expect(await refusal(app.rows(credential, 'select 1'))).toBe('AUTHN');
    for (const refreshToken of [ada.refreshToken, second.refreshToken]) {
      expect(
        await app.call(null, 'select outcome from api_steps.refresh_session($1, $2, $3)', [
          refreshToken,
          randomBytes(32),
          randomBytes(32),
        ]),
      ).toEqual({ outcome: 'REFUSED' });
    }
    expect(await signIn(ada, ada.tag)).toBe('REFUSED');
    expect(await signIn(ada, tag)).toBe('SIGNED_IN');
    expect(await app.mails()).toEqual([
      expect.objectContaining({ recipient: ada.email, kind: 'password_changed', variables: { name: 'ada' } }),
    ]);
    const { rows } = await admin.query(
      "select action from audit.events where actor_id = $1 and action like 'password_reset.%' order by 1",
      [ada.id],
    );
    expect(rows).toEqual([{ action: 'password_reset.success' }]);
  });

  it('is not begun by asking: until the token is used the old password and the sessions live', async () => {
    const ada = await app.person('ada');
    const token = await resetToken(ada);
    await prepare(token);
    expect(await signIn(ada, ada.tag)).toBe('SIGNED_IN');
    expect(await refusal(app.rows(ada.credential, 'select 1'))).toBe('no refusal');
    expect(await reset(token)).toEqual(CHANGED);
  });

  it('of one person leaves everybody else alone', async () => {
    const [ada, bob] = [await app.person('ada'), await app.person('bob')];
    const bobs = await resetToken(bob);
    expect(await reset(await resetToken(ada))).toEqual(CHANGED);
    expect(await signIn(bob, bob.tag)).toBe('SIGNED_IN');
    expect(await refusal(app.rows(bob.credential, 'select 1'))).toBe('no refusal');
    expect(await reset(bobs)).toEqual(CHANGED);
  });

  it('with a bad password is refused with the reason and uses the token not up', async () => {
    const ada = await app.person('ada');
    const token = await resetToken(ada);
    const short = { ...GOOD, characters: 14, bytes: 14 };
    expect(await prepare(token, short)).toMatchObject({
      outcome: 'REFUSED',
      reasons: ['PASSWORD_TOO_SHORT'],
      salt: null,
    });
    expect(await reset(token, randomBytes(32), short)).toEqual({ outcome: 'REFUSED', reasons: ['PASSWORD_TOO_SHORT'] });
    expect(await prepare(token, {})).toMatchObject({
      outcome: 'REFUSED',
      reasons: ['PASSWORD_INVALID', 'PASSWORD_COMMON', 'PASSWORD_CONTEXT'],
    });
    expect(await refusal(reset(token, randomBytes(31)))).toBe('22023');
    expect(await reset(token)).toEqual(CHANGED);
  });

  it('says to whoever has no token nothing but that, whatever the password', async () => {
    for (const facts of [GOOD, { ...GOOD, common: true }])
      expect(await prepare(randomBytes(32), facts)).toMatchObject({
        outcome: 'REFUSED',
        reasons: ['TOKEN_INVALID'],
        salt: null,
      });
  });
});

describe('the token of a reset', () => {
  it('is good once, also when many bring it at once; the password is that of the one', async () => {
    const ada = await app.person('ada');
    const token = await resetToken(ada);
    const tags = Array.from({ length: 20 }, () => randomBytes(32));
    const outcomes = await Promise.all(tags.map(async (tag) => (await reset(token, tag)).outcome));
    expect(outcomes.filter((outcome) => outcome === 'CHANGED')).toHaveLength(1);
    expect(await signIn(ada, tags[outcomes.indexOf('CHANGED')] ?? (tags[0] as Buffer))).toBe('SIGNED_IN');
    expect(await reset(token)).toEqual(REFUSED);
    expect(await prepare(token)).toMatchObject(REFUSED);
  });

  it('and of two tokens of one mail that are brought at once one is good, without an error', async () => {
    for (let round = 0; round < 10; round += 1) {
      const ada = await app.person('ada');
      const token = await resetToken(ada);
      const beside = randomBytes(32);
      await admin.query(
        `insert into identity_private.tokens (hash, purpose, mail_id, person_id, expires_at)
        select $2, purpose, mail_id, person_id, expires_at from identity_private.tokens where hash = $1`,
        [sha256(token), sha256(beside)],
      );
      const outcomes = await Promise.all([token, beside].map(async (each) => (await reset(each)).outcome));
      expect(outcomes.sort()).toEqual(['CHANGED', 'REFUSED']);
    }
  });

  it('would be good more often without its condition', async () => {
    const token = await resetToken(await app.person('ada'));
    expect(await reset(token)).toEqual(CHANGED);
    await withoutGuard(db, 'api_steps.reset_subject(bytea)', 'and t.consumed_at is null', '', () =>
      withoutGuard(
        db,
        'api_steps.reset_password(bytea,jsonb,text,jsonb,bytea,bytea)',
        /and t\.consumed_at is null and/,
        'and',
        async () => {
          expect(await reset(token)).toEqual(CHANGED);
        },
      ),
    );
  });

  it('is refused after half an hour, for a person who was suspended, and once a newer one went out', async () => {
    const ada = await app.person('ada');
    const old = await resetToken(ada);
    const token = await resetToken(ada);
    expect(await reset(old)).toEqual(REFUSED);
    await admin.query("update identity.people set status = 'suspended' where id = $1", [ada.id]);
    expect(await reset(token)).toEqual(REFUSED);
    await admin.query("update identity.people set status = 'active' where id = $1", [ada.id]);
    await admin.query('update identity_private.tokens set expires_at = clock_timestamp() where hash = $1', [
      sha256(token),
    ]);
    expect(await reset(token)).toEqual(REFUSED);
    const { rows } = await admin.query(
      'select round(extract(epoch from expires_at - created_at))::int as seconds from identity_private.tokens where hash = $1',
      [sha256(old)],
    );
    expect(rows).toEqual([{ seconds: 1800 }]);
  });

  it('is of no use as it stands in a dump, nor cut, flipped or longer (SS-11)', async () => {
    const ada = await app.person('ada');
    const token = await resetToken(ada);
    const { rows } = await admin.query(`${MAIL_TOKENS} where person_id = $1`, [ada.id]);
    const dumped = rows.flatMap((row) => Object.values(row)).filter((value) => Buffer.isBuffer(value));
    expect(dumped.length).toBeGreaterThan(0);
    for (const stolen of [...dumped, ...variations(token), null, Buffer.from(token.toString('base64url'))])
      expect(await reset(stolen)).toEqual(REFUSED);
    expect(await reset(token)).toEqual(CHANGED);
  });

  it('stands alone: neither a code nor a guess at the reset is offered, and no call sets a password without it (PW-12)', async () => {
    const admins = await app.person('admin');
    const bob = await app.person('bob');
    const { rows } =
      await admin.query(`select p.oid::regprocedure::text as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname in ('api', 'api_steps', 'identity', 'sessions', 'access') and p.prosrc ~ 'set_password' order by 1`);
    expect(rows.map(({ name }) => name)).toEqual(['api_steps.reset_password(bytea,jsonb,text,jsonb,bytea,bytea)']);
    expect(
      await refusal(
        app.rows(admins.credential, 'select identity_private.set_password($1, $2, $3, $4, $5)', [
          bob.id,
          'argon2id',
          COST,
          randomBytes(16),
          'x',
        ]),
      ),
    ).toBe('42501');
  });
});

describe('a sign-in with the old password while it is being reset', () => {
  /** The sign-in has compared the password and waits before it makes its session; the reset comes meanwhile. */
  async function overtaken(): Promise<{ signIn: string; reset: string; alive: boolean }> {
    const ada = await app.person('ada');
    const token = await resetToken(ada);
    const { attempt } = await start(app, ada.email);
    await submit(app, attempt, ada.tag);
    const slow = finish(app, attempt, ada.tag);
    await new Promise((resolve) => setTimeout(resolve, 150));
    const changed = await reset(token);
    const signedIn = await slow;
    const { rows } = await admin.query(
      'select count(*)::int as live from sessions.sessions where person_id = $1 and ends_at > clock_timestamp()',
      [ada.id],
    );
    return { signIn: signedIn, reset: changed.outcome, alive: rows[0].live > 0 };
  }

  const FINISH_SIGN_IN = 'api_steps.finish_sign_in(uuid,bytea,uuid,bytea,bytea)';
  const slowly = (guard: RegExp, instead: string, attack: () => Promise<void>) =>
    withoutGuard(db, FINISH_SIGN_IN, guard, instead, attack);

  it('leaves no session behind', async () => {
    await slowly(/(v_organization := sessions_private)/, 'perform pg_sleep(0.4); $1', async () => {
      expect(await overtaken()).toEqual({ signIn: 'SIGNED_IN', reset: 'CHANGED', alive: false });
    });
  });

  it('and would leave one, were the password not held while it is compared', async () => {
    await slowly(
      /for no key update of p, w;([\s\S]*?)(v_organization := sessions_private)/,
      ';$1perform pg_sleep(0.4); $2',
      async () => {
        expect(await overtaken()).toEqual({ signIn: 'SIGNED_IN', reset: 'CHANGED', alive: true });
      },
    );
  });

  it('is compared with the new password if the reset came first', async () => {
    const ada = await app.person('ada');
    const token = await resetToken(ada);
    const { attempt } = await start(app, ada.email);
    await submit(app, attempt, ada.tag);
    await withoutGuard(
      db,
      'api_steps.reset_password(bytea,jsonb,text,jsonb,bytea,bytea)',
      'perform sessions_private.end_sessions',
      'perform pg_sleep(0.4); perform sessions_private.end_sessions',
      async () => {
        const slow = reset(token);
        await new Promise((resolve) => setTimeout(resolve, 150));
        expect(await finish(app, attempt, ada.tag)).toBe('REFUSED');
        expect(await slow).toEqual(CHANGED);
      },
    );
  });
});
