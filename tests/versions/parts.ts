// What runs on each PostgreSQL beside 18: everything whose answer the server gives. A new folder of such tests belongs
// into this list; a new file in one of these folders is in already.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** Folders under tests/. One that is not there yet joins when it comes. */
const FOLDERS = [
  'access',
  'api',
  'audit',
  'hostile',
  'identity',
  'journeys',
  'keyring',
  'matrix',
  'platform',
  'pooler',
  'schema',
  'sessions',
  'versions',
  'worker',
];

/** Whole processes that are worth it on each server. */
const FILES = ['tests/runtime/journey.test.ts'];

/** Files of those folders that never ask the database. */
const WITHOUT_SQL = ['tests/identity/password.test.ts', 'tests/platform/sql-statements.test.ts'];

export const include = [...FOLDERS.map((folder) => `tests/${folder}/**/*.test.ts`), ...FILES];
export const exclude = ['**/node_modules/**', ...WITHOUT_SQL];

/** Folders of tests that are neither in the list nor known to be about something else. */
export function undecided(): string[] {
  const elsewhere = ['bench', 'cli', 'clinic', 'mail', 'runtime', 'snapshots', 'support'];
  const tests = join(import.meta.dirname, '..');
  return readdirSync(tests, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && ![...FOLDERS, ...elsewhere].includes(entry.name))
    .map(({ name }) => name);
}

/** Files that are named here and gone. */
export function gone(): string[] {
  return [...FILES, ...WITHOUT_SQL].filter((file) => !existsSync(join(import.meta.dirname, '../..', file)));
}
