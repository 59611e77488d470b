// A private corner of the machine for one test: its own data directory, folder for temporary files, and port.
import { execFileSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { projectRoot } from '../../src/config.ts';
import { endUsing, freePort, Program, type ProgramOptions } from './programs.ts';

export interface Workplace {
  /** Holds everything of the test; reachable by every account. */
  readonly folder: string;
  readonly dataDirectory: string;
  /** Where PostgreSQL's files are, when they can be in the data directory. */
  readonly cluster: string;
  readonly port: number;
  readonly url: string;
  /** What the programs put into their folder for temporary files and did not take away. */
  temporaryFiles(): string[];
  /** `npm start`, with the workplace in its environment. */
  start(o?: ProgramOptions): Program;
  run(command: string, args: readonly string[], o?: ProgramOptions): Program;
  /** Deletes it, after ending what a failed test left running in it. */
  remove(): Promise<void>;
}

/** Makes a workplace. `data` is copied as its data directory. */
export async function makeWorkplace(data?: string): Promise<Workplace> {
  // Short, because paths of sockets are.
  const folder = realpathSync(mkdtempSync('/tmp/sp-'));
  const temporary = join(folder, 't');
  mkdirSync(temporary);
  for (const path of [folder, temporary]) chmodSync(path, 0o777);
  const dataDirectory = join(folder, 'data');
  // cp keeps owners, which matter to PostgreSQL.
  if (data) execFileSync('cp', ['-a', data, dataDirectory]);
  const port = await freePort();
  const env = { PORT: String(port), SAFETYPIN_DATA_DIR: dataDirectory, TMPDIR: temporary };
  const run = (command: string, args: readonly string[], o: ProgramOptions = {}) =>
    new Program(command, args, { ...o, env: { ...env, ...o.env } });
  return {
    folder,
    dataDirectory,
    cluster: join(dataDirectory, 'postgres'),
    port,
    url: `http://127.0.0.1:${port}`,
    temporaryFiles: () => readdirSync(temporary).filter((name) => name.startsWith('safetypin')),
    start: (o) => run('npm', ['start'], o),
    run,
    async remove() {
      await endUsing(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

const NOT_PART = new Set(['.git', '.data', '.env']);

/** Copies the project as a fresh clone would have it, with its files as they are now; with `packages`, installed. */
export function copyProject(to: string, o: { packages: boolean }): void {
  cpSync(projectRoot, to, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (source) =>
      basename(source) !== 'node_modules' && !(NOT_PART.has(basename(source)) && dirname(source) === projectRoot),
  });
  if (o.packages) linkPackages(to);
}

/** Gives a clone its node_modules as hard links, which is as good as an install and takes a second. */
export function linkPackages(to: string): void {
  const [from, target] = [join(projectRoot, 'node_modules'), join(to, 'node_modules')];
  try {
    execFileSync('cp', ['-al', from, target], { stdio: 'ignore' });
  } catch {
    // Another file system.
    rmSync(target, { recursive: true, force: true });
    execFileSync('cp', ['-a', from, target]);
  }
}

/** An account that is neither root nor PostgreSQL's. */
export function ordinaryUser(): { uid: number; gid: number } {
  const fields = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .find(([name]) => name === 'nobody');
  if (!fields) throw new Error('this machine has no account named nobody to try an ordinary user with');
  return { uid: Number(fields[2]), gid: Number(fields[3]) };
}
