import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { StartupError } from '../startup-error.ts';
import type { Account } from './account.ts';
import { bareEnvironment, withParent } from './bare-process.ts';
import type { Binaries } from './binaries.ts';
import { stopPostmaster } from './leftover.ts';
import { makeSocketDirectory, removeSocketDirectory } from './socket-directory.ts';

/** Where a server runs, from what, as whom. */
export interface Place {
  readonly dataDirectory: string;
  readonly cluster: string;
  readonly account: Account | undefined;
  readonly binaries: Binaries;
}

export interface Server {
  readonly socketDirectory: string;
  readonly port: number;
  readonly log: string;
  /** Settles when the server ends without having been told to. */
  readonly lost: Promise<string>;
  hasEnded(): boolean;
  stop(): Promise<void>;
}

/** Part of the socket's name only: the server listens on no network, unless a test says so. */
const PORT = 5432;

/** What a developer's machine of two cores wants, and what keeps secrets out of logs. */
const SETTINGS: Readonly<Record<string, string>> = {
  listen_addresses: '',
  port: String(PORT),
  cluster_name: 'safetypin',
  password_encryption: 'scram-sha-256',
  max_connections: '100',
  shared_buffers: '128MB',
  work_mem: '8MB',
  maintenance_work_mem: '64MB',
  max_wal_size: '512MB',
  random_page_cost: '1.1',
  // Compiling costs more than it gains in statements as short as an API's.
  jit: 'off',
  timezone: 'UTC',
  log_timezone: 'UTC',
  log_line_prefix: '%m [%p] %q%u@%d ',
  // Bind parameters carry credentials and sealed keys. Stock settings print them (-1).
  log_parameter_max_length: '0',
  log_parameter_max_length_on_error: '0',
};

const LOG_LIMIT = 10_000_000;

/** Opens the server's log for appending. A long one is kept once, as postgres.log.1. */
function openLog(dataDirectory: string): { path: string; file: number } {
  const path = join(dataDirectory, 'postgres.log');
  if (existsSync(path) && statSync(path).size > LOG_LIMIT) renameSync(path, `${path}.1`);
  return { path, file: openSync(path, 'a', 0o600) };
}

/** Starts the server's process. It is not ready yet. */
export function launch(place: Place, settings: Readonly<Record<string, string>> = {}): Server {
  const { dataDirectory, cluster, account, binaries } = place;
  const socketDirectory = makeSocketDirectory(dataDirectory, account);
  const all: Record<string, string> = { ...SETTINGS, unix_socket_directories: socketDirectory, ...settings };
  const args = ['-D', cluster, ...Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])];
  const log = openLog(dataDirectory);
  const [command, commandArgs] = withParent('INT', join(binaries.path, 'bin', 'postgres'), args);
  const child = spawn(command, commandArgs, {
    cwd: '/',
    env: bareEnvironment,
    stdio: ['ignore', log.file, log.file],
    // In a session of its own: Ctrl-C in the terminal is for us, and we end requests before the database.
    detached: true,
    ...(account && { uid: account.uid, gid: account.gid }),
  });
  closeSync(log.file);
  return supervise(child, { dataDirectory, socketDirectory, port: Number(all.port), log: log.path });
}

function supervise(
  child: ChildProcess,
  o: { dataDirectory: string; socketDirectory: string; port: number; log: string },
): Server {
  const ended = Promise.withResolvers<string>();
  const lost = Promise.withResolvers<string>();
  let told = false;
  const hasEnded = () => child.exitCode !== null || child.signalCode !== null || child.pid === undefined;
  child.once('error', (error) => ended.resolve(error.message));
  child.once('exit', (code, signal) => ended.resolve(signal ?? `exit ${code}`));
  // The last resort, for an exit that went past stop(): PostgreSQL then ends by itself after us.
  const onExit = () => {
    child.kill('SIGINT');
    removeSocketDirectory(o.dataDirectory);
  };
  process.once('exit', onExit);
  void ended.promise.then((how) => {
    process.off('exit', onExit);
    removeSocketDirectory(o.dataDirectory);
    if (!told) lost.resolve(`PostgreSQL ended by itself (${how}), see ${o.log}`);
  });
  const stop = async () => {
    told = true;
    if (child.pid !== undefined && !hasEnded()) await stopPostmaster(child.pid, () => !hasEnded());
    await ended.promise;
  };
  return { socketDirectory: o.socketDirectory, port: o.port, log: o.log, lost: lost.promise, hasEnded, stop };
}

/** The last complaint in the log, for the one line that says why the server did not start. */
function lastComplaint(log: string): string {
  const lines = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-20);
  const fatal = lines.findLast((line) => /(FATAL|PANIC|error):/.test(line)) ?? lines.at(-1) ?? '';
  return fatal.replace(/^.*?(FATAL|PANIC|error):\s*/, '');
}

const STARTING_UP = '57P03';
const WARN_AFTER_MS = 5000;
const SILENCE_LIMIT_MS = 60_000;

/** Waits until the server answers a connection. */
export async function untilReady(
  server: Server,
  password: string,
  say: (line: string) => void,
  signal?: AbortSignal,
): Promise<void> {
  const started = Date.now();
  let warned = false;
  for (;;) {
    signal?.throwIfAborted();
    if (server.hasEnded()) {
      throw new StartupError(`PostgreSQL did not start: ${lastComplaint(server.log)} (see ${server.log})`);
    }
    const error = await tryToConnect(server, password);
    if (error === undefined) return;
    // Without a SQLSTATE nobody listens yet. While PostgreSQL says that it starts up, it may recover for long.
    const sqlstate = error instanceof pg.DatabaseError ? error.code : undefined;
    const waited = Date.now() - started;
    if (sqlstate === undefined ? waited > SILENCE_LIMIT_MS : sqlstate !== STARTING_UP) {
      const said = error instanceof Error ? error.message : String(error);
      throw new StartupError(`PostgreSQL refuses its administrator: ${said} (see ${server.log})`, { cause: error });
    }
    if (!warned && waited > WARN_AFTER_MS) {
      warned = true;
      say('PostgreSQL recovers what a crash interrupted, this can take a while');
    }
    await sleep(20);
  }
}

async function tryToConnect(server: Server, password: string): Promise<unknown> {
  const { socketDirectory: host, port } = server;
  const client = new pg.Client({ host, port, user: 'postgres', password, database: 'postgres', ssl: false });
  client.on('error', () => {});
  try {
    await client.connect();
    await client.end();
    return undefined;
  } catch (error) {
    return error;
  }
}
