// What a stolen dump is good for (SS-01, LG-12, PW-16; F1): every column of every table is searched for whatever opens
// something, in each spelling that it has on its way.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { FINISH, finishing, guess, start, submit } from '../identity/guesses.ts';
import { mailTo, tokenOf, verify } from '../identity/mailbox.ts';
import { Application, GOOD, type Person, sha256 } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { firstUse, refresh, secondOrganization, switchTo, works } from './tokens.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
/** What must not be found, by what it is. */
const canaries = new Map<string, Buffer>();

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  const keep = (what: string, secret: Buffer) => canaries.set(what, secret);
  keep('tag of the password', ada.tag);
  keep('credential', ada.credential);
  keep('refresh token', ada.refreshToken);
  keep("application's half of the key", app.keys.half);
  keep('assertion key', app.keys.assertion);
  const second = await app.signIn(ada.email, ada.tag);
  const refreshed = await refresh(app, second.refreshToken);
  await firstUse(app, refreshed.credential);
  keep('refreshed credential', refreshed.credential);
  keep('refreshed refresh token', refreshed.refreshToken);
  const switched = await switchTo(app, refreshed, await secondOrganization(app, ada));
  keep('switched credential', switched.credential);
  keep('switched refresh token', switched.refreshToken);
  // A guess that was stored and never answered, one that was, and one at a code.
  const waiting = randomBytes(32);
  const { attempt } = await start(app, ada.email);
  await submit(app, attempt, waiting);
  keep('stored guess', waiting);
  const wrong = randomBytes(32);
  await guess(app, ada.email, wrong);
  keep('answered guess', wrong);
  // Tokens of mails: waiting, used, and void.
  const email = 'canary.address@example.com';
  await app.register(email, 'Canary Displayname', 'Canary Organization', randomBytes(32));
  const mail = await mailTo(app, email);
  keep('token of a registration', tokenOf(mail));
  for (const what of ['void', 'used', 'waiting']) {
    await app.call(null, 'select api.request_password_reset($1)', [ada.email]);
    const token = tokenOf(await mailTo(app, ada.email));
    keep(`${what} token of a reset`, token);
    if (what === 'used') {
      ada = { ...ada, tag: randomBytes(32) };
      await app.call(null, 'select api_steps.reset_password($1, $2, $3, $4, $5, $6)', [
        token,
        GOOD,
        'argon2id',
        { memory: 19456, passes: 2, parallelism: 1, length: 32 },
        randomBytes(16),
        ada.tag,
      ]);
      keep('tag of the new password', ada.tag);
    }
  }
});

/** Each row of each table as text, by table. */
async function dump(): Promise<Map<string, string>> {
  const { rows: tables } =
    await admin.query(`select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'm') and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast') order by 1`);
  const found = new Map<string, string>();
  for (const { name } of tables) {
    const { rows } = await admin.query(`select coalesce(string_agg(t::text, e'\\n'), '') as text from ${name} t`);
    found.set(name, rows[0].text);
  }
  return found;
}

const spellings = (secret: Buffer): string[] => [
  secret.toString('hex'),
  secret.toString('base64').replace(/=+$/, ''),
  secret.toString('base64url'),
  // bytea as text that was stored in bytea, and hex of hex.
  Buffer.from(secret.toString('hex')).toString('hex'),
  Buffer.from(secret.toString('base64url')).toString('hex'),
];

describe('a dump of the whole database', () => {
  it('holds nothing that opens anything: no credential, refresh token, token of a mail, guess, tag or key (SS-01)', async () => {
    const text = await dump();
    expect(text.size).toBeGreaterThan(30);
    for (const [what, secret] of canaries) {
      for (const spelling of spellings(secret)) {
        for (const [table, rows] of text) expect(rows.includes(spelling), `${what} in ${table}`).toBe(false);
      }
    }
  });

  it('would be seen to: the hashes of these secrets are found where they belong', async () => {
    const text = await dump();
    const where = (secret: Buffer) =>
      [...text].filter(([, rows]) => rows.includes(sha256(secret).toString('hex'))).map(([table]) => table);
    expect(where(ada.credential)).toEqual(['sessions_private.credentials']);
    expect(where(canaries.get('refreshed refresh token') as Buffer)).toEqual([]);
    expect(where(canaries.get('switched refresh token') as Buffer)).toEqual([
      'sessions_private.credentials',
      'sessions_private.refresh_tokens',
    ]);
    expect(where(canaries.get('token of a registration') as Buffer)).toEqual(['identity_private.tokens']);
  });

  it('does not check a password: what is kept of a tag is sealed, and no plain hash of it is found (PW-20)', async () => {
    const text = [...(await dump()).values()].join('\n');
    for (const tag of [
      ada.tag,
      canaries.get('tag of the password') as Buffer,
      canaries.get('stored guess') as Buffer,
      canaries.get('answered guess') as Buffer,
    ]) {
      for (const spelling of [...spellings(sha256(tag)), ...spellings(sha256(sha256(tag)))])
        expect(text).not.toContain(spelling);
    }
  });

  it('says neither whose addresses nor whose names are in it', async () => {
    const text = [...(await dump()).values()].join('\n');
    for (const word of [ada.email, 'canary.address@example.com', 'Canary Displayname', 'Canary Organization']) {
      expect(text.includes(word) || text.includes(Buffer.from(word).toString('hex')), word).toBe(false);
    }
  });

  it('and every hash in it, presented as the secret, is refused', async () => {
    const person = await app.person('bob');
    const hashes = (
      await admin.query(`select hash from sessions_private.credentials union select hash from sessions_private.refresh_tokens
      union select hash from identity_private.tokens union select verifier from identity_private.passwords union select guess_mac from identity_private.attempts where guess_mac is not null`)
    ).rows.map(({ hash }) => hash as Buffer);
    expect(hashes.length).toBeGreaterThan(10);
    for (const hash of hashes) {
      expect(await works(app, hash)).toBe(false);
      expect((await refresh(app, hash)).outcome).toBe('REFUSED');
      expect(await verify(app, hash)).toBe('REFUSED');
      expect(
        await app.call(null, 'select outcome from api_steps.prepare_password_reset($1, $2)', [hash, GOOD]),
      ).toEqual({ outcome: 'REFUSED' });
    }
    const { rows } = await admin.query(
      'select id, guess_mac from identity_private.attempts where guess_mac is not null and resolved_at is null',
    );
    expect(rows.length).toBeGreaterThan(0);
    for (const { id, guess_mac: mac } of rows)
      expect(await app.call(null, FINISH, finishing(id, mac))).toEqual({ outcome: 'REFUSED' });
    expect(await works(app, person.credential)).toBe(true);
  });

  it('has no two passwords alike: equal tags are kept differently, under salts of their own (PW-16)', async () => {
    const tag = randomBytes(32);
    for (const email of ['same.one@example.com', 'same.two@example.com']) {
      await app.register(email, 'Same', null, tag);
      await verify(app, tokenOf(await mailTo(app, email)));
    }
    const { rows } = await admin.query(
      'select count(*)::int as rows, count(distinct salt)::int as salts, count(distinct verifier)::int as verifiers, min(length(salt)) as bytes from identity_private.passwords',
    );
    expect(rows[0]).toEqual({ rows: rows[0].rows, salts: rows[0].rows, verifiers: rows[0].rows, bytes: 16 });
  });
});
