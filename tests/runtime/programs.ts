// Real processes for the tests of starting and stopping: npm as a person runs it, and what it leaves behind.
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { projectRoot } from '../../src/config.ts';

export interface ProgramOptions {
  /** The clone. Defaults to this one. */
  readonly root?: string;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** An account to run as, when the tests run as root. */
  readonly as?: { readonly uid: number; readonly gid: number };
}

/** One running command and what it has said so far. */
export class Program {
  readonly child: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;
  stdout = '';
  stderr = '';

  constructor(command: string, args: readonly string[], o: ProgramOptions = {}) {
    this.child = spawn(command, args, {
      cwd: o.root ?? projectRoot,
      env: { ...cleanEnvironment(), ...o.env },
      stdio: ['ignore', 'pipe', 'pipe'],
      // A group of its own, as a shell gives to what a person starts.
      detached: true,
      ...o.as,
    });
    this.child.stdout?.setEncoding('utf8').on('data', (part: string) => {
      this.stdout += part;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (part: string) => {
      this.stderr += part;
    });
    this.ended = new Promise((resolve, reject) => {
      this.child.once('error', reject);
      this.child.once('close', (code, signal) => resolve({ code, signal }));
    });
    started.add(this);
  }

  get pid(): number {
    return this.child.pid ?? 0;
  }

  /** Everything said so far, for the message of a test that failed. */
  get said(): string {
    return `${this.stdout}\n--- stderr\n${this.stderr}`;
  }

  /** Waits until the output matches. */
  async says(pattern: RegExp, seconds = 60): Promise<RegExpExecArray> {
    let over = false;
    void this.ended.then(() => {
      over = true;
    });
    for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(20)) {
      const match = pattern.exec(this.stdout) ?? pattern.exec(this.stderr);
      if (match) return match;
      if (over) throw new Error(`ended without saying ${pattern}:\n${this.said}`);
    }
    throw new Error(`did not say ${pattern} within ${seconds} s:\n${this.said}`);
  }

  /** Waits until npm has ended. */
  async ends(seconds = 30): Promise<{ code: number | null; signal: NodeJS.Signals | null }> {
    const late = sleep(seconds * 1000, undefined, { ref: false }).then(() => {
      throw new Error(`did not end within ${seconds} s:\n${this.said}`);
    });
    return await Promise.race([this.ended, late]);
  }

  /** As a terminal does it: to the whole group. */
  signalGroup(name: NodeJS.Signals): void {
    process.kill(-this.pid, name);
  }

  /** The process that is the program itself: the last of the chain npm, bootstrap, server. */
  serverPid(): number {
    const inside = descendants(this.pid).filter((pid) => /(^|\/)node$/.test(commandOf(pid)[0] ?? ''));
    // The bootstrap names the program too, behind itself.
    const program = (pid: number) => commandOf(pid).find((word) => /\.(mjs|ts)$/.test(word));
    return inside.find((pid) => program(pid)?.endsWith('src/main.ts')) ?? 0;
  }
}

const started = new Set<Program>();

/** Ends whatever a failed test left running. */
export async function endPrograms(): Promise<void> {
  for (const program of started) {
    try {
      program.signalGroup('SIGKILL');
    } catch {
      // Has ended.
    }
    await program.ended.catch(() => {});
  }
  started.clear();
}

/** The environment of a person at a terminal: nothing of vitest, of the npm that runs the tests, or of the project. */
export function cleanEnvironment(): Record<string, string | undefined> {
  const ours =
    /^(npm_|INIT_CWD|NODE_|VITEST|TEST$|MODE$|DEV$|PROD$|SSR$|BASE_URL$|SAFETYPIN_|GRAPHILE_|DATABASE_URL|PG|FORCE_COLOR)/;
  const kept = Object.entries(process.env).filter(([name]) => !ours.test(name));
  // The first `node` and `npm` on the path must be the system's, as for a person.
  const path = (process.env.PATH ?? '').split(':').filter((part) => !part.includes('node_modules'));
  return { ...Object.fromEntries(kept), PATH: path.join(':') };
}

export function commandOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

function processes(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

/** Field of /proc/PID/stat, counted after the name, which can hold anything: 1 is the parent, 2 the group. */
function statOf(pid: number, field: 1 | 2): number {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[field]);
  } catch {
    return 0;
  }
}

/** The process group, which is what a terminal sends Ctrl-C to. */
export function groupOf(pid: number): number {
  return statOf(pid, 2);
}

export function descendants(of: number): number[] {
  const parents = new Map(processes().map((pid) => [pid, statOf(pid, 1)]));
  const found = [of];
  for (const pid of found) found.push(...[...parents].filter(([, parent]) => parent === pid).map(([child]) => child));
  return found.slice(1);
}

/** Whether a process works in a folder or below, or was told of it by its arguments or its environment. */
function uses(pid: number, folder: string): boolean {
  try {
    const cwd = readlinkSync(`/proc/${pid}/cwd`);
    if (cwd === folder || cwd.startsWith(`${folder}/`)) return true;
    return ['cmdline', 'environ'].some((name) => readFileSync(`/proc/${pid}/${name}`, 'utf8').includes(folder));
  } catch {
    // Has ended, or is somebody else's.
    return false;
  }
}

/** Every process that has to do with a folder: nothing may be left after a stop. */
export function processesUsing(folder: string): string[] {
  return idsUsing(folder).map((pid) => `${pid} ${commandOf(pid).join(' ')}`);
}

function idsUsing(folder: string): number[] {
  return processes().filter((pid) => uses(pid, folder));
}

/** Ends every process that has to do with a folder of a test. */
export async function endUsing(folder: string): Promise<void> {
  for (const pid of idsUsing(folder)) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // Has ended meanwhile.
    }
  }
  await leftUsing(folder);
}

/** Waits for `folder` to be used by nobody, and answers who still does. */
export async function leftUsing(folder: string, seconds = 10): Promise<string[]> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; await sleep(50)) {
    if (processesUsing(folder).length === 0) return [];
  }
  return processesUsing(folder);
}

/** The id of the PostgreSQL of a cluster, or undefined. */
export function postmasterOf(cluster: string): number | undefined {
  try {
    return Number(readFileSync(join(cluster, 'postmaster.pid'), 'utf8').split('\n')[0]);
  } catch {
    return undefined;
  }
}

/** A port that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
