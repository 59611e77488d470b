// What runs for somebody who has gone is cancelled, and nothing else ever is.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { createRequests, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { hasPgbouncer, startPooler } from '../pooler/pgbouncer.ts';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let application: Application;
let ada: Person;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  application = await Application.beside(db);
  ada = await application.person('ada');
  admin = await db.connect('admin');
});

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

const through = (pool: pg.Pool, statementNames = 100): Requests =>
  createRequests({ pool, sealer: application.envelopes, statementNames });
const here = (max = 1): pg.Pool => db.pool('authenticator', { max, pipeline: true });

const START = { text: 'select * from api_steps.start_sign_in($1)', values: ['canary@example.com'] };
const attempts = async () =>
  (await admin.query('select count(*)::int as n from identity_private.attempts')).rows[0].n as number;

/** Aborts when the database is asleep in a request. */
async function whenAsleep(gone: AbortController): Promise<void> {
  const asleep = `select from pg_stat_activity where datname = $1 and wait_event = 'PgSleep'`;
  while ((await admin.query(asleep, [db.name])).rowCount === 0) await sleep(2);
  gone.abort();
}

describe('a client that has gone', () => {
  test('takes with it what runs and what stands behind, and leaves the connection to the next one', async () => {
    const pool = here();
    const requests = through(pool);
    const pid = async () => (await pool.query('select pg_backend_pid() as pid')).rows[0].pid;
    const before = [await pid(), await attempts()];
    const gone = new AbortController();
    const asked = requests.inRequest(
      source(null),
      (c) => Promise.all([c.query(START), c.query({ text: 'select pg_sleep(20)' }), c.query(START), c.query(START)]),
      gone.signal,
    );
    const code = refusal(asked);
    await whenAsleep(gone);
    const began = performance.now();
    expect(await code).toBe('57014');
    expect(performance.now() - began).toBeLessThan(2000);
    expect([await pid(), await attempts()]).toEqual(before);
  });

  test('is not noticed in a transaction without a signal, nor once it commits', async () => {
    const requests = through(here());
    const before = await attempts();
    const gone = new AbortController();
    await requests.inRequest(source(null), (c) => c.query(START), gone.signal);
    gone.abort();
    expect(await attempts()).toBe(before + 1);
    const late = new AbortController();
    const undone = requests.inRequest(
      source(null),
      async (c) => {
        await c.query(START);
        late.abort();
      },
      late.signal,
    );
    expect(await refusal(undone)).toBe('57014');
    expect(await attempts()).toBe(before + 1);
  });

  test('costs the connection when it is not known whether the server heard of it', async () => {
    const pool = here();
    const requests = through(pool);
    await pool.query('select 1');
    const gone = new AbortController();
    const asked = requests.inRequest(source(null), (c) => c.query({ text: 'select pg_sleep(0.4)' }), gone.signal);
    const code = refusal(asked);
    // Nobody listens there.
    const client = (pool as unknown as { _clients: { host: string }[] })._clients[0];
    if (client) client.host = '/nowhere';
    await whenAsleep(gone);
    expect(await code).toMatch(/^(57014|57P03)$/);
    expect(pool.totalCount).toBe(0);
  });

  test('hits nobody else, however late the cancel request arrives', async () => {
    const pool = here();
    const requests = through(pool);
    await pool.query('select 1');
    // On its way to the server it is held up until what it was for has long ended.
    const slow = mkdtempSync(join(tmpdir(), 'sp-slow-'));
    const { host, port } = db.config('authenticator');
    const way = createServer((socket) => {
      socket.pause();
      setTimeout(() => {
        const server = connect(`${host}/.s.PGSQL.${port}`);
        server.on('error', () => {});
        socket.on('error', () => {});
        socket.pipe(server).pipe(socket);
      }, 120);
    });
    await new Promise<void>((resolve) => way.listen(`${slow}/.s.PGSQL.${port}`, resolve));
    onTestFinished(() => {
      way.close();
      rmSync(slow, { recursive: true, force: true });
    });
    const client = (pool as unknown as { _clients: { host: string }[] })._clients[0];
    if (client) client.host = slow;
    const gone = new AbortController();
    const nap = (seconds: number, signal?: AbortSignal) =>
      refusal(requests.inRequest(source(null), (c) => c.query({ text: `select pg_sleep(${seconds})` }), signal));
    const left = nap(0.05, gone.signal);
    const next = nap(0.4);
    setTimeout(() => gone.abort(), 20);
    expect([await left, await next]).toEqual(['57014', 'no refusal']);
    expect(pool.totalCount).toBe(1);
  });

  const COUNT = Math.round(3000 * loadConfig().testScale);

  /** Clients that leave at any moment, between others who never do. */
  async function mixed(requests: Requests): Promise<{ left: number; wrong: string[] }> {
    let left = 0;
    const wrong: string[] = [];
    const lanes = Array.from({ length: 6 }, async (_, lane) => {
      for (let i = 0; i < COUNT / 6; i += 1) {
        const gone = new AbortController();
        if (lane % 2 === 0) setTimeout(() => gone.abort(), Math.random() * 4);
        const code = await refusal(
          requests.inRequest(
            source(lane % 3 ? ada : null),
            (c) => Promise.all([c.query({ text: 'select pg_sleep(0.001)' }), c.query({ text: 'select 1' })]),
            lane % 2 === 0 ? gone.signal : undefined,
          ),
        );
        if (code === '57014' && lane % 2 === 0) left += 1;
        else if (code !== 'no refusal') wrong.push(`${lane}: ${code}`);
      }
    });
    await Promise.all(lanes);
    return { left, wrong };
  }

  test(`never has another's statement cancelled, in ${COUNT} tries on two connections`, {
    timeout: 120_000,
  }, async () => {
    const pool = here(2);
    const { left, wrong } = await mixed(through(pool));
    expect(wrong).toEqual([]);
    expect(left).toBeGreaterThan(0);
  });

  test.runIf(hasPgbouncer)('nor through PgBouncer (PG-55)', { timeout: 120_000 }, async () => {
    const pooler = await startPooler({ db, size: 2, kind: 'recommended' });
    const { left, wrong } = await mixed(through(pooler.pool({ max: 6, pipeline: true }), 0));
    expect(wrong).toEqual([]);
    expect(left).toBeGreaterThan(0);
    const gone = new AbortController();
    const code = refusal(
      through(pooler.pool({ max: 1, pipeline: true }), 0).inRequest(
        source(null),
        (c) => c.query({ text: 'select pg_sleep(20)' }),
        gone.signal,
      ),
    );
    await whenAsleep(gone);
    expect(await code).toBe('57014');
  });
});
