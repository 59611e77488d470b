// Whether a server can serve, what is missing when it cannot, and what can still be read then.
import pg from 'pg';
import { describe, expect, test, vi } from 'vitest';
import type { Requests } from '../../src/graphql/adaptor.ts';
import { readinessOf } from '../../src/http/health.ts';
import { AppError } from '../../src/platform/app-error.ts';
import { startApi } from '../api/api.ts';
import { hear } from './log.ts';
import { figures, total } from './scrape.ts';

/** Requests that fail as told, in turn; the last goes on. */
function failing(...codes: (string | null)[]): { requests: Requests; asked: () => number } {
  let asked = 0;
  const inRequest = async () => {
    const code = codes[Math.min(asked, codes.length - 1)];
    asked += 1;
    if (code !== null && code !== undefined) throw new AppError(code, 'canary');
  };
  return { requests: { inRequest } as unknown as Requests, asked: () => asked };
}

describe('readiness', () => {
  test.each([
    ['57P03', 'DATABASE_UNREACHABLE'],
    ['KEYNO', 'KEY_UNAVAILABLE'],
    ['42883', 'NOT_MIGRATED'],
    ['3F000', 'NOT_MIGRATED'],
    ['OLDCP', 'REPLICA_BEHIND'],
    ['42501', 'DATABASE_REFUSES'],
  ])('says in a word what %s means', async (sqlstate, word) => {
    const { result, lines, text } = await hear('info', () => readinessOf(failing(sqlstate).requests)());
    expect(result).toBe(word);
    expect(lines).toEqual([expect.objectContaining({ level: 'warn', event: 'readiness', code: word })]);
    expect(text).not.toContain('canary');
  });

  test('does not end because one connection broke', async () => {
    const { requests, asked } = failing('57P03', null);
    const { result, lines } = await hear('info', readinessOf(requests));
    expect(result).toBe('READY');
    expect(asked()).toBe(2);
    expect(lines).toEqual([]);
  });

  test('is asked of the database twice a second at most', async () => {
    const { requests, asked } = failing(null);
    const readiness = readinessOf(requests);
    await Promise.all(Array.from({ length: 100 }, () => readiness()));
    expect(asked()).toBe(1);
  });

  test('waits two seconds and no longer', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const never = { inRequest: () => new Promise(() => {}) } as unknown as Requests;
    const { result } = await hear('error', async () => {
      const answer = readinessOf(never)();
      await vi.advanceTimersByTimeAsync(2000);
      return answer;
    });
    vi.useRealTimers();
    expect(result).toBe('DATABASE_SLOW');
  });

  test('ends where the database has no migration (a word, and nothing of SQL)', async () => {
    const api = await startApi({ worker: false });
    const admin = await api.db.connect('admin');
    await admin.query('alter function sessions.open_request(bytea, bytea, jsonb) rename to opened');
    const { result } = await hear('error', () => api.send('/readyz'));
    expect(result.status).toBe(503);
    expect(await result.json()).toEqual({ status: 'unavailable', code: 'NOT_MIGRATED' });
    expect((await api.send('/healthz')).status).toBe(200);
    await admin.query('alter function sessions.opened(bytea, bytea, jsonb) rename to open_request');
    await vi.waitFor(async () => expect((await api.send('/readyz')).status).toBe(200), 3000);
  });
});

test('a database that goes away takes neither /metrics nor /healthz with it, and is seen to come back', async () => {
  const api = await startApi({ worker: false });
  expect(total(await figures(api), 'safetypin_database_up')).toBe(1);
  const admin = new pg.Client(api.db.access.admin);
  await admin.connect();
  await admin.query(`alter database ${api.db.name} allow_connections false`);
  const gone = async () =>
    admin.query(
      'select pg_terminate_backend(pid) from pg_stat_activity where datname = $1 and pid <> pg_backend_pid()',
      [api.db.name],
    );
  await gone();
  const { lines } = await hear('info', async () => {
    await api.rest('login', { email: 'nobody@example.com', password: 'not a password of anybody' });
    const began = Date.now();
    const samples = await figures(api);
    expect(Date.now() - began).toBeLessThan(2500);
    expect(total(samples, 'safetypin_database_up')).toBe(0);
    expect(total(samples, 'safetypin_errors_total', { code: 'UNAVAILABLE' })).toBe(1);
    expect(total(samples, 'safetypin_figures_age_seconds')).toBeGreaterThan(10);
    expect(await (await api.send('/readyz')).json()).toEqual({ status: 'unavailable', code: 'DATABASE_UNREACHABLE' });
    expect((await api.send('/healthz')).status).toBe(200);
  });
  expect(lines.find(({ event }) => event === 'readiness').code).toBe('DATABASE_UNREACHABLE');
  const refused = lines.find(({ event }) => event === 'request').requestId;
  expect(lines.find(({ where }) => where === 'database').requestId).toBe(refused);
  expect(JSON.stringify(lines)).not.toMatch(/nobody@|not a password|safetypin_authenticator/);
  await admin.query(`alter database ${api.db.name} allow_connections true`);
  await admin.end();
  await vi.waitFor(async () => expect((await api.send('/readyz')).status).toBe(200), 3000);
  expect(total(await figures(api), 'safetypin_database_up')).toBe(1);
});
