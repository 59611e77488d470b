// A crash of the database empties its table of transport keys. Whoever asks next is not told.
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { createRequests, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let application: Application;
let ada: Person;
let admin: pg.Client;
let requests: Requests;

beforeAll(async () => {
  db = await cloneDatabase();
  application = await Application.beside(db);
  ada = await application.person('ada');
  admin = await db.connect('admin');
  requests = createRequests({
    pool: db.pool('authenticator', { max: 1, pipeline: true }),
    sealer: application.envelopes,
  });
});

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

/** What a crash does to an unlogged table. */
const crash = () => admin.query('truncate keyring_private.transport_keys');
// Another address each time: one would be locked soon.
const start = () => ({
  name: 'start',
  text: 'select * from api_steps.start_sign_in($1)',
  values: [`${randomUUID()}@example.com`],
});
const attempts = async () =>
  (await admin.query('select count(*)::int as n from identity_private.attempts')).rows[0].n as number;

describe('a transport key that the database lost', () => {
  test('costs nobody a refusal, and what was asked is done once', async () => {
    for (let i = 0; i < 5; i += 1) {
      await requests.inRequest(source(null), (c) => c.query(start()));
      const before = await attempts();
      await crash();
      await requests.inRequest(source(null), (c) => c.query(start()));
      expect(await attempts()).toBe(before + 1);
    }
  });

  test('is noticed before the first statement: what was sent together runs once, in order, in the new transaction', async () => {
    await requests.inRequest(source(ada), (c) => c.query({ text: 'select 1' }));
    await crash();
    const before = await attempts();
    const seen = await requests.inRequest(source(ada), async (c) => {
      const [first, second, inner, last] = await Promise.all([
        c.query<{ n: number }>({ text: "select set_config('test.steps', 'a', true) as n" }),
        c.query<{ n: string }>({
          text: "select set_config('test.steps', current_setting('test.steps') || 'b', true) as n",
        }),
        c.withTransaction(async (t) => {
          await t.query(start());
          return t.query<{ n: string }>({
            text: "select set_config('test.steps', current_setting('test.steps') || 'c', true) as n",
          });
        }),
        c.query<{ n: string }>({ text: "select current_setting('test.steps') || 'd' as n" }),
      ]);
      return [first.rows[0]?.n, second.rows[0]?.n, inner.rows[0]?.n, last.rows[0]?.n];
    });
    const again = await requests.inRequest(
      source(ada),
      async (c) => (await c.query<{ n: string }>({ text: 'select 1 as n' })).rows[0]?.n,
    );
    expect(again).toBe(1);
    expect(seen).toEqual(['a', 'ab', 'abc', 'abcd']);
    expect(await attempts()).toBe(before + 1);
  });

  test('is replaced for many at once', async () => {
    const pool = db.pool('authenticator', { max: 3, pipeline: true });
    const many = createRequests({ pool, sealer: application.envelopes });
    for (let round = 0; round < 5; round += 1) {
      await crash();
      const codes = await Promise.all(
        Array.from({ length: 30 }, (_, i) =>
          refusal(many.inRequest(source(i % 2 ? ada : null), (c) => c.query({ text: 'select 1' }))),
        ),
      );
      expect(codes.filter((code) => code !== 'no refusal')).toEqual([]);
    }
  });

  test('is replaced on the connection at hand, and not for ever when it is lost again', async () => {
    const before = await attempts();
    await admin.query('alter table keyring_private.transport_keys rename to lost_keys');
    try {
      expect(await refusal(requests.inRequest(source(null), (c) => c.query(start())))).toMatch(/^(42P01|57P03)$/);
    } finally {
      await admin.query('alter table keyring_private.lost_keys rename to transport_keys');
    }
    expect(await attempts()).toBe(before);
    await requests.inRequest(source(null), (c) => c.query(start()));
    expect(await attempts()).toBe(before + 1);
  });

  test('would be found only by the statement that needs it, if the opening did not look', async () => {
    const open = 'sessions.open_request(bytea,bytea,jsonb)';
    await withoutGuard(db, open, 'elsif envelope is not null', 'elsif false', async () => {
      await requests.inRequest(source(null), (c) => c.query(start()));
      await crash();
      expect(await refusal(requests.inRequest(source(null), (c) => c.query(start())))).toBe('KEYNO');
    });
  });

  test('is asked for once: a dead credential is refused as such all the same', async () => {
    const dead = { ...source(null), credential: Buffer.alloc(32, 9) };
    await crash();
    expect(await refusal(requests.inRequest(dead, (c) => c.query({ text: 'select 1' })))).toBe('AUTHN');
    await crash();
    expect(
      await refusal(
        requests.inRequest(source(null), () => {
          throw Object.assign(new Error('at once'), { code: 'OURS!' });
        }),
      ),
    ).toBe('OURS!');
  });
});
