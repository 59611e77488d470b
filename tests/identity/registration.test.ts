// Signing up and proving an address (F1; LG-06, LG-08, LG-12, JW-05, SS-11): nobody learns who has an account, and nobody
// gets into somebody else's.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, GOOD, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { guess, guessCode, start, wrongCodes } from './guesses.ts';
import { MAIL_TOKENS, type Mail, mailTo, rowCounts, someAddress, tokenOf, variations, verify } from './mailbox.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

/** A registration with its mail. */
async function registered(
  email = someAddress(),
  name = 'Ada',
): Promise<{ email: string; tag: Buffer; mail: Mail; token: Buffer }> {
  const tag = await app.register(email, name, null);
  const mail = await mailTo(app, email);
  return { email, tag, mail, token: tokenOf(mail) };
}

const outcome = (email: string, tag: Buffer) => app.signIn(email, tag).then((result) => result.outcome);

describe('whether an address has an account', () => {
  it('changes neither the answer nor the number of rows of any table, at any door (LG-08)', async () => {
    const ada = await app.person('ada');
    const doors: [string, (email: string) => Promise<unknown>][] = [
      [
        'register',
        (email) =>
          app.call(null, 'select * from api_steps.register($1, $2, $3, $4, $5, $6, $7, $8)', [
            email,
            'Name',
            null,
            GOOD,
            'argon2id',
            { memory: 19456, passes: 2, parallelism: 1, length: 32 },
            randomBytes(16),
            randomBytes(32),
          ]),
      ],
      ['resend', (email) => app.call(null, 'select api.resend_verification($1) as outcome', [email])],
      ['reset', (email) => app.call(null, 'select api.request_password_reset($1) as outcome', [email])],
      ['sign in', (email) => app.signIn(email, randomBytes(32)).then((result) => [result.outcome, result.retry_after])],
      ['code', (email) => guessCode(app, email, '123456')],
    ];
    for (const [door, knock] of doors) {
      const seen = [];
      for (const email of [ada.email, someAddress()]) {
        const before = await rowCounts(admin);
        const answer = await knock(email);
        const after = await rowCounts(admin);
        seen.push({
          answer,
          grown: Object.fromEntries(Object.keys(after).map((name) => [name, (after[name] ?? 0) - (before[name] ?? 0)])),
        });
      }
      // A counter that is there already is counted up instead of made; nobody outside sees which.
      for (const { grown } of seen) grown['identity_private.lockouts'] = 0;
      expect(seen[1], door).toEqual(seen[0]);
    }
    const kinds = (await app.mails()).map(({ recipient, kind }) => [recipient === ada.email, kind]).sort();
    expect(kinds).toEqual([
      [false, 'verification'],
      [true, 'already_registered'],
      [true, 'already_registered'],
      [true, 'password_reset'],
    ]);
  });

  it('is told to its owner only, when somebody asks for the mail again that proves it', async () => {
    const ada = await app.person('ada');
    expect(await app.call(null, 'select api.resend_verification($1) as outcome', [ada.email])).toEqual({
      outcome: 'SENT',
    });
    expect(await app.call(null, 'select api.resend_verification($1) as outcome', [someAddress()])).toEqual({
      outcome: 'SENT',
    });
    expect(await app.mails()).toEqual([
      expect.objectContaining({ recipient: ada.email, kind: 'already_registered', variables: { name: 'ada' } }),
    ]);
  });

  it('changes nothing about how a password is to be hashed: same cost, a salt that stays the same (F1)', async () => {
    const { email, tag, token } = await registered();
    await verify(app, token);
    const known = [await start(app, email), await start(app, email)];
    const unknown = [await start(app, 'nobody@example.com'), await start(app, ' NoBody@Example.com')];
    const other = await start(app, 'somebody.else@example.com');
    expect(unknown[0]).toMatchObject({
      scheme: 'argon2id',
      parameters: known[0]?.parameters,
      salt: unknown[1]?.salt,
      retry_after: null,
    });
    expect(known[0]?.salt).toEqual(known[1]?.salt);
    expect(other.salt).not.toEqual(unknown[0]?.salt);
    expect([known[0]?.salt?.length, unknown[0]?.salt?.length]).toEqual([16, 16]);
    expect(await outcome(email, tag)).toBe('SIGNED_IN');
  });
});

describe('a password of somebody else', () => {
  it('is not planted by asking for an account under an address before or after its owner does', async () => {
    const email = someAddress();
    const [before, owner, after] = [
      await registered(email, 'Mallory'),
      await registered(email, 'Ada'),
      await registered(email, 'Mallory'),
    ];
    expect(await verify(app, owner.token)).toBe('VERIFIED');
    expect(await outcome(email, before.tag)).toBe('REFUSED');
    expect(await outcome(email, after.tag)).toBe('REFUSED');
    const signedIn = await app.signIn(email, owner.tag);
    expect(signedIn.outcome).toBe('SIGNED_IN');
    expect(await app.call(signedIn.credential, 'select display_name from api."current_user"()')).toEqual({
      display_name: 'Ada',
    });
    // What came for the other two is void, and later requests make no token at all.
    expect(await verify(app, before.token)).toBe('REFUSED');
    expect(await verify(app, after.token)).toBe('REFUSED');
    expect(await guessCode(app, email, after.mail.variables.code ?? '')).toBe('REFUSED');
    expect((await registered(email, 'Mallory')).mail).toMatchObject({
      kind: 'already_registered',
      variables: { name: 'Mallory' },
    });
    expect(await outcome(email, owner.tag)).toBe('SIGNED_IN');
  });

  it('does not lock the owner out: whoever proves the address is free of failures under it (LG-06)', async () => {
    const { email, tag, token } = await registered();
    while ((await guess(app, email)) !== 'LOCKED');
    expect(await verify(app, token)).toBe('VERIFIED');
    expect(await outcome(email, tag)).toBe('SIGNED_IN');
  });

  it('two registrations of one address verified at once give one account, and the other is refused without an error', async () => {
    for (let round = 0; round < 10; round += 1) {
      const email = someAddress();
      const both = [await registered(email, 'One'), await registered(email, 'Two')];
      const outcomes = await Promise.all(both.map(({ token }) => verify(app, token)));
      expect([...outcomes].sort()).toEqual(['REFUSED', 'VERIFIED']);
      expect(await Promise.all(both.map(({ tag }) => outcome(email, tag)))).toEqual(
        outcomes.map((result) => (result === 'VERIFIED' ? 'SIGNED_IN' : 'REFUSED')),
      );
    }
  });

  it('and also where one comes by its token and the other by its code', async () => {
    for (let round = 0; round < 10; round += 1) {
      const email = someAddress();
      const [one, two] = [await registered(email, 'One'), await registered(email, 'Two')];
      const outcomes = await Promise.all([
        verify(app, one.token),
        guessCode(app, email, two.mail.variables.code ?? ''),
      ]);
      expect(outcomes.sort()).toEqual(['REFUSED', 'VERIFIED']);
    }
  });
});

describe('the token of a mail', () => {
  it('is good once, also for 50 who bring it at once', async () => {
    const { token } = await registered();
    const outcomes = await Promise.all(Array.from({ length: 50 }, () => verify(app, token)));
    expect(outcomes.filter((result) => result === 'VERIFIED')).toHaveLength(1);
    expect(outcomes.filter((result) => result === 'REFUSED')).toHaveLength(49);
    expect(await verify(app, token)).toBe('REFUSED');
  });

  it('would be good more often had it been looked at first and used up then', async () => {
    const naive = `begin
      select t.registration_id into v_registration from identity_private.tokens t where t.hash = sha256(verify_email.token) and t.consumed_at is null;
      if not found then return 'REFUSED'; end if;
      perform pg_sleep(0.05);
      update identity_private.tokens t set consumed_at = clock_timestamp() where t.hash = sha256(verify_email.token);
      return 'VERIFIED';
    end`;
    await withoutGuard(db, 'api_steps.verify_email(bytea)', /begin[\s\S]*end/, naive, async () => {
      const { token } = await registered();
      const outcomes = await Promise.all(Array.from({ length: 10 }, () => verify(app, token)));
      expect(outcomes.filter((result) => result === 'VERIFIED').length).toBeGreaterThan(1);
    });
  });

  it('is refused cut, with a flipped bit, longer, or as its own hash, and is good still (SS-11)', async () => {
    const { token } = await registered();
    for (const changed of [...variations(token), sha256(token), null])
      expect(await verify(app, changed)).toBe('REFUSED');
    expect(await verify(app, token)).toBe('VERIFIED');
  });

  it('is refused after its time, the code sooner than the token', async () => {
    const { email, mail, token } = await registered();
    const age = (column: string) =>
      admin.query(`update identity_private.tokens set ${column} = clock_timestamp() where hash = $1`, [sha256(token)]);
    await age('code_expires_at');
    expect(await guessCode(app, email, mail.variables.code ?? '')).toBe('REFUSED');
    await age('expires_at');
    expect(await verify(app, token)).toBe('REFUSED');
    const { rows } = await admin.query(
      `select round(extract(epoch from expires_at - created_at))::int as token, round(extract(epoch from code_expires_at - created_at))::int as code
      from identity_private.tokens where hash = $1`,
      [sha256((await registered()).token)],
    );
    expect(rows).toEqual([{ token: 86400, code: 600 }]);
  });

  it('is void once a newer mail went out, and so is its code (LG-12)', async () => {
    const first = await registered();
    await app.call(null, 'select api.resend_verification($1)', [first.email.toUpperCase()]);
    const second = await mailTo(app, first.email);
    expect(await verify(app, first.token)).toBe('REFUSED');
    expect(await guessCode(app, first.email, first.mail.variables.code ?? '')).toBe('REFUSED');
    expect(await guessCode(app, first.email, second.variables.code ?? '')).toBe('VERIFIED');
    expect(await verify(app, tokenOf(second))).toBe('REFUSED');
  });

  it('of one purpose is refused for another (JW-05)', async () => {
    const { email, tag, token } = await registered();
    const reset = 'select * from api_steps.prepare_password_reset($1, $2)';
    expect(await app.call(null, reset, [token, GOOD])).toMatchObject({
      outcome: 'REFUSED',
      reasons: ['TOKEN_INVALID'],
    });
    await verify(app, token);
    await app.call(null, 'select api.request_password_reset($1)', [email]);
    const resetToken = tokenOf(await mailTo(app, email));
    expect(await verify(app, resetToken)).toBe('REFUSED');
    expect(await app.call(null, reset, [resetToken, GOOD])).toMatchObject({ outcome: null });
    expect(await outcome(email, tag)).toBe('SIGNED_IN');
  });

  it('is 256 bits that nothing in the database gives back', async () => {
    const { token } = await registered();
    expect(token).toHaveLength(32);
    const { rows } = await admin.query(`${MAIL_TOKENS} where hash = $1`, [sha256(token)]);
    expect(rows).toHaveLength(1);
    expect(Object.values(rows[0]).filter((value) => Buffer.isBuffer(value) && value.equals(token))).toEqual([]);
  });
});

describe('the code of a mail', () => {
  it('proves the address once, and wrong ones do not', async () => {
    const { email, mail, token, tag } = await registered();
    const code = mail.variables.code ?? '';
    expect(code).toMatch(/^\d{6}$/);
    for (const wrong of [...wrongCodes(code, 1), `${code} `, code.slice(1), ''])
      expect(await guessCode(app, email, wrong)).toBe('REFUSED');
    expect(await guessCode(app, email, code)).toBe('VERIFIED');
    expect(await guessCode(app, email, code)).toBe('REFUSED');
    expect(await verify(app, token)).toBe('REFUSED');
    expect(await outcome(email, tag)).toBe('SIGNED_IN');
  });

  it('of one address is refused for another', async () => {
    const [one, two] = [await registered(), await registered()];
    expect(await guessCode(app, two.email, one.mail.variables.code ?? '')).toBe('REFUSED');
  });

  it('that two mails to one address happen to share proves it all the same, for one of them', async () => {
    const email = someAddress();
    const [one, two] = [await registered(email), await registered(email)];
    const { rows } = await admin.query(`${MAIL_TOKENS} where hash = any ($1)`, [
      [sha256(one.token), sha256(two.token)],
    ]);
    const same = '424242';
    for (const { hash, mail_id } of rows) {
      await admin.query(
        "update identity_private.tokens set code_mac = keyring_private.guess_mac($2, convert_to($3, 'UTF8')) where hash = $1",
        [hash, mail_id, same],
      );
    }
    expect(await guessCode(app, email, same)).toBe('VERIFIED');
  });

  it('is refused for nothing at all', async () => {
    expect(await app.call(null, 'select api_steps.finish_email_code(null, null) as outcome')).toEqual({
      outcome: 'REFUSED',
    });
  });
});
