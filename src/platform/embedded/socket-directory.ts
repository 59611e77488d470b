import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { type Account, isReachable } from './account.ts';
import { giveTo } from './cluster.ts';

const PREFIX = 'safetypin-';

/** The path of a socket ends at 107 bytes, and PostgreSQL adds its own name; it also parses the folder as a list. */
function isUsable(folder: string, account: Account | undefined): boolean {
  return Buffer.byteLength(folder) <= 60 && /^[\w/.+-]+$/.test(folder) && isReachable(folder, account);
}

/** Makes the folder for PostgreSQL's socket: private, short, and noted so that the next start can remove it. */
export function makeSocketDirectory(dataDirectory: string, account: Account | undefined): string {
  const home = isUsable(tmpdir(), account) ? tmpdir() : '/tmp';
  const folder = mkdtempSync(join(home, PREFIX));
  writeFileSync(join(dataDirectory, 'socket'), `${folder}\n`, { mode: 0o600 });
  giveTo(account, folder);
  return folder;
}

/** Removes the folder of the last run, if it is still there. */
export function removeSocketDirectory(dataDirectory: string): void {
  const note = join(dataDirectory, 'socket');
  let folder: string;
  try {
    folder = readFileSync(note, 'utf8').trim();
  } catch {
    return;
  }
  if (basename(folder).startsWith(PREFIX)) rmSync(folder, { recursive: true, force: true });
  rmSync(note, { force: true });
}
