// The commands of an operator, as real processes beside a PostgreSQL of one's own: what CI reads, and a migrator that
// is killed in the middle.
import { spawn } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { connectionUrl, retarget, withClient } from '../../src/platform/connection.ts';
import { addMigration } from '../platform/chains.ts';
import { accessTo } from '../support/access.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { handleOf, type TestDatabase } from '../support/database.ts';

let clone: string;
let data: string;
let db: TestDatabase;

beforeAll(() => {
  clone = realpathSync(mkdtempSync(join(tmpdir(), 'safetypin-clone-')));
  for (const part of ['src', 'sql', 'package.json'])
    cpSync(join(projectRoot, part), join(clone, part), { recursive: true });
  symlinkSync(join(projectRoot, 'node_modules'), join(clone, 'node_modules'));
  for (const folder of ['migrations/committed', 'migrations/reverse', 'data']) {
    mkdirSync(join(clone, folder), { recursive: true, mode: 0o700 });
  }
  data = join(clone, 'data');
  const { passwords } = inject('cluster');
  // The logins are the whole test server's, so their passwords must stay what they are.
  writeFileSync(join(data, 'secrets.json'), JSON.stringify(passwords), { mode: 0o600 });
  const access = accessTo(inject('cluster'), `t_cli_${process.pid}`);
  db = handleOf(access.database, access);
  whenFileEnds(() => rmSync(clone, { recursive: true, force: true }));
});

const url = () => connectionUrl(retarget(db.access.admin, db.name));

interface Said {
  code: number | null;
  out: string;
  err: string;
}

function start(args: string[], env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [join(clone, 'src/cli.ts'), ...args], {
    cwd: clone,
    env: { PATH: process.env.PATH, SAFETYPIN_DATA_DIR: data, INIT_CWD: clone, DATABASE_URL: url(), ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { out: '', err: '' };
  child.stdout.on('data', (text) => (said.out += text));
  child.stderr.on('data', (text) => (said.err += text));
  const ended = new Promise<Said>((resolve) => child.on('close', (code) => resolve({ code, ...said })));
  return { child, said, ended };
}

const safetypin = (args: string[], env?: Record<string, string>) => start(args, env).ended;

async function until(what: () => Promise<boolean> | boolean, seconds = 20): Promise<void> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50)) if (await what()) return;
  throw new Error(`not within ${seconds} s: ${what}`);
}

const asAdmin = async (sql: string, values: unknown[] = []) =>
  (await withClient(retarget(db.access.admin, db.name), (client) => client.query(sql, values))).rows;

describe('status, for CI', () => {
  test('1 before, 0 after, 2 when the database has others', async () => {
    await addMigration(join(clone, 'migrations'), 'brake', 'create table public.brake ();');
    expect(await safetypin(['status'])).toEqual({
      code: 1,
      err: '',
      out: expect.stringMatching(
        /^not run {2}000001\.sql {2}- {20} sha1:[0-9a-f]{40}\n\n0 of 1 committed migrations have run\n$/,
      ),
    });
    expect((await safetypin(['migrate'])).code).toBe(0);
    const after = await safetypin(['status']);
    expect(after).toMatchObject({ code: 0, err: '' });
    expect(after.out).toMatch(/^run {6}000001\.sql {2}\d{4}-\d\d-\d\dT[\d:]{8}Z {2}sha1:/);
    await asAdmin("update graphile_migrate.migrations set hash = 'sha1:other'");
    const other = await safetypin(['status', '--json']);
    expect(other.code).toBe(2);
    expect(JSON.parse(other.out)).toMatchObject({
      database: db.name,
      exitCode: 2,
      migrations: [{ filename: '000001.sql', state: 'changed', hash: 'sha1:other' }],
    });
    const { hash } = JSON.parse((await safetypin(['status', '--json'])).out).migrations[0];
    expect(hash).toBe('sha1:other');
    const right = /sha1:[0-9a-f]{40}/.exec(after.out)?.[0];
    await asAdmin('update graphile_migrate.migrations set hash = $1', [right]);
  });
});

describe('a migrator that is killed', () => {
  test('leaves the database as it was and no lock; who waited goes on at once', { timeout: 60_000 }, async () => {
    await asAdmin('alter table public.brake add column pulled boolean; insert into public.brake values (true)');
    await addMigration(
      join(clone, 'migrations'),
      'half',
      'create table public.half (id int);\nselect pg_sleep(120) from public.brake limit 1;\ninsert into public.half values (1);',
    );
    await asAdmin('alter table public.brake owner to safetypin_owner');
    const running =
      "select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name = 'safetypin migrate' and wait_event = 'PgSleep'";
    const first = start(['migrate']);
    await until(async () => (await asAdmin(running))[0].count === 1);
    const second = start(['migrate']);
    await until(() => second.said.err.includes('waiting for another migration to finish (process '));
    await asAdmin('delete from public.brake');
    const began = Date.now();
    first.child.kill('SIGKILL');
    const said = await second.ended;
    const took = Date.now() - began;
    expect(said.err).toContain(`database ${db.name} is up to date`);
    expect(said.code).toBe(0);
    // The killed one's statement alone would have slept for two minutes.
    expect(took).toBeLessThan(20_000);
    expect(await asAdmin('select id from public.half')).toEqual([{ id: 1 }]);
    expect(await asAdmin('select filename from graphile_migrate.migrations order by 1')).toHaveLength(2);
    expect(
      await asAdmin(
        "select pid from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
      ),
    ).toEqual([]);
  });

  test('alone, the next run finds the database as before', { timeout: 60_000 }, async () => {
    await asAdmin('insert into public.brake values (true)');
    await addMigration(
      join(clone, 'migrations'),
      'third',
      'create table public.third ();\nselect pg_sleep(120) from public.brake limit 1;',
    );
    const first = start(['migrate']);
    await until(
      async () =>
        (
          await asAdmin(
            "select count(*)::int as count from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'",
          )
        )[0].count === 1,
    );
    first.child.kill('SIGKILL');
    await until(
      async () =>
        (
          await asAdmin(
            "select count(*)::int as count from pg_stat_activity where datname = current_database() and application_name like 'safetypin%'",
          )
        )[0].count === 0,
    );
    expect((await asAdmin("select to_regclass('public.third') as found"))[0].found).toBe(null);
    expect((await safetypin(['status'])).code).toBe(1);
    await asAdmin('delete from public.brake');
    expect((await safetypin(['migrate'])).code).toBe(0);
    expect((await safetypin(['status'])).code).toBe(0);
  });
});

describe('doctor', () => {
  test('exits with 1 when something is wrong, and has a form for programs', async () => {
    const table = await safetypin(['doctor']);
    // The test server keeps nothing over a crash.
    expect(table.code).toBe(1);
    expect(table.out).toMatch(/^WRONG {2}durability {8}fsync is off/m);
    expect(table.out).not.toContain('\u001b');
    const json = await safetypin(['doctor', '--json']);
    expect(json.code).toBe(1);
    expect(JSON.parse(json.out)).toContainEqual({
      check: 'durability',
      level: 'wrong',
      line: 'fsync is off: a crash destroys the database; set it to on',
    });
  });
});

describe('provision', () => {
  test('prints the SQL without asking the server', async () => {
    const said = await safetypin(['provision', '--print', '--user', "o'brien"], {
      DATABASE_URL: 'postgres://nobody@127.0.0.1:1/my-db',
    });
    expect(said).toMatchObject({ code: 0, err: '' });
    expect(said.out).toContain('\\connect "my-db"');
    expect(said.out).toContain(`grant safetypin_owner, safetypin_keeper, safetypin_definer to "o'brien";`);
    expect(said.out).toContain(":'safetypin_jobs_password'");
    const full = await safetypin(['provision', '--with-passwords']);
    expect(full.out.match(/password 'SCRAM-SHA-256\$4096:/g)).toHaveLength(3);
    for (const password of Object.values(inject('cluster').passwords)) expect(full.out).not.toContain(password);
  });
});

describe('a server that cannot be used is one line', () => {
  test('too old', async () => {
    const server = await oldServer();
    try {
      const address = server.address();
      const port = typeof address === 'object' ? address?.port : 0;
      const said = await safetypin(['migrate'], { DATABASE_URL: `postgres://a:hunter2@127.0.0.1:${port}/own` });
      expect(said).toEqual({
        code: 1,
        out: '',
        err: `safetypin: the PostgreSQL at 127.0.0.1:${port} is version 14: it must be 15 or newer\n`,
      });
    } finally {
      server.close();
    }
  });

  test('gone in the middle', async () => {
    await asAdmin('insert into public.brake values (true)');
    await addMigration(
      join(clone, 'migrations'),
      'fourth',
      'create table public.fourth ();\nselect pg_sleep(120) from public.brake limit 1;',
    );
    const first = start(['migrate']);
    const sleeping = "from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'";
    await until(async () => (await asAdmin(`select count(*)::int as count ${sleeping}`))[0].count === 1);
    await asAdmin(`select pg_terminate_backend(pid) ${sleeping}`);
    const said = await first.ended;
    expect(said.code).toBe(1);
    expect(said.err).toMatch(
      /^safetypin: the server went away \([^\n]*\): what was not finished was taken back; run the same command again\n$/,
    );
    expect((await asAdmin("select to_regclass('public.fourth') as found"))[0].found).toBe(null);
  });
});

/** Speaks as much of the protocol as it takes to say that it is PostgreSQL 14. */
function oldServer(): Promise<Server> {
  const message = (type: string, ...parts: (string | Buffer)[]) => {
    const body = Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part)));
    const head = Buffer.alloc(5);
    head.write(type);
    head.writeInt32BE(body.length + 4, 1);
    return Buffer.concat([head, body]);
  };
  const int16 = (value: number) => Buffer.from([value >> 8, value & 255]);
  const int32 = (value: number) => Buffer.from([0, 0, value >> 8, value & 255]);
  const ready = message('Z', 'I');
  const greeting = [
    message('R', int32(0)),
    message('S', 'server_version\x0014.23\0'),
    message('K', int32(1), int32(1)),
    ready,
  ];
  const field = [
    int16(1),
    'major\0',
    int32(0),
    int16(0),
    int32(23),
    int16(4),
    Buffer.from([255, 255, 255, 255]),
    int16(0),
  ];
  const answer = [message('T', ...field), message('D', int16(1), int32(2), '14'), message('C', 'SELECT 1\0'), ready];
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.on('data', (data) => {
      if (data[0] === 'X'.charCodeAt(0)) socket.end();
      else socket.write(Buffer.concat(data[0] === 'Q'.charCodeAt(0) ? answer : greeting));
    });
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server)));
}
