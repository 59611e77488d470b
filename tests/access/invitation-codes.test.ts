// Accepting with an account of another address (F2, LG-01): a code to the invited one, which is a guess like any other.
import type pg from 'pg';
import { beforeAll, beforeEach, expect, it } from 'vitest';
import { wrongCodes } from '../identity/guesses.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { type Accepted, accept, invited, membership } from './invited.ts';

const START = 'select * from api_steps.start_invitation_code($1)';
const SUBMIT = 'select api_steps.submit_invitation_code($1, $2) as stored';
const FINISH = 'select * from api_steps.finish_invitation_code($1, $2, $3)';
const FAILURES = 5;

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;
let carl: Person;
let token: Buffer;
let invitation: string;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  bob = await app.person('bob');
  carl = await app.person('carl');
});

/** An invitation to bob's address, which carl has the token of. */
beforeEach(async () => {
  await admin.query(
    "delete from identity_private.lockouts; update access.invitations set status = 'revoked', ended_at = now() where status = 'open'",
  );
  await admin.query('delete from access.memberships where person_id = $1 and organization_id = $2', [
    carl.id,
    ada.organization,
  ]);
  await admin.query("update identity_private.mails set composed_at = composed_at - interval '2 hours'");
  ({ token, id: invitation } = await invited(app, ada, bob.email));
});

async function codeFor(person: Person, of = token): Promise<string> {
  const said = await app.call<{ outcome: string }>(
    person.credential,
    'select api_steps.request_invitation_code($1) as outcome',
    [of],
  );
  if (said.outcome !== 'SENT') throw new Error('not sent');
  const mail = (await app.mails()).find(({ kind }) => kind === 'invitation_code');
  return mail?.variables.code ?? '';
}

interface Started extends pg.QueryResultRow {
  attempt: string | null;
  reasons: string[];
  retry_after: number | null;
}
const start = (person: Person, of = token) => app.call<Started>(person.credential, START, [of]);

async function tryCode(person: Person, code: string, of = token): Promise<string> {
  const { attempt, reasons } = await start(person, of);
  if (attempt === null) return String(reasons);
  await app.call(person.credential, SUBMIT, [attempt, code]);
  const { outcome, reasons: why } = await app.call<Accepted>(person.credential, FINISH, [attempt, of, code]);
  return outcome === 'ACCEPTED' ? outcome : String(why);
}

it('needs the code that was sent to the invited address, and it alone', async () => {
  expect(await accept(app, carl, token)).toMatchObject({ reasons: ['CODE_NEEDED'] });
  const code = await codeFor(carl);
  expect(code).toMatch(/^\d{6}$/);
  for (const wrong of wrongCodes(code, 2)) expect(await tryCode(carl, wrong)).toBe('CODE_WRONG');
  expect(await membership(admin, ada.organization, carl)).toBeUndefined();
  expect(await tryCode(carl, code)).toBe('ACCEPTED');
  expect(await membership(admin, ada.organization, carl)).toBeDefined();
  expect(await tryCode(carl, code)).toBe('TOKEN_INVALID');
  await withoutGuard(
    db,
    'access_private.accept_invitation(bytea,boolean)',
    'when proven is not true and',
    'when false and',
    async () => {
      const eve = await app.person('eve');
      const other = await invited(app, ada, (await app.person('dan')).email);
      expect(await accept(app, eve, other.token)).toMatchObject({ outcome: 'ACCEPTED' });
    },
  );
});

it('is written to the invited address, with a code and no link', async () => {
  await app.call(carl.credential, 'select api_steps.request_invitation_code($1)', [token]);
  const [mail] = await app.mails();
  expect(mail).toMatchObject({ recipient: bob.email, kind: 'invitation_code' });
  expect(Object.keys(mail?.variables ?? {}).sort()).toEqual(['code', 'organization']);
});

it('a code is good for who asked for it', async () => {
  const mallory = await app.person('mallory');
  const code = await codeFor(carl);
  expect(await tryCode(mallory, code)).toBe('CODE_WRONG');
  await withoutGuard(
    db,
    'api_steps.finish_invitation_code(uuid,bytea,text)',
    'and t.person_id = request.signed_in_id()',
    '',
    async () => {
      expect(await tryCode(mallory, code)).toBe('ACCEPTED');
    },
  );
});

it('a code is good for its invitation, and an attempt for the address that it was counted against', async () => {
  const other = await invited(app, ada, (await app.person('dan')).email);
  const code = await codeFor(carl);
  expect(await tryCode(carl, code, other.token)).toBe('CODE_WRONG');
  const { attempt } = await start(carl, other.token);
  await app.call(carl.credential, SUBMIT, [attempt, code]);
  const crossed = () => app.call<Accepted>(carl.credential, FINISH, [attempt, token, code]);
  expect(await crossed()).toMatchObject({ reasons: ['CODE_WRONG'] });
  await admin.query('update identity_private.attempts set resolved_at = null where id = $1', [attempt]);
  await withoutGuard(
    db,
    'api_steps.finish_invitation_code(uuid,bytea,text)',
    'and a.lookup = v_account',
    '',
    async () => {
      expect(await crossed()).toMatchObject({ outcome: 'ACCEPTED' });
    },
  );
});

it('gets no answer in the transaction that stored the guess, however often it is taken back (F2)', async () => {
  const code = await codeFor(carl);
  const guessing = () =>
    app.as(carl.credential, async (client) => {
      for (const guess of [...wrongCodes(code, 2 * FAILURES), code]) {
        await client.query('savepoint s');
        const { attempt } = (await client.query<Started>(START, [token])).rows[0] as Started;
        await client.query(SUBMIT, [attempt, guess]);
        const { outcome } = (await client.query<Accepted>(FINISH, [attempt, token, guess])).rows[0] as Accepted;
        if (outcome === 'ACCEPTED') return outcome;
        await client.query('rollback to s');
      }
      return 'not found';
    });
  expect(await refusal(guessing())).toBe('GUESS');
  await withoutGuard(
    db,
    'identity_private.resolve_attempt(uuid,text,bytea)',
    'if v_attempt.guess_transaction = pg_current_xact_id() then',
    'if false then',
    async () => {
      expect(await guessing()).toBe('ACCEPTED');
    },
  );
});

it('counts at the one counter of the invited address, over all doors, and a right code forgives', async () => {
  const code = await codeFor(carl);
  const said = [];
  for (const wrong of wrongCodes(code, FAILURES + 1)) said.push(await tryCode(carl, wrong));
  expect(said).toEqual([...Array.from({ length: FAILURES }, () => 'CODE_WRONG'), 'LOCKED']);
  expect((await start(carl)).retry_after).toBeGreaterThan(0);
  expect((await app.signIn(bob.email, bob.tag)).outcome).toBe('REFUSED');
  await admin.query('update identity_private.lockouts set locked_until = clock_timestamp()');
  expect(await tryCode(carl, code)).toBe('ACCEPTED');
  expect((await app.signIn(bob.email, bob.tag)).outcome).toBe('SIGNED_IN');
});

it('a code runs out, a later one voids it, and a revoked invitation has none', async () => {
  const first = await codeFor(carl);
  let second = await codeFor(carl);
  // One in a million.
  while (second === first) second = await codeFor(carl);
  expect(await tryCode(carl, first)).toBe('CODE_WRONG');
  await admin.query('update identity_private.tokens set code_expires_at = clock_timestamp() where invitation_id = $1', [
    invitation,
  ]);
  expect(await tryCode(carl, second)).toBe('CODE_WRONG');
  const third = await codeFor(carl);
  await app.call(ada.credential, 'select api.revoke_invitation($1)', [invitation]);
  expect(await tryCode(carl, third)).toBe('TOKEN_INVALID');
});

it('says nothing of a token that is none, and nothing to nobody', async () => {
  expect(await codeFor(carl, Buffer.alloc(32))).toBe('');
  for (const [text, values] of [
    ['select api_steps.request_invitation_code($1)', [token]],
    [START, [token]],
    [FINISH, [crypto.randomUUID(), token, '000000']],
  ] as const)
    expect(await refusal(app.rows(null, text, [...values]))).toBe('42501');
});
