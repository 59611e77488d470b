// Guessing (F2): what was tried stays counted, whoever owns the transaction, and one counted try is good for one guess.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import {
  accountOf,
  counted,
  FINISH,
  finish,
  finishing,
  forget,
  guessCode,
  START,
  START_CODE,
  SUBMIT,
  start,
  submit,
  waitingForCode,
  wrongCodes,
} from './guesses.ts';

const RESOLVE = 'identity_private.resolve_attempt(uuid,text,bytea)';
/** SAFETYPIN_TEST_SCALE 1 is the whole attack. */
const MANY = Math.max(50, Math.round(2000 * loadConfig().testScale));

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

/** One transaction of the application's login, opened for nobody, whose end the attacker decides. */
async function hostile<T>(end: 'commit' | 'rollback', work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = await db.connect('authenticator');
  try {
    await client.query('begin');
    await app.open(client, null);
    return await work(client);
  } finally {
    await client.query(end);
    await client.end();
  }
}

describe('an attacker with the login of the application', () => {
  /** F2: each try in a subtransaction that is taken back unless it was right. Returns how many codes were judged, and the finding. */
  const takingBack = (email: string, codes: string[]) =>
    hostile('commit', async (client) => {
      await client.query(`do $$
      declare attempt uuid; code text; outcome text; judged int := 0; refused int := 0; found text := '';
      begin
        foreach code in array '{${codes}}'::text[] loop
          begin
            select s.attempt into attempt from api_steps.start_email_code('${email}') s;
            perform api_steps.submit_email_code(attempt, code);
            outcome := api_steps.finish_email_code(attempt, code);
            judged := judged + 1;
            if outcome = 'VERIFIED' then found := code; exit; end if;
            raise exception 'take it back';
          exception
            when raise_exception then null;
            when sqlstate 'GUESS' then refused := refused + 1;
          end;
        end loop;
        perform set_config('test.result', format('%s,%s,%s', judged, refused, found), false);
      end $$`);
      const { rows } = await client.query("select string_to_array(current_setting('test.result'), ',') as result");
      return rows[0].result as string[];
    });

  it('gets no answer to a code in the transaction that stored it, however often it is taken back (F2)', async () => {
    const { email, code, account } = await waitingForCode(app, admin);
    expect(await takingBack(email, [...wrongCodes(code, MANY), code])).toEqual(['0', String(MANY + 1), '']);
    expect(await counted(admin, account)).toMatchObject({ failures: 0 });
    expect(await guessCode(app, email, code)).toBe('VERIFIED');
  });

  it('who would have found the code that way, with nothing counted, were an answer given at once', async () => {
    const { email, code, account } = await waitingForCode(app, admin);
    await withoutGuard(
      db,
      RESOLVE,
      'if v_attempt.guess_transaction = pg_current_xact_id() then',
      'if false then',
      async () => {
        expect(await takingBack(email, [...wrongCodes(code, MANY), code])).toEqual([String(MANY + 1), '0', code]);
      },
    );
    expect((await counted(admin, account)).failures).toBeLessThanOrEqual(1);
  });

  const sameTransaction = [
    ['in one transaction', [START, SUBMIT, FINISH]],
    ['in a savepoint of the same transaction', ['savepoint a', START, SUBMIT, FINISH]],
    ['after a savepoint that was released', [START, 'savepoint a', SUBMIT, 'release a', FINISH]],
    ['with the guess stored outside and resolved inside a savepoint', [START, SUBMIT, 'savepoint a', FINISH]],
  ] as const;

  async function walk(
    client: pg.Client,
    steps: readonly string[],
    attempt: string | null,
    tag: Buffer,
  ): Promise<string> {
    let outcome = '';
    for (const step of steps) {
      if (step === START) attempt = (await client.query(START, [ada.email])).rows[0].attempt;
      else if (step === SUBMIT) await client.query(SUBMIT, [attempt, tag]);
      else if (step === FINISH) outcome = (await client.query(FINISH, finishing(attempt, tag))).rows[0].outcome;
      else await client.query(step);
    }
    return outcome;
  }

  it.each(sameTransaction)('gets no answer to a password %s, right or wrong', async (_what, steps) => {
    for (const tag of [ada.tag, randomBytes(32)]) {
      expect(await refusal(hostile('rollback', (client) => walk(client, steps, null, tag)))).toBe('GUESS');
    }
    await withoutGuard(
      db,
      RESOLVE,
      'if v_attempt.guess_transaction = pg_current_xact_id() then',
      'if false then',
      async () => {
        expect(await hostile('rollback', (client) => walk(client, steps, null, ada.tag))).toBe('SIGNED_IN');
      },
    );
    expect(await counted(admin, account)).toMatchObject({ failures: 0 });
  });

  it('gets no answer where the guess was taken back before it is answered', async () => {
    const { attempt } = await start(app, ada.email);
    expect(
      await hostile('commit', async (client) =>
        walk(client, ['savepoint a', SUBMIT, 'rollback to a', FINISH], attempt, ada.tag),
      ),
    ).toBe('REFUSED');
    expect(await counted(admin, account)).toMatchObject({ failures: 1 });
  });

  it('taking an answer back gets nothing but the same answer again, for the same guess', async () => {
    const wrong = randomBytes(32);
    const { attempt } = await start(app, ada.email);
    await submit(app, attempt, wrong);
    const answers = (tags: Buffer[]) =>
      hostile('rollback', async (client) => {
        const seen = [];
        for (const tag of tags) {
          await client.query('savepoint a');
          seen.push((await client.query(FINISH, finishing(attempt, tag))).rows[0].outcome);
          await client.query('rollback to a');
        }
        return seen;
      });
    expect(new Set(await answers([wrong, ...Array.from({ length: 50 }, () => randomBytes(32)), ada.tag]))).toEqual(
      new Set(['REFUSED']),
    );
    expect(await counted(admin, account)).toMatchObject({ failures: 1 });
    await withoutGuard(db, RESOLVE, /and a\.guess_mac = keyring_private\.guess_mac\(.*\)\n/, '\n', async () => {
      expect(await answers([wrong, ada.tag])).toEqual(['REFUSED', 'SIGNED_IN']);
    });
    expect(await finish(app, attempt, wrong)).toBe('REFUSED');
  });

  it('cannot change a stored guess, nor leave the place for it open', async () => {
    const { attempt } = await start(app, ada.email);
    expect(await submit(app, attempt, null)).toBe(false);
    expect(await submit(app, attempt, randomBytes(32))).toBe(true);
    expect(await submit(app, attempt, ada.tag)).toBe(false);
    expect(await finish(app, attempt, ada.tag)).toBe('REFUSED');
    await withoutGuard(
      db,
      'identity_private.submit_attempt(uuid,text,bytea)',
      'and a.guess_mac is null',
      '',
      async () => {
        expect(await submit(app, attempt, ada.tag)).toBe(true);
        expect(await finish(app, attempt, ada.tag)).toBe('SIGNED_IN');
      },
    );
  });
});

describe('a counted try', () => {
  it('is answered once, also when many ask at once', async () => {
    const { attempt } = await start(app, ada.email);
    await submit(app, attempt, ada.tag);
    const answers = await Promise.all(Array.from({ length: 20 }, () => finish(app, attempt, ada.tag)));
    expect(answers.filter((outcome) => outcome === 'SIGNED_IN')).toHaveLength(1);
    expect(await finish(app, attempt, ada.tag)).toBe('REFUSED');
    await withoutGuard(db, RESOLVE, 'and a.resolved_at is null', '', async () => {
      expect(await finish(app, attempt, ada.tag)).toBe('SIGNED_IN');
    });
  });

  it('is good for its own guess, not for that of another try', async () => {
    const [one, two] = [await start(app, ada.email), await start(app, 'nobody@example.com')];
    await submit(app, one.attempt, randomBytes(32));
    await submit(app, two.attempt, ada.tag);
    expect(await finish(app, one.attempt, ada.tag)).toBe('REFUSED');
    expect(await finish(app, two.attempt, ada.tag)).toBe('REFUSED');
  });

  it('is good at its own door only', async () => {
    const { attempt } = await start(app, ada.email);
    expect(await app.call(null, 'select api_steps.submit_email_code($1, $2) as stored', [attempt, '000000'])).toEqual({
      stored: false,
    });
    const code = await app.call<{ attempt: string }>(null, START_CODE, [ada.email]);
    expect(await submit(app, code.attempt, ada.tag)).toBe(false);
    expect(await finish(app, code.attempt, ada.tag)).toBe('REFUSED');
    await withoutGuard(
      db,
      'identity_private.submit_attempt(uuid,text,bytea)',
      'and a.door = submit_attempt.door',
      '',
      async () => {
        await withoutGuard(db, RESOLVE, 'and a.door = resolve_attempt.door', '', async () => {
          expect(await submit(app, code.attempt, ada.tag)).toBe(true);
          expect(await finish(app, code.attempt, ada.tag)).toBe('SIGNED_IN');
        });
      },
    );
  });

  it('runs out: it is not stored late, and a stored guess is not answered late', async () => {
    const age = (attempt: string | null) =>
      admin.query(
        "update identity_private.attempts set created_at = created_at - interval '121 seconds' where id = $1",
        [attempt],
      );
    const late = await start(app, ada.email);
    await age(late.attempt);
    expect(await submit(app, late.attempt, ada.tag)).toBe(false);
    // Otherwise guesses at a code could be counted, and forgotten, before the code is even made.
    const banked = await start(app, ada.email);
    await submit(app, banked.attempt, ada.tag);
    await age(banked.attempt);
    expect(await finish(app, banked.attempt, ada.tag)).toBe('REFUSED');
  });

  it('that never was, or is nothing, is refused like any other', async () => {
    for (const attempt of [null, crypto.randomUUID()]) {
      expect(await submit(app, attempt, ada.tag)).toBe(false);
      expect(await finish(app, attempt, ada.tag)).toBe('REFUSED');
    }
  });
});
