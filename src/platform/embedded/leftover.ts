import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, readlinkSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { codeOf } from '../startup-error.ts';
import { removeSocketDirectory } from './socket-directory.ts';

/** What a running PostgreSQL writes into `postmaster.pid`. */
export interface Postmaster {
  readonly pid: number;
  readonly port: number;
  readonly socketDirectory: string;
  readonly ready: boolean;
}

/** Reads `postmaster.pid` of a cluster, which may be of a server that is gone. */
export function readPostmaster(cluster: string): Postmaster | undefined {
  let lines: string[];
  try {
    lines = readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  const pid = Math.abs(Number(lines[0]));
  if (!Number.isInteger(pid) || pid === 0) return undefined;
  return { pid, port: Number(lines[3]), socketDirectory: lines[4] ?? '', ready: lines[7]?.trim() === 'ready' };
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === 'EPERM';
  }
}

/** PostgreSQL works inside its cluster, so that is where its processes are found, whatever else reused their ids. */
function processesIn(cluster: string): number[] {
  const here = realpathSync(cluster);
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readlinkSync(`/proc/${name}/cwd`) === here;
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Whether this process is a PostgreSQL of this cluster. */
function belongsTo(pid: number, cluster: string): boolean {
  if (process.platform === 'linux') return processesIn(cluster).includes(pid);
  try {
    return execFileSync('ps', ['-o', 'command=', '-p', String(pid)], { encoding: 'utf8' }).includes(cluster);
  } catch {
    return false;
  }
}

async function ends(condition: () => boolean, seconds: number): Promise<boolean> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(25)) if (!condition()) return true;
  return !condition();
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if (codeOf(error) !== 'ESRCH') throw error;
  }
}

/**
 * Stops a server. First it waits a moment for sessions that are just ending, so that none of our own is cut off and
 * complains; then open transactions are rolled back; and if all that takes too long, at once.
 */
export async function stopPostmaster(pid: number, running: () => boolean): Promise<void> {
  for (const [name, seconds] of [
    ['SIGTERM', 0.5],
    ['SIGINT', 20],
    ['SIGQUIT', 5],
    ['SIGKILL', 5],
  ] as const) {
    signal(pid, name);
    if (await ends(running, seconds)) return;
  }
}

/**
 * Clears what an earlier run left behind when it was killed: a server without a supervisor, or the traces of one.
 * Only for the owner of the data directory: any server found here has nobody else.
 */
export async function clearLeftovers(
  dataDirectory: string,
  cluster: string,
  say: (line: string) => void,
): Promise<void> {
  removeSocketDirectory(dataDirectory);
  if (!existsSync(cluster)) return;
  const left = readPostmaster(cluster);
  if (left && belongsTo(left.pid, cluster)) {
    say('stopping a PostgreSQL that an earlier run left behind');
    await stopPostmaster(left.pid, () => isAlive(left.pid) && belongsTo(left.pid, cluster));
  }
  if (process.platform !== 'linux') return;
  // A killed postmaster leaves sessions that notice within moments; until then they hold its shared memory.
  await ends(() => processesIn(cluster).length > 0, 5);
  for (const pid of processesIn(cluster)) signal(pid, 'SIGKILL');
  // PostgreSQL would take a process that reused the id for itself and refuse to start.
  rmSync(join(cluster, 'postmaster.pid'), { force: true });
}
