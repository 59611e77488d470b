import { spawn } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { StartupError } from '../startup-error.ts';
import type { Account } from './account.ts';
import { bareEnvironment, withParent } from './bare-process.ts';
import type { Binaries } from './binaries.ts';

interface NewCluster {
  readonly cluster: string;
  readonly binaries: Binaries;
  readonly account: Account | undefined;
  readonly password: string;
  readonly options: readonly string[];
  readonly signal: AbortSignal | undefined;
}

/** Text sorts alike on every machine: PostgreSQL's own C.UTF-8 needs nothing from the system. 16 and older lack it. */
function localeOptions(major: number): string[] {
  const plain = ['--locale=C', '--encoding=UTF8'];
  return major >= 17 ? [...plain, '--locale-provider=builtin', '--builtin-locale=C.UTF-8'] : plain;
}

export function giveTo(account: Account | undefined, path: string): void {
  if (account) chownSync(path, account.uid, account.gid);
}

/** The major version a cluster was made by, or undefined when there is no cluster. */
export function versionOfCluster(cluster: string): string | undefined {
  const file = join(cluster, 'PG_VERSION');
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  return undefined;
}

/** Makes a cluster. It appears under its name only when it is whole: a stop in the middle leaves no half of one. */
export async function makeCluster(o: NewCluster): Promise<void> {
  const unfinished = `${o.cluster}.new`;
  rmSync(unfinished, { recursive: true, force: true });
  if (existsSync(o.cluster) && statSync(o.cluster).isDirectory()) {
    throw new StartupError(`${o.cluster} exists but holds no database: move it away`);
  }
  mkdirSync(unfinished, { mode: 0o700 });
  const passwordFile = join(unfinished, 'password');
  const data = join(unfinished, 'data');
  mkdirSync(data, { mode: 0o700 });
  writeFileSync(passwordFile, o.password, { mode: 0o600 });
  for (const path of [unfinished, data, passwordFile]) giveTo(o.account, path);
  await runInitdb(o, data, passwordFile);
  renameSync(data, o.cluster);
  rmSync(unfinished, { recursive: true, force: true });
}

function runInitdb(o: NewCluster, data: string, passwordFile: string): Promise<void> {
  const options = ['-D', data, '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${passwordFile}`];
  options.push(...localeOptions(o.binaries.major), ...o.options);
  const [command, args] = withParent('TERM', join(o.binaries.path, 'bin', 'initdb'), options);
  const child = spawn(command, args, {
    cwd: dirname(o.cluster),
    detached: true,
    env: bareEnvironment,
    stdio: ['ignore', 'ignore', 'pipe'],
    ...(o.account && { uid: o.account.uid, gid: o.account.gid }),
    ...(o.signal && { signal: o.signal }),
  });
  let complaint = '';
  child.stderr.setEncoding('utf8').on('data', (part: string) => {
    complaint += part;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      if (code === 0) return resolve();
      const said = complaint.trim().split('\n').at(-1);
      reject(new StartupError(`PostgreSQL could not make its database (initdb, ${signal ?? code}): ${said}`));
    });
  });
}
