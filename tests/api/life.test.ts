// Beginning, losing the database, and ending.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { cloneDatabase } from '../support/database.ts';
import { freePort } from './api.ts';

const HOST = `
  create schema probe;
  grant usage on schema probe to safetypin_anonymous;
  create function probe.slow(seconds float) returns text language sql volatile as $$ select 'done' from pg_sleep(seconds) $$;
  create function probe.backends() returns int language sql stable as
    $$ select count(*)::int from pg_stat_activity where application_name = 'safetypin-api' and datname = current_database() $$;
  grant execute on all functions in schema probe to safetypin_anonymous;
`;

async function start(environment: Record<string, string> = {}) {
  const db = await cloneDatabase();
  const owner = await db.connect('owner');
  await owner.query(HOST);
  const dataDirectory = mkdtempSync(join(tmpdir(), 'safetypin-life-'));
  whenFileEnds(() => rmSync(dataDirectory, { recursive: true, force: true }));
  const config = loadConfig({
    NODE_ENV: 'test',
    PORT: String(await freePort()),
    SAFETYPIN_DATA_DIR: dataDirectory,
    SAFETYPIN_SCHEMAS: 'probe',
    ...environment,
  });
  const keys = await loadApplicationKeys(dataDirectory);
  const options = { config, access: db.access, keys, say: () => {} };
  const server = await startServer(options);
  const gql = async (query: string) => {
    const response = await fetch(`${server.url}/graphql`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query }),
    });
    return (await response.json()) as { data?: Record<string, unknown>; errors?: { extensions: { code: string } }[] };
  };
  return { db, server, options, gql };
}

test('a server that stops finishes what it has begun and takes nothing new', async () => {
  const { server, gql } = await start();
  const begun = gql('mutation { slow(input: { seconds: 0.6 }) { result } }');
  await sleep(200);
  const closing = server.close();
  await sleep(50);
  await expect(fetch(`${server.url}/healthz`)).rejects.toThrow();
  expect((await begun).data).toEqual({ slow: { result: 'done' } });
  await closing;
});

test('a server that stops also finishes what a client asked for that went away', async () => {
  const { server } = await start();
  const gone = new AbortController();
  const asked = fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: 'mutation { slow(input: { seconds: 0.5 }) { result } }' }),
    signal: gone.signal,
  }).catch(() => 'gone');
  await sleep(150);
  gone.abort();
  expect(await asked).toBe('gone');
  const began = performance.now();
  await server.close();
  expect(performance.now() - began).toBeGreaterThan(200);
});

test('a data directory whose key is not the one of the database does not start', async () => {
  const { db, server, options } = await start();
  const other = mkdtempSync(join(tmpdir(), 'safetypin-life-'));
  whenFileEnds(() => rmSync(other, { recursive: true, force: true }));
  const keys = await loadApplicationKeys(other);
  const config = { ...options.config, dataDirectory: other, port: await freePort() };
  await expect(startServer({ ...options, config, keys })).rejects.toThrow(/is not the one this database was made with/);
  await server.close();
  expect(db.name).toMatch(/^t_/);
});

describe('when every connection is killed', () => {
  test('requests under way say so with a code, and the next ones are served', async () => {
    const { db, server, gql } = await start();
    whenFileEnds(() => server.close());
    const spy = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const admin = await db.connect('admin');
    const under = gql('mutation { slow(input: { seconds: 5 }) { result } }');
    await sleep(150);
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'safetypin-api' and datname = current_database()",
    );
    expect((await under).errors?.[0]?.extensions.code).toBe('UNAVAILABLE');
    expect((await gql('mutation { slow(input: { seconds: 0 }) { result } }')).data).toEqual({
      slow: { result: 'done' },
    });
    spy.mockRestore();
  });

  test('and none can be made, the answer is UNAVAILABLE and readiness ends; both come back', async () => {
    const { db, server, gql } = await start();
    whenFileEnds(() => server.close());
    const spy = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    // From another database: one cannot close the door of the room one is in.
    const admin = new pg.Client(db.access.admin);
    await admin.connect();
    await admin.query(`alter database ${db.name} allow_connections false`);
    await admin.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'safetypin-api' and datname = $1",
      [db.name],
    );
    await sleep(100);
    expect((await gql('{ backends }')).errors?.[0]?.extensions.code).toBe('UNAVAILABLE');
    await sleep(600);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${server.url}/healthz`)).status).toBe(200);
    await admin.query(`alter database ${db.name} allow_connections true`);
    await sleep(600);
    expect((await fetch(`${server.url}/readyz`)).status).toBe(200);
    expect((await gql('{ backends }')).data?.backends).toBeGreaterThan(0);
    await admin.end();
    spy.mockRestore();
  });
});

test('through a pooler no statement has a name', async () => {
  const { db, server, gql } = await start({ DATABASE_POOLED: 'on' });
  await gql('{ backends }');
  const admin = await db.connect('admin');
  await admin.query(
    "create or replace function probe.slow(seconds float) returns text language sql volatile as $$ select string_agg(name, ',') from pg_prepared_statements $$",
  );
  for (let i = 0; i < 3; i += 1) {
    expect((await gql('mutation { slow(input: { seconds: 0 }) { result } }')).data).toEqual({ slow: { result: null } });
  }
  await server.close();
});

test('a client that goes away leaves nothing running after its statement', async () => {
  const { server, gql } = await start();
  const gone = new AbortController();
  const asked = fetch(`${server.url}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ query: '{ a: backends b: currentUser { id } }' }),
    signal: gone.signal,
  });
  gone.abort();
  await expect(asked).rejects.toThrow();
  expect((await gql('{ backends }')).data?.backends).toBeGreaterThan(0);
  await server.close();
});
