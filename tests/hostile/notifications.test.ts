// PG-46: NOTIFY and LISTEN have no access control. What is sent holds ids only; what is forged wakes somebody, no more.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { until, workerHere } from '../worker/workplace.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
});

/** Every channel that somebody sends to or listens on: from the catalog, and from the worker's own text. */
async function channels(): Promise<string[]> {
  const { rows } = await admin.query<{ channel: string }>(
    `select distinct m[1] as channel from pg_proc, regexp_matches(prosrc, '(?:pg_notify\\(\\s*''|notify\\s+"?)([\\w:.-]+)', 'gi') as m
      where pronamespace::regnamespace::text !~ '^(pg_|information_schema)'`,
  );
  const main = readFileSync(join(projectRoot, 'node_modules/graphile-worker/dist/main.js'), 'utf8');
  const listened = [...main.matchAll(/LISTEN "([^"]+)"/g)].map(([, channel]) => channel as string);
  return [...new Set([...rows.map(({ channel }) => channel), ...listened, 'cache', 'subscription', 'safetypin'])];
}

/** What each role may send. */
const SENDERS = ['safetypin_anonymous', 'safetypin_member', 'safetypin_authenticator', 'safetypin_auditor'] as const;

async function forge(to: readonly string[], payloads: readonly string[]): Promise<void> {
  for (const role of SENDERS) {
    const client = await db.connect(role === 'safetypin_auditor' ? 'auditor' : 'authenticator');
    await client.query(`set role ${role}`);
    for (const channel of to)
      for (const payload of payloads) await client.query('select pg_notify($1, $2)', [channel, payload]);
    await client.end();
  }
}

describe('PG-46 whoever listens to every channel', () => {
  it('hears of a whole journey that something was enqueued, and nothing of whom', async () => {
    const heard: pg.Notification[] = [];
    const names = await channels();
    expect(names).toEqual(expect.arrayContaining(['jobs:insert', 'worker:migrate']));
    for (const role of [...SENDERS, 'safetypin_jobs']) {
      const login = role === 'safetypin_jobs' ? 'jobs' : role === 'safetypin_auditor' ? 'auditor' : 'authenticator';
      const client = await db.connect(login);
      await client.query(`set role ${role}`);
      for (const channel of names) await client.query(`listen "${channel}"`);
      client.on('notification', (message) => heard.push(message));
    }
    const bob = await app.person('bob');
    const { close } = await workerHere(app);
    await app.rows(bob.credential, "select api.create_organization('a second one')");
    await app.rows(bob.credential, 'select api.request_password_reset($1)', [bob.email]);
    await app.rows(bob.credential, 'select api.revoke_other_sessions()');
    await until('the news came', () => heard.length >= SENDERS.length);
    await app.rows(bob.credential, 'select api.logout()');
    await close();
    expect(new Set(heard.map(({ channel }) => channel))).toEqual(new Set(['jobs:insert']));
    for (const { payload } of heard) expect(payload).toMatch(/^(\{"r":[\d.e-]+,"count":\d+\})?$/);
  });
});

describe('PG-46 a forged notification', () => {
  let exitCode: typeof process.exitCode;
  afterEach(() => {
    process.exitCode = exitCode;
  });

  it.each([
    [
      'garbage',
      ['', 'x', '{', '[]', 'null', '"a"', '{"count":-1}', '{"count":1e308}', '{"count":"x"}', '{"__proto__":1}'],
    ],
    [
      'a job of its own',
      ['{"task":"mail__send","payload":{"id":"x"},"count":3}', '{"id":1,"task_identifier":"platform__clean_up"}'],
    ],
    ['a migration that never was', ['{"breaking":true,"migrationNumber":1000000}', '{"breaking":true}']],
    ['the longest there is', ['x'.repeat(7999)]],
  ])('of %s wakes the worker and does nothing else', async (_what, payloads) => {
    exitCode = process.exitCode;
    const { lines, close } = await workerHere(app);
    const jobs = async () =>
      (await admin.query('select count(*)::int as n from graphile_worker._private_jobs')).rows[0].n;
    await until('nothing waits', async () => (await jobs()) === 0);
    const events = async () => (await admin.query('select count(*)::int as n from audit.events')).rows[0].n;
    const before = [await jobs(), await events()];
    await forge(await channels(), payloads);
    await new Promise((resolve) => setTimeout(resolve, 500));
    expect([await jobs(), await events()]).toEqual(before);
    expect(lines.filter((line) => /stopp|shut|again|error|migrat/i.test(line))).toEqual([]);
    expect(process.exitCode).toBe(exitCode);
    // And the worker works.
    await app.rows(ada.credential, 'select api.request_password_reset($1)', [ada.email]);
    await until('the mail is sent', async () => (await jobs()) === 0);
    await close();
  });

  it('of a migration that was made stops the worker, as it should', async () => {
    exitCode = process.exitCode;
    const { lines, close } = await workerHere(app);
    await admin.query('insert into graphile_worker.migrations (id, breaking) values (1000000, true)');
    try {
      // It may not listen yet.
      await until('the worker stops', async () => {
        await forge(['worker:migrate'], ['{"breaking":true,"migrationNumber":1000000}']);
        return lines.some((line) => /breaking migration|stopped/i.test(line));
      });
    } finally {
      await admin.query('delete from graphile_worker.migrations where id = 1000000');
      await close();
    }
  });
});
