// The database is killed, kept busy, and slow, while clients ask: what each of them is told, and what was done.
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import type { Member } from '../api/api.ts';
import { codeOf, expectClean, expectServed, expectWhole, load, ME, WARD, WRITE } from './clients.ts';
import { type OwnCluster, startOwnCluster } from './cluster.ts';

const NAP = 'query($s: Float!) { nap(seconds: $s) }';
const OURS = "usename = 'safetypin_authenticator'";

let own: OwnCluster;
let ada: Member;

beforeAll(async () => {
  own = await startOwnCluster({ host: WARD });
  ada = await own.api.member('Ada');
}, 120_000);

const FAULTS: readonly (readonly [string, () => Promise<void>])[] = [
  [
    'a backend is killed with -9, and PostgreSQL restarts all of them',
    async () => {
      const [row] = await own.admin<{ pid: number }>(`select pid from pg_stat_activity where ${OURS} limit 1`);
      const starts = () => own.log().split('database system is ready to accept connections').length;
      const before = starts();
      process.kill((row as { pid: number }).pid, 'SIGKILL');
      // On a busy machine it takes a moment to notice, in which everybody is still served.
      for (let tries = 0; starts() === before && tries < 1000; tries += 1) await sleep(20);
    },
  ],
  [
    'all of it is killed with -9 and started again a second later',
    async () => {
      process.kill(own.pid(), 'SIGKILL');
      await sleep(1000);
      await own.restart();
    },
  ],
  [
    'its backends are terminated',
    async () => void (await own.admin(`select pg_terminate_backend(pid) from pg_stat_activity where ${OURS}`)),
  ],
];

describe('PostgreSQL under load', () => {
  test.each(FAULTS)('%s: there is one code, nothing half done, and it goes on by itself', async (_name, fault) => {
    const clients = load(own, ada);
    await sleep(400);
    const before = clients.written.length;
    await fault();
    await expectServed(own, ada);
    const recovered = clients.written.length;
    await sleep(400);
    await clients.stop();
    // Never KEY_UNAVAILABLE, though a crash empties the table of transport keys.
    expect([...clients.codes.keys()].filter((code) => !['none', 'UNAVAILABLE'].includes(code))).toEqual([]);
    expect(clients.codes.get('UNAVAILABLE')).toBeGreaterThan(0);
    expect(before).toBeGreaterThan(0);
    expect(clients.written.length).toBeGreaterThan(recovered);
    await expectWhole(own, clients);
  });

  test('while it is away, both doors say so and when to come back, and readiness says no', async () => {
    process.kill(own.pid(), 'SIGKILL');
    await sleep(700);
    const login = await own.api.rest('login', { email: ada.email, password: ada.password });
    expect([login.status, login.body.meta.code, login.headers.get('retry-after')]).toEqual([503, 'UNAVAILABLE', '2']);
    expectClean(JSON.stringify(login.body));
    const answer = await own.api.gql(ME, {}, ada.accessToken);
    expect([answer.status, codeOf(answer), answer.headers.get('retry-after')]).toEqual([200, 'UNAVAILABLE', '2']);
    expect((await own.api.send('/readyz')).status).toBe(503);
    expect((await own.api.send('/healthz')).status).toBe(200);
    await own.restart();
    await expectServed(own, ada);
    const again = await own.api.rest('login', { email: ada.email, password: ada.password });
    expect(again.body.data.outcome).toBe('SIGNED_IN');
  });
});

describe('a busy database', () => {
  test('a request waits for its turn five seconds at most, others are served, and then all goes on', async () => {
    // All places that one organization may have.
    const naps = Array.from({ length: 8 }, () => own.api.gql(NAP, { s: 6 }, ada.accessToken));
    await sleep(300);
    const login = { email: 'nobody@example.com', password: 'a long sentence of nobody' };
    expect((await own.api.rest('login', login)).status).toBe(401);
    expect((await own.api.send('/readyz')).status).toBe(200);
    const began = performance.now();
    const late = await own.api.gql(ME, {}, ada.accessToken);
    const waited = performance.now() - began;
    expect([codeOf(late), late.headers.get('retry-after')]).toEqual(['UNAVAILABLE', '2']);
    expectClean(late.text);
    expect(waited).toBeGreaterThan(4500);
    expect(waited).toBeLessThan(8000);
    for (const nap of await Promise.all(naps)) expect(nap.data).toEqual({ nap: 1 });
    await expectServed(own, ada);
  });

  test('a statement that takes too long is ended, and says so', async () => {
    const renew = async (sql: string) => {
      await own.admin(`alter role safetypin_authenticator in database faults ${sql}`);
      await own.admin(`select pg_terminate_backend(pid) from pg_stat_activity where ${OURS}`);
      await expectServed(own, ada);
    };
    await renew("set statement_timeout = '400ms'");
    const slow = await own.api.gql(NAP, { s: 5 }, ada.accessToken);
    expect(codeOf(slow)).toBe('TIMEOUT');
    expectClean(slow.text);
    await renew('reset statement_timeout');
  });
});

describe('a client that goes away', () => {
  const napping = async () =>
    (await own.admin<{ n: number }>("select count(*)::int as n from pg_stat_activity where wait_event = 'PgSleep'"))[0]
      ?.n;

  /** Asks, and closes the socket while the answer is awaited. */
  async function leave(query: string, variables: object): Promise<void> {
    const gone = new AbortController();
    const asked = own.api.send('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${ada.accessToken}` },
      body: JSON.stringify({ query, variables }),
      signal: gone.signal,
    });
    const settled = asked.catch(() => {});
    for (let tries = 0; (await napping()) === 0 && tries < 200; tries += 1) await sleep(10);
    expect(await napping()).toBe(1);
    gone.abort();
    await settled;
  }

  test('takes the query it waited for with it (PG-50)', async () => {
    await leave(NAP, { s: 20 });
    for (let tries = 0; (await napping()) !== 0 && tries < 100; tries += 1) await sleep(20);
    expect(await napping()).toBe(0);
    await expectServed(own, ada);
  });

  test('leaves the mutation it asked for to be done', async () => {
    const b = `left ${crypto.randomUUID()}`;
    await leave(WRITE, { b, p: 0.7, k: 0 });
    for (let tries = 0; (await napping()) !== 0 && tries < 100; tries += 1) await sleep(20);
    await sleep(50);
    expect(await own.admin('select 1 as one from ward.copies where body = $1', [b])).toEqual([{ one: 1 }]);
  });
});
