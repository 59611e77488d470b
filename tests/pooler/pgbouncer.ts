// PgBouncer in front of the test PostgreSQL, with its own folder and port.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { inject } from 'vitest';
import { serverAccount } from '../../src/platform/embedded/account.ts';
import { freePort } from '../api/api.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import type { TestDatabase } from '../support/database.ts';

const said = spawnSync('pgbouncer', ['--version'], {
  encoding: 'utf8',
  env: { PATH: `${process.env.PATH}:/usr/sbin` },
});
const [, major, minor] = /PgBouncer (\d+)\.(\d+)/.exec(said.stdout ?? '') ?? [];

/** Whether these tests can run. With CI=true they run anyhow, and fail. */
export const hasPgbouncer = major !== undefined || process.env.CI === 'true';
if (!hasPgbouncer)
  process.stderr.write('pooler: skipped, since PgBouncer is not installed (apt-get install pgbouncer)\n');

const knowsPrepared = Number(major) > 1 || Number(minor) >= 21;

/** A pooler as one finds it: transaction mode, and nothing more. */
const NAIVE = 'pool_mode = transaction\nauth_type = scram-sha-256\nquery_wait_timeout = 5\n';

function recommended(): string {
  const text = readFileSync(join(import.meta.dirname, 'pgbouncer.ini'), 'utf8');
  return knowsPrepared ? text : text.replace(/^max_prepared_statements.*$/m, '');
}

export interface PoolerOptions {
  readonly db: TestDatabase;
  /** Connections to PostgreSQL. */
  readonly size: number;
  /** The file of the repository, or a pooler as one finds it. */
  readonly kind: 'recommended' | 'naive';
  /** Lines for its file that win over those. Defaults to none. */
  readonly extra?: string;
}

export interface Pooler {
  readonly port: number;
  /** The API's login, through the pooler. */
  readonly config: pg.ClientConfig;
  connect(): Promise<pg.Client>;
  pool(options: pg.PoolConfig): pg.Pool;
  /** What it wrote to its log. */
  log(): string;
}

/** Starts a pooler, and stops it after the file's last test. */
export async function startPooler({ db, size, kind, extra = '' }: PoolerOptions): Promise<Pooler> {
  if (major === undefined) throw new Error('PgBouncer is not installed: apt-get install pgbouncer');
  const { host, port: serverPort, passwords } = inject('cluster');
  const folder = mkdtempSync(join(tmpdir(), 'sp-pooler-'));
  const port = await freePort();
  const account = serverAccount(join(folder, 'none'));
  const login = 'safetypin_authenticator';
  const files = {
    'users.txt': `"${login}" "${passwords[login]}"\n`,
    'rules.ini': kind === 'recommended' ? recommended() : NAIVE,
    'pgbouncer.ini': [
      '[databases]',
      `${db.name} = host=${host} port=${serverPort}`,
      '[pgbouncer]',
      `%include ${join(folder, 'rules.ini')}`,
      'listen_addr = 127.0.0.1',
      `listen_port = ${port}`,
      'unix_socket_dir =',
      `auth_file = ${join(folder, 'users.txt')}`,
      `default_pool_size = ${size}`,
      // A server that comes back is asked again soon.
      'server_login_retry = 1',
      `logfile = ${join(folder, 'log')}`,
      extra,
      '',
    ].join('\n'),
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text, { mode: 0o600 });
  for (const path of [folder, ...Object.keys(files).map((name) => join(folder, name))]) {
    if (account) chownSync(path, account.uid, account.gid);
  }
  const child = spawn('pgbouncer', ['-q', join(folder, 'pgbouncer.ini')], {
    cwd: '/',
    env: { PATH: `${process.env.PATH}:/usr/sbin` },
    stdio: 'ignore',
    ...(account && { uid: account.uid, gid: account.gid }),
  });
  whenFileEnds(async () => {
    await ended(child);
    rmSync(folder, { recursive: true, force: true });
  });
  const log = () => readFileSync(join(folder, 'log'), 'utf8');
  const config = { ...db.config('authenticator'), host: '127.0.0.1', port, ssl: false };
  const pooler: Pooler = {
    port,
    config,
    log,
    async connect() {
      const client = new pg.Client(config);
      client.on('error', () => {});
      await client.connect();
      whenFileEnds(() => client.end().catch(() => {}));
      return client;
    },
    pool(options) {
      const pool = new pg.Pool({ ...config, ...options });
      pool.on('error', () => {});
      whenFileEnds(async () => {
        if (!pool.ended) await pool.end();
      });
      return pool;
    },
  };
  await answering(pooler, child, log);
  return pooler;
}

async function answering({ config }: Pooler, child: ChildProcess, log: () => string): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (child.exitCode !== null) throw new Error(`PgBouncer ended with ${child.exitCode}: ${log()}`);
    const client = new pg.Client(config);
    client.on('error', () => {});
    try {
      await client.connect();
      await client.end();
      return;
    } catch {
      await sleep(25);
    }
  }
  throw new Error(`PgBouncer does not answer: ${log()}`);
}

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  await gone;
}
