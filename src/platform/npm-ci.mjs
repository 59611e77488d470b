// @ts-check
// Installing a folder's packages from its lock file, by one process at a time. For the bootstrap (src/start.mjs) and for
// the servers that only tests need (tests/versions). Node built-ins only, parses under Node 18.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import { becomeOwner } from './single-owner.mjs';

/**
 * Becomes the only one that installs in a folder. Whether an install is still needed is to be asked afterwards.
 * @param {string} folder its real path
 * @param {(line: string) => void} say
 */
export async function claimInstall(folder, say) {
  let lock = await becomeOwner('install', folder);
  if (!lock) say('safetypin: waiting for another install in this folder');
  while (!lock) {
    await new Promise((wake) => setTimeout(wake, 250));
    lock = await becomeOwner('install', folder);
  }
  return lock;
}

/**
 * Starts `npm ci` without install scripts, development packages included; what it says goes to stderr.
 * @param {string} folder
 * @param {import('node:net').Server} lock
 */
export function startNpmCi(folder, lock) {
  const npm = process.env.npm_execpath ?? '';
  const found = /^npm/.test(basename(npm)) && existsSync(npm);
  const options = ['ci', '--include=optional', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund'];
  options.push('--loglevel=error');
  return spawn(found ? process.execPath : 'npm', found ? [npm, ...options] : options, {
    cwd: folder,
    // npm inherits the lock's file descriptor as well: if this process alone is killed, the next start waits for the
    // orphaned npm rather than running a second one beside it.
    stdio: ['ignore', 2, 2, /** @type {any} */ (lock)._handle?.fd ?? 'ignore'],
  });
}

/**
 * How a started npm ended: 0, another exit code, a signal, or why it did not start.
 * @param {import('node:child_process').ChildProcess} child
 * @returns {Promise<unknown>}
 */
export function endOf(child) {
  return new Promise((done) => {
    child.on('error', (error) => done(error.message));
    child.on('close', (exit, signal) => done(signal ?? exit));
  });
}
