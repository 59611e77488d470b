// The command line as a person uses it, in a clone of its own with a database of its own.
import { spawn } from 'node:child_process';
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { loadConfig, projectRoot } from '../../src/config.ts';
import { openDatabase } from '../../src/platform/access.ts';
import { claimOrRefuse } from '../../src/platform/claim.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { whenFileEnds } from '../support/cleanup.ts';

let clone: string;
let data: string;

beforeAll(() => {
  clone = realpathSync(mkdtempSync(join(tmpdir(), 'safetypin clone ')));
  data = mkdtempSync(join(tmpdir(), DATA_PREFIX));
  for (const part of ['src', 'sql', 'migrations', 'package.json']) {
    cpSync(join(projectRoot, part), join(clone, part), { recursive: true, verbatimSymlinks: true });
  }
  symlinkSync(join(projectRoot, 'node_modules'), join(clone, 'node_modules'));
  whenFileEnds(() => {
    removeRun(data);
    rmSync(clone, { recursive: true, force: true });
  });
});

interface Said {
  code: number | null;
  out: string;
  err: string;
}

/** Runs a command of the clone. */
function safetypin(args: string[], input = '', cwd = clone): Promise<Said> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [join(clone, 'src/cli.ts'), ...args], {
      cwd,
      env: { PATH: process.env.PATH, SAFETYPIN_DATA_DIR: data, INIT_CWD: cwd },
    });
    const said = { out: '', err: '' };
    child.stdout.on('data', (text) => (said.out += text));
    child.stderr.on('data', (text) => (said.err += text));
    child.on('close', (code) => resolve({ code, ...said }));
    child.stdin.end(input);
  });
}

const committed = () => readdirSync(join(clone, 'migrations/committed')).sort();
const read = (name: string) => readFileSync(join(clone, name), 'utf8');
const write = (name: string, text: string) => writeFileSync(join(clone, name), text);

describe('without a server', () => {
  test('every command that needs one says how to make it', async () => {
    for (const args of [['sql', '-c', 'select 1'], ['doctor']]) {
      const said = await safetypin(args);
      expect(said.code, said.err).toBe(1);
      expect(said.err).toContain('safetypin: there is no database safetypin yet: npm run migrate:up makes it');
    }
  });

  test('migrate makes it, and again does nothing', async () => {
    expect(await safetypin(['migrate'])).toMatchObject({
      code: 0,
      err: expect.stringContaining('database safetypin created\ndatabase safetypin is up to date'),
    });
    expect(await safetypin(['migrate'])).toEqual({ code: 0, out: '', err: 'database safetypin is up to date\n' });
    expect(await safetypin(['doctor'])).toMatchObject({ code: 0, err: '', out: expect.not.stringContaining('WRONG') });
  });
});

/** From here to its end the database runs in this process, as it would in a server beside the command line. */
function besideServer(): void {
  let stop: () => Promise<void>;
  beforeAll(async () => {
    stop = await startServer();
  });
  afterAll(() => stop());
}

async function startServer(): Promise<() => Promise<void>> {
  const claim = await claimOrRefuse(realpathSync(data), 'server');
  const access = await openDatabase(loadConfig({ SAFETYPIN_DATA_DIR: data }), () => {}, { claim });
  return async () => {
    await access.close();
    claim.release();
  };
}

describe('sql', () => {
  besideServer();

  test('shows a table, tags and notices', async () => {
    const said = await safetypin(
      ['sql', '-'],
      "create table public.t (id int, name text);\ninsert into public.t values (1, 'a'), (20, null);\nselect * from public.t order by id; do $$ begin raise notice 'hi'; end $$; drop table public.t;",
    );
    expect(said).toEqual({
      code: 0,
      err: 'NOTICE: hi\n',
      out: 'CREATE TABLE\nINSERT 2\n id | name\n----+------\n  1 | a\n 20 |\n(2 rows)\nDO\nDROP TABLE\n',
    });
  });

  test('runs a file, found from where the command was given, as safetypin_owner', async () => {
    mkdirSync(join(clone, 'work'), { recursive: true });
    write(
      'work/mine.sql',
      '\uFEFF-- mine\nselect current_user::text as who, current_setting($$row_security$$) as rls;',
    );
    const said = await safetypin(['sql', 'mine.sql'], '', join(clone, 'work'));
    expect(said).toMatchObject({ code: 0, err: '' });
    expect(said.out).toMatch(/safetypin_owner \| off/);
  });

  test('an error names file, line, statement and place, and nothing was changed', async () => {
    write(
      'work/bad.sql',
      'create table public.kept (id int);\n\n-- next\ninsert into public.kept\n  values (1), (nowhere);\n',
    );
    const said = await safetypin(['sql', 'work/bad.sql']);
    expect(said.code).toBe(1);
    expect(said.err).toBe(
      'safetypin: ERROR 42703: column "nowhere" does not exist\n' +
        '  work/bad.sql, line 5:\n' +
        '  5 |   values (1), (nowhere);\n' +
        `  ${' '.repeat('5 | '.length + '  values (1), ('.length)}^\n` +
        'Nothing was changed: the whole of work/bad.sql is one transaction.\n',
    );
    expect((await safetypin(['sql', '-c', "select to_regclass('public.kept') as t"])).out).toMatch(
      /^\s*t\s*\n-+\n\s*\n\(1 row\)$/m,
    );
  });

  test('a constraint that is checked at the end takes everything back too', async () => {
    const said = await safetypin([
      'sql',
      '-c',
      'create table public.a (id int primary key, b int references public.a deferrable initially deferred); insert into public.a values (1, 2)',
    ]);
    expect(said.code).toBe(1);
    expect(said.err).toContain('ERROR 23503');
    expect((await safetypin(['sql', '-c', "select to_regclass('public.a') is null as gone"])).out).toContain(' t\n');
  });

  test('a file for psql keeps its begin and commit, but not its own transactions', async () => {
    const said = await safetypin(['sql', '-'], 'begin;\nselect 1 as one;\ncommit;\nselect 2 as two;');
    expect(said.code).toBe(0);
    expect(said.err).toBe(
      'line 1: begin left out: the whole of standard input is one transaction\nline 3: commit left out: the whole of standard input is one transaction\n',
    );
    expect(await safetypin(['sql', '-'], 'create table public.x ();\nrollback;')).toMatchObject({
      code: 1,
      err: 'safetypin: standard input, line 2: rollback: nothing was changed\n',
    });
    expect(await safetypin(['sql', '-'], '\\d t')).toMatchObject({
      code: 1,
      err: expect.stringContaining('is a command of psql, not SQL'),
    });
  });

  test('a terminal obeys nothing that stands in a value', async () => {
    const said = await safetypin(['sql', '-c', "select E'\\x1b[2Jx\\ny' as v"]);
    expect(said.out).toBe('    v\n----------\n \\x1b[2Jx\n y\n(1 row)\n');
  });

  test('a table under forced row-level security fails aloud instead of showing nothing', async () => {
    const said = await safetypin(['sql', '-c', 'update access.organizations set name = name']);
    expect(said.code).toBe(1);
    expect(said.err).toMatch(/ERROR 42501/);
  });

  test('without anything to run it says so', async () => {
    expect(await safetypin(['sql'])).toMatchObject({ code: 1, err: expect.stringContaining('say which file to run') });
    expect(await safetypin(['sql', 'nowhere.sql'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('nowhere.sql cannot be read'),
    });
    expect((await safetypin(['nonsense'])).code).toBe(1);
  });
});

describe('url', () => {
  besideServer();

  test('prints where and as whom, spaces as psql wants them', async () => {
    const said = await safetypin(['url']);
    expect(said.out).toMatch(
      /^postgresql:\/\/postgres:[\w-]+@\/safetypin\?host=%2F\S+&port=5432&options=-c%20role%3Dsafetypin_owner%20-c%20row_security%3Doff\n$/,
    );
    expect((await safetypin(['url', 'jobs'])).out).toMatch(/^postgresql:\/\/safetypin_jobs:/);
    expect((await safetypin(['url', 'nobody'])).code).toBe(1);
  });
});

test('worker runs the jobs until it is told to stop, and other commands join its database', async () => {
  const child = spawn(process.execPath, [join(clone, 'src/cli.ts'), 'worker'], {
    cwd: clone,
    env: { PATH: process.env.PATH, SAFETYPIN_DATA_DIR: data },
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  let said = '';
  await new Promise<void>((resolve, reject) => {
    child.once('exit', () => reject(new Error(said)));
    child.stderr.on('data', (text) => {
      said += text;
      if (said.includes('worker is running')) resolve();
    });
  });
  const added = await safetypin([
    'sql',
    '-c',
    "select id > 0 as added from graphile_worker.add_job('platform__clean_up')",
  ]);
  expect(added).toMatchObject({ code: 0, err: '', out: expect.stringContaining(' t\n') });
  const waiting = async () => (await safetypin(['sql', '-c', 'select count(*) from graphile_worker.jobs'])).out;
  for (let tries = 0; tries < 20 && !(await waiting()).includes(' 0\n'); tries += 1);
  expect(await waiting()).toContain(' 0\n');
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  expect(await gone).toBe(0);
  expect(said).toMatch(/worker is running; Ctrl-C stops it\nStopping \(SIGTERM\)\.\nStopped\.\n$/);
});

describe('db:commit', { timeout: 120_000 }, () => {
  besideServer();

  beforeEach(() => {
    for (const name of committed()) if (!name.startsWith('000001')) rmSync(join(clone, 'migrations/committed', name));
    rmSync(join(clone, 'migrations'), { recursive: true, force: true });
    cpSync(join(projectRoot, 'migrations'), join(clone, 'migrations'), { recursive: true, verbatimSymlinks: true });
    rmSync(join(clone, 'sql'), { recursive: true, force: true });
    cpSync(join(projectRoot, 'sql'), join(clone, 'sql'), { recursive: true });
    write('migrations/current.sql', '-- Enter migration here\n');
  });

  test('rolls the one migration again from sql/, and an old database is told so', async () => {
    write('sql/all.sql', `${read('sql/all.sql')}\ncomment on schema platform is 'changed';\n`);
    expect(await safetypin(['db:commit'])).toMatchObject({
      code: 0,
      err: 'made migrations/committed/000001-initial.sql\n',
    });
    expect(committed()).toEqual(['000001-initial.sql']);
    expect(read('migrations/committed/000001-initial.sql')).toContain("'changed'");
    const old = await safetypin(['migrate']);
    expect(old.code).toBe(1);
    expect(old.err).toMatch(
      /^safetypin: database safetypin was built by another 000001\.sql .*npm run db:reset.*ERASES/,
    );
  });

  test('that fails says where in sql/, and leaves everything as it was', async () => {
    const before = read('migrations/committed/000001-initial.sql');
    write('sql/platform/ids.sql', `${read('sql/platform/ids.sql')}\ncreate table platform.odd (id nonsense);\n`);
    const said = await safetypin(['db:commit']);
    expect(said.code).toBe(1);
    expect(said.err).toMatch(
      /ERROR 42704: type "nonsense" does not exist\n {2}sql\/platform\/ids\.sql, line \d+:\n {2}\d+ \| create table platform\.odd \(id nonsense\);/,
    );
    expect(committed()).toEqual(['000001-initial.sql']);
    expect(read('migrations/committed/000001-initial.sql')).toBe(before);
    expect(read('migrations/current.sql')).toBe('-- Enter migration here\n');
    const left = await safetypin(['sql', '-c', "select count(*) from pg_database where datname = 'safetypin_shadow'"]);
    expect(left.out).toContain(' 0\n');
  });

  test("commits the host's own migration behind ours, and takes it back with its reverse", async () => {
    write('migrations/current.sql', 'create schema clinic;\ncreate table clinic.patients (id uuid primary key);\n');
    expect(await safetypin(['db:commit', '-m', 'Add patients'])).toMatchObject({
      code: 0,
      err: 'made migrations/committed/000002-add-patients.sql\n',
    });
    expect(read('migrations/current.sql')).toBe('-- Enter migration here\n');
    expect(await safetypin(['migrate'])).toMatchObject({ code: 0, err: expect.stringContaining('1 migration run') });
    const exists = async () =>
      (await safetypin(['sql', '-c', "select to_regclass('clinic.patients') is not null as yes"])).out.includes(' t\n');
    expect(await exists()).toBe(true);

    expect(await safetypin(['db:commit'])).toMatchObject({
      code: 1,
      err: 'safetypin: migrations/current.sql is empty: there is nothing to commit\n',
    });
    expect(await safetypin(['migrate:down'])).toMatchObject({
      code: 1,
      err: 'safetypin: 000002-add-patients.sql has no reverse: write migrations/reverse/000002-add-patients.sql first\n',
    });
    mkdirSync(join(clone, 'migrations/reverse'), { recursive: true });
    write('migrations/reverse/000002-add-patients.sql', 'drop table clinic.patients;\ndrop table clinic.nothing;\n');
    expect(await safetypin(['migrate:down'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('migrations/reverse/000002-add-patients.sql, line 2'),
    });
    expect(await exists()).toBe(true);
    write('migrations/reverse/000002-add-patients.sql', 'drop schema clinic cascade;\n');
    expect(await safetypin(['migrate:down'])).toMatchObject({
      code: 0,
      err: expect.stringContaining('took back 000002-add-patients.sql'),
    });
    expect(await exists()).toBe(false);
    expect(await safetypin(['migrate'])).toMatchObject({ code: 0 });
    expect(await exists()).toBe(true);
  });

  test('refuses a migration that does not run, and keeps the text in hand', async () => {
    write('migrations/current.sql', 'create table nowhere.t ();\n');
    const said = await safetypin(['db:commit', '-m', 'bad']);
    expect(said).toMatchObject({
      code: 1,
      err: expect.stringContaining('migrations/committed/000002-bad.sql, line 5'),
    });
    expect(committed()).toEqual(['000001-initial.sql']);
    expect(read('migrations/current.sql')).toBe('create table nowhere.t ();\n');
  });
});

describe('db:reset', { timeout: 120_000 }, () => {
  test('is refused while a server runs on the database', async () => {
    const stop = await startServer();
    expect(await safetypin(['db:reset', '--yes'])).toMatchObject({
      code: 1,
      err: expect.stringContaining('already in use'),
    });
    await stop();
  });

  test('warns, erases and builds anew, also what this clone could not have migrated', async () => {
    await safetypin(['sql', '-c', "update graphile_migrate.migrations set hash = 'sha1:old'"]);
    const said = await safetypin(['db:reset', '--yes']);
    expect(said.code, said.err).toBe(0);
    expect(said.err).toMatch(/^WARNING: this erases everything in the database of .*, its keys and its passwords\.\n/);
    expect(said.err).toContain('the database is new and up to date');
    expect((await safetypin(['migrate'])).code).toBe(0);
  });
});
