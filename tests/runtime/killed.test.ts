import { execFileSync, spawn } from 'node:child_process';
import { chmodSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { serverAccount } from '../../src/platform/embedded/account.ts';
import { shippedBinaries, usableBinaries } from '../../src/platform/embedded/binaries.ts';
import { readPostmaster } from '../../src/platform/embedded/leftover.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import {
  cleanEnvironment,
  commandOf,
  descendants,
  endPrograms,
  leftUsing,
  type Program,
  postmasterOf,
} from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;

describe('kill -9', () => {
  let place: Workplace;
  let rows = 0;
  beforeAll(async () => {
    place = await makeWorkplace();
  });
  afterEach(endPrograms);
  afterAll(() => place.remove());

  async function query(text: string): Promise<pg.QueryResult> {
    const server = readPostmaster(place.cluster);
    const client = new pg.Client({
      host: server?.socketDirectory ?? '',
      port: server?.port ?? 0,
      user: 'postgres',
      password: loadSecrets(place.dataDirectory).postgres,
      database: 'postgres',
      ssl: false,
    });
    await client.connect();
    try {
      return await client.query(text);
    } finally {
      await client.end();
    }
  }

  /** Starts, and commits one more row, which every later start must still have. */
  async function running(): Promise<Program> {
    const program = place.start();
    await program.says(READY);
    await query('create table if not exists survivors (id int)');
    expect((await query('select from survivors')).rowCount).toBe(rows);
    rows += 1;
    await query(`insert into survivors values (${rows})`);
    return program;
  }

  async function expectRecovery(): Promise<void> {
    const program = await running();
    expect((await fetch(`${place.url}/healthz`)).status).toBe(200);
    program.signalGroup('SIGINT');
    expect(await program.ends()).toEqual({ code: 0, signal: null });
    expect(await leftUsing(place.folder)).toEqual([]);
    expect(place.temporaryFiles()).toEqual([]);
  }

  test('of the server: PostgreSQL ends too, and the next start has the data', async () => {
    const program = await running();
    const server = program.serverPid();
    expect(server).toBeGreaterThan(0);
    process.kill(server, 'SIGKILL');
    expect((await program.ends()).code).not.toBe(0);
    expect(await leftUsing(place.folder)).toEqual([]);
    await expectRecovery();
  });

  test('of npm: it is noticed, and everything stops cleanly', async () => {
    const program = await running();
    process.kill(program.pid, 'SIGKILL');
    expect(await leftUsing(place.folder)).toEqual([]);
    expect(place.temporaryFiles()).toEqual([]);
    expect(program.stdout).toContain('Stopped.');
    await expectRecovery();
  });

  test('of the whole group: the next start has the data', async () => {
    const program = await running();
    program.signalGroup('SIGKILL');
    await program.ends();
    expect(await leftUsing(place.folder)).toEqual([]);
    await expectRecovery();
  });

  test('of PostgreSQL: the server says so and stops, and the next start recovers', async () => {
    const program = await running();
    const postmaster = postmasterOf(place.cluster) ?? 0;
    expect(postmaster).toBeGreaterThan(0);
    process.kill(postmaster, 'SIGKILL');
    expect((await program.ends()).code).toBe(1);
    expect(program.stderr).toMatch(
      /^safetypin: PostgreSQL ended by itself \(SIGKILL\), see .*start again to recover$/m,
    );
    expect(await leftUsing(place.folder)).toEqual([]);
    await expectRecovery();
  });

  test('a PostgreSQL without a supervisor is stopped gently and its data kept', async () => {
    // What is left where the kernel cannot be asked to stop it with us.
    const account = serverAccount(place.cluster);
    const binaries = usableBinaries(shippedBinaries(), account, place.dataDirectory, () => {});
    const sockets = join(place.folder, 's');
    mkdirSync(sockets);
    chmodSync(sockets, 0o777);
    const log = openSync(join(place.folder, 'orphan.log'), 'a');
    const options = ['-D', place.cluster, '-c', 'listen_addresses=', '-c', `unix_socket_directories=${sockets}`];
    const orphan = spawn(join(binaries.path, 'bin', 'postgres'), options, {
      cwd: '/',
      stdio: ['ignore', log, log],
      detached: true,
      ...(account && { uid: account.uid, gid: account.gid }),
    });
    const ended = new Promise<number | null>((resolve) => orphan.once('exit', resolve));
    while (!readPostmaster(place.cluster)?.ready) await sleep(20);

    const program = await running();
    expect(program.stdout).toContain('stopping a PostgreSQL that an earlier run left behind');
    // 0 is an orderly end; a kill would be null.
    expect(await ended).toBe(0);
    program.signalGroup('SIGINT');
    await program.ends();
    expect(await leftUsing(place.folder)).toEqual([]);
  });

  test('a stale note of PostgreSQL that names a live stranger does not block the start', async () => {
    const file = join(place.cluster, 'postmaster.pid');
    const { uid, gid } = statSync(place.cluster);
    const stranger = spawn('sleep', ['60'], process.getuid?.() === 0 ? { uid, gid } : {});
    writeFileSync(file, `${stranger.pid}\n${place.cluster}\n1\n5432\n/tmp\n\n0 0\nready\n`);
    try {
      await expectRecovery();
      expect(stranger.exitCode ?? stranger.signalCode).toBeNull();
    } finally {
      stranger.kill();
    }
  });

  describe('under a Node that cannot replace itself, where the bootstrap waits beside the server', () => {
    // As the first start on a machine with an older Node: later ones find the shipped Node on npm's path.
    const ask = ['-p', 'typeof process.execve'];
    const answer = execFileSync('node', ask, { env: cleanEnvironment(), encoding: 'utf8' });
    const old = answer.trim() === 'undefined';

    /** `sh` plays npm, which starts the bootstrap and waits. */
    async function startedByHand(): Promise<{ program: Program; bootstrap: number }> {
      const program = place.run('sh', ['-c', 'node src/start.mjs src/main.ts; exit $?'], {
        env: { npm_lifecycle_event: 'start' },
      });
      await program.says(READY);
      const bootstrap = descendants(program.pid).find((pid) => commandOf(pid)[1] === 'src/start.mjs') ?? 0;
      expect(bootstrap).toBeGreaterThan(0);
      return { program, bootstrap };
    }

    test.runIf(old)('of npm: the bootstrap notices, and everything stops cleanly', async () => {
      const { program } = await startedByHand();
      process.kill(program.pid, 'SIGKILL');
      expect(await leftUsing(place.folder)).toEqual([]);
      expect(program.stdout).toContain('Stopped.');
    });

    test.runIf(old)('of the bootstrap: the server notices, and stops cleanly', async () => {
      const { program, bootstrap } = await startedByHand();
      process.kill(bootstrap, 'SIGKILL');
      expect(await leftUsing(place.folder)).toEqual([]);
      expect(program.stdout).toContain('Stopped.');
    });

    test.runIf(old)('SIGTERM and exit codes are passed on', async () => {
      const { program, bootstrap } = await startedByHand();
      process.kill(bootstrap, 'SIGTERM');
      expect(await program.ends()).toEqual({ code: 0, signal: null });
      expect(await leftUsing(place.folder)).toEqual([]);
      const refused = place.run('node', ['src/start.mjs', 'src/main.ts'], { env: { PORT: '80000' } });
      expect((await refused.ends()).code).toBe(1);
    });
  });
});
