// What is over is removed by one task for each domain: real rows, made by the real functions and made old by hand. No
// rule waits for it: whatever has run out is refused before.
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { refresh } from '../sessions/tokens.ts';
import { Application, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

type Domain = 'access' | 'identity' | 'sessions' | 'keyring' | 'platform';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let jobs: pg.Client;
let envelopes: EnvelopeSealer;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  jobs = await db.connect('jobs');
  envelopes = new EnvelopeSealer(db.pool('jobs', { max: 1 }), app.keys);
});

beforeEach(async () => {
  await admin.query('delete from graphile_worker._private_jobs');
});

/** One batch as the worker removes it; `task` is what the job is of. */
async function batch(domain: Domain, size = 1000, task = `${domain}__clean_up`): Promise<number> {
  const made = await admin.query('select id from graphile_worker.add_job($1)', [task]);
  const { id } = made.rows[0];
  await admin.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1", [
    id,
  ]);
  await jobs.query('begin');
  try {
    await jobs.query("select set_config('role', platform.open_job($1, $2), true)", [id, await envelopes.seal(null)]);
    const { rows } = await jobs.query(`select ${domain}.clean_up($1) as count`, [size]);
    await jobs.query('commit');
    return rows[0].count;
  } catch (error) {
    await jobs.query('rollback');
    throw error;
  } finally {
    await admin.query('delete from graphile_worker._private_jobs where id = $1', [id]);
  }
}

/** Until nothing is left; how many that were. */
async function clean(domain: Domain): Promise<number> {
  for (let total = 0; ; ) {
    const count = await batch(domain);
    if (count === 0) return total;
    total += count;
  }
}

const count = async (sql: string, values: unknown[] = []): Promise<number> =>
  (await admin.query(`select count(*)::int as count from ${sql}`, values)).rows[0].count;

/** Somebody who asked for an account and has the mail; nobody yet. */
async function registered(): Promise<{ email: string; tag: Buffer; id: string; token: Buffer }> {
  const email = `${randomUUID()}@example.com`;
  const tag = await app.register(email, 'Ada', 'Engines');
  const mail = (await app.mails()).find(({ recipient }) => recipient === email);
  const { rows } = await admin.query('select id from identity_private.registrations order by created_at desc limit 1');
  return { email, tag, id: rows[0].id, token: Buffer.from(mail?.variables.token ?? '', 'base64url') };
}

const verify = async (token: Buffer) =>
  (await app.call<{ outcome: string }>(null, 'select api_steps.verify_email($1) as outcome', [token])).outcome;

describe('identity', () => {
  test('attempts, lockouts, tokens, mails and registrations go when they are over, and what is young stays', async () => {
    const old = await registered();
    expect(await verify(old.token)).toBe('VERIFIED');
    await app.signIn(old.email, old.tag);
    await app.signIn('nobody.at.all@example.com', old.tag);
    const sizes = {
      attempts: await count('identity_private.attempts'),
      lockouts: await count('identity_private.lockouts'),
      tokens: await count('identity_private.tokens'),
      mails: await count('identity_private.mails'),
      registrations: await count('identity_private.registrations'),
    };
    for (const [table, size] of Object.entries(sizes)) expect(size, table).toBeGreaterThan(0);
    await admin.query(`
      update identity_private.attempts set created_at = created_at - interval '2 days';
      update identity_private.lockouts set last_at = last_at - interval '2 days';
      update identity_private.tokens set consumed_at = consumed_at - interval '2 days';
      update identity_private.registrations set created_at = created_at - interval '3 days'`);
    const young = await registered();
    await app.signIn('nobody.else@example.com', old.tag);

    expect(await clean('identity')).toBe(Object.values(sizes).reduce((sum, size) => sum + size, 0));
    expect(await count('identity_private.attempts')).toBe(1);
    expect(await count('identity_private.lockouts')).toBe(1);
    for (const table of ['tokens', 'mails', 'registrations'])
      expect(await count(`identity_private.${table}`), table).toBe(1);
    // What the registration was sealed with is gone; the account it made has keys of its own.
    expect(await count('keyring_private.data_keys where subject = $1', [old.id])).toBe(0);
    expect(await count('keyring_private.data_keys where subject = $1', [young.id])).toBe(1);
    expect((await app.signIn(old.email, old.tag)).outcome).toBe('SIGNED_IN');
    expect(await verify(young.token)).toBe('VERIFIED');
  });

  test('a mail of a person goes a week after it was sent, but not before its token', async () => {
    const ada = await app.person('ada');
    await app.call(null, 'select api.request_password_reset($1)', [ada.email]);
    await app.mails();
    const mails = "identity_private.mails where kind = 'password_reset'";
    await admin.query(
      "update identity_private.mails set sent_at = sent_at - interval '8 days' where kind = 'password_reset'",
    );
    await clean('identity');
    expect(await count(mails)).toBe(1);
    await admin.query(
      "update identity_private.tokens set expires_at = now() - interval '2 days' where person_id is not null",
    );
    await clean('identity');
    expect(await count(mails)).toBe(0);
    expect(await count('identity_private.tokens where person_id is not null')).toBe(0);
    // One that nobody ever sent waits as long as its job is kept.
    await app.call(null, 'select api.request_password_reset($1)', [ada.email]);
    await admin.query(
      "update identity_private.mails set created_at = now() - interval '30 days' where sent_at is null",
    );
    await clean('identity');
    expect(await count(mails)).toBe(1);
    await admin.query(
      "update identity_private.mails set created_at = now() - interval '38 days' where sent_at is null",
    );
    await clean('identity');
    expect(await count(mails)).toBe(0);
  });

  test('what has run out is refused while it is still there', async () => {
    const { token, id } = await registered();
    await admin.query(
      "update identity_private.tokens set expires_at = now() - interval '1 second' where registration_id = $1",
      [id],
    );
    expect(await verify(token)).toBe('REFUSED');
    await clean('identity');
    expect(await count('identity_private.tokens where registration_id = $1', [id])).toBe(1);
  });

  test('each call removes a batch at most, and passes over what somebody holds without waiting', async () => {
    for (let made = 0; made < 5; made += 1) await app.signIn('nobody.at.all@example.com', Buffer.alloc(32));
    await admin.query("update identity_private.attempts set created_at = now() - interval '2 days'");
    const total = await count('identity_private.attempts');
    expect(await batch('identity', 2)).toBe(2);
    expect(await batch('identity', -1)).toBe(1);
    const holder = await db.connect('admin');
    await holder.query('begin');
    await holder.query('select from identity_private.attempts limit 1 for update');
    expect(await clean('identity')).toBe(total - 4);
    await withoutGuard(
      db,
      'identity.clean_up(integer)',
      'limit v_batch for update skip locked',
      'limit v_batch',
      async () => {
        await jobs.query("set lock_timeout = '200ms'");
        expect(await refusal(batch('identity'))).toBe('55P03');
        await jobs.query('reset lock_timeout');
      },
    );
    await holder.query('rollback');
    expect(await clean('identity')).toBe(1);
    await holder.end();
  });

  test('addresses that are proved while their rows are removed end one way or the other', async () => {
    const people = [];
    for (let made = 0; made < 12; made += 1) people.push(await registered());
    await admin.query('update identity_private.mails set sent_at = null');
    for (const { id } of people) {
      await admin.query(
        "update identity_private.registrations set created_at = now() - interval '3 days' where id = $1",
        [id],
      );
    }
    const cleaning = (async () => {
      for (let rounds = 0; rounds < 12; rounds += 1) await batch('identity', 1);
      return clean('identity');
    })();
    const outcomes = await Promise.all(people.map(({ token }) => verify(token)));
    await cleaning;
    // What was in use is passed over, and goes the next time.
    await clean('identity');
    for (const [index, { email, tag }] of people.entries()) {
      const signedIn = (await app.signIn(email, tag)).outcome;
      expect(signedIn, outcomes[index]).toBe(outcomes[index] === 'VERIFIED' ? 'SIGNED_IN' : 'REFUSED');
    }
    expect(await count('identity_private.registrations where id = any ($1)', [people.map(({ id }) => id)])).toBe(0);
  });
});

test('access: an invitation goes with its address after its mails and tokens, long after its end', async () => {
  const ada = await app.person('ada');
  const invite = "select (api.invite_member($1, 'member')).id";
  const ids: string[] = [];
  for (const guest of ['ended', 'ran out', 'young'])
    ids.push((await app.call<{ id: string }>(ada.credential, invite, [`${guest.replace(' ', '.')}@example.com`])).id);
  await app.mails();
  await app.call(ada.credential, 'select api.revoke_invitation($1)', [ids[0]]);
  await app.call(ada.credential, 'select api.revoke_invitation($1)', [ids[2]]);
  await admin.query("update access.invitations set ended_at = now() - interval '91 days' where id = $1", [ids[0]]);
  await admin.query("update access.invitations set expires_at = now() - interval '91 days' where id = $1", [ids[1]]);
  expect(await clean('access')).toBe(0);
  await admin.query(`
    update identity_private.tokens set consumed_at = now() - interval '2 days' where purpose = 'invitation';
    update identity_private.mails set sent_at = now() - interval '8 days' where kind = 'invitation'`);
  await clean('identity');
  expect(await clean('access')).toBe(2);
  expect(await count('access.invitations')).toBe(1);
  expect(await count('access_private.invitation_addresses where invitation_id = $1', [ids[2]])).toBe(1);
  expect(await count('access_private.invitation_addresses')).toBe(1);
});

describe('sessions', () => {
  test('sessions go long after their end, what could open them soon after, and of a live one nothing', async () => {
    const ada = await app.person('ada');
    const recent = await app.signIn(ada.email, ada.tag);
    const live = await app.signIn(ada.email, ada.tag);
    const next = await refresh(app, live.refreshToken);
    await app.call(null, 'select api_steps.note_first_use($1)', [next.credential]).catch(() => {});
    await admin.query("insert into sessions.activity values ($1, now() - interval '100 days') on conflict do nothing", [
      ada.session,
    ]);
    await admin.query("update sessions.sessions set ends_at = now() - interval '91 days' where id = $1", [ada.session]);
    await admin.query("update sessions.sessions set ends_at = now() - interval '2 days' where id = $1", [
      recent.session_id,
    ]);
    await admin.query(
      "update sessions_private.credentials set expires_at = now() - interval '2 days' where session_id = any ($1)",
      [[ada.session, recent.session_id]],
    );
    expect(await clean('sessions')).toBe(5);
    const left = async (table: string, session: string | null) => count(`${table} where session_id = $1`, [session]);
    for (const table of ['sessions_private.credentials', 'sessions_private.refresh_tokens', 'sessions.activity']) {
      expect(await left(table, ada.session), table).toBe(0);
    }
    expect(await count('sessions.sessions where id = $1', [ada.session])).toBe(0);
    expect(await count('sessions.sessions where id = $1', [recent.session_id])).toBe(1);
    expect(await left('sessions_private.refresh_tokens', recent.session_id)).toBe(0);
    // The old refresh token of the live session is still known.
    expect(await left('sessions_private.refresh_tokens', live.session_id)).toBe(2);
    expect((await refresh(app, next.refreshToken)).outcome).toBe('SIGNED_IN');
  });

  test('a session that is over opens nothing while its rows are still there', async () => {
    const ada = await app.person('ada');
    await admin.query('update sessions.sessions set ends_at = now() where id = $1', [ada.session]);
    expect(await refusal(app.call(ada.credential, 'select 1'))).toBe('AUTHN');
    expect((await refresh(app, ada.refreshToken)).outcome).toBe('REFUSED');
    await clean('sessions');
    expect(await count('sessions_private.credentials where session_id = $1', [ada.session])).toBe(1);
  });
});

test('keyring: a transport key goes after twice its life, and is of no use before', async () => {
  const ids = [];
  for (const age of ['1 hour', '47 hours', '49 hours']) {
    const { rows } = await admin.query(
      "insert into keyring_private.transport_keys (key, created_at) values (decode(repeat('ab', 64), 'hex'), now() - $1::interval) returning id",
      [age],
    );
    ids.push(rows[0].id);
  }
  expect(await clean('keyring')).toBe(1);
  expect(await count('keyring_private.transport_keys where id = any ($1)', [ids])).toBe(2);
  expect(await count('keyring_private.transport_keys where id = $1', [ids[2]])).toBe(0);
});

test('platform: jobs that were given up go after a month with whom they acted for, contexts without a job too', async () => {
  const made = [];
  for (let time = 0; time < 3; time += 1) {
    await app.register(`${randomUUID()}@example.com`, 'Ada', 'Engines');
    made.push((await admin.query('select max(id) as id from graphile_worker._private_jobs')).rows[0].id);
  }
  const [old, young, waiting] = made;
  await admin.query('update graphile_worker._private_jobs set attempts = max_attempts where id = any ($1)', [
    [old, young],
  ]);
  await admin.query(
    "update platform_private.failed_jobs set failed_at = now() - interval '31 days' where job_id = $1",
    [old],
  );
  await admin.query("update platform_private.job_contexts set created_at = now() - interval '31 days'");
  await admin.query(
    "insert into platform_private.job_contexts (job_id, task, permissions, created_at) values (-1, 'mail__send', '{}', now() - interval '2 days')",
  );
  expect(await clean('platform')).toBe(2);
  for (const table of ['graphile_worker._private_jobs where id', 'platform_private.job_contexts where job_id']) {
    expect(await count(`${table} = any ($1)`, [[old, -1]]), table).toBe(0);
    expect(await count(`${table} = any ($1)`, [[young, waiting]]), table).toBe(2);
  }
  expect(await count('platform_private.failed_jobs')).toBe(1);
});

test('the job of one domain cleans no other', async () => {
  const domains: Domain[] = ['access', 'identity', 'sessions', 'keyring', 'platform'];
  for (const [index, domain] of domains.entries()) {
    const other = domains[(index + 1) % domains.length];
    expect(await refusal(batch(domain, 10, `${other}__clean_up`)), domain).toBe('DENYD');
  }
});
