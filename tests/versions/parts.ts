// What runs on each PostgreSQL beside 18: everything whose answer the server gives. A new folder or file of tests is in,
// unless it is named here.
import { existsSync } from 'node:fs';
import { join } from 'node:path';

/** Folders under tests/ that are about the programs: processes, mail, logs, the command line. */
const FOLDERS = ['bench', 'cli', 'faults', 'mail', 'observe'];

/** Files of the other folders that no version can change: TypeScript alone, HTTP, poolers, mail servers, killed processes. */
const FILES = [
  'api/bombs.test.ts',
  'api/client-address.test.ts',
  'api/life.test.ts',
  'api/limits.test.ts',
  'api/over-http.test.ts',
  'api/pages.test.ts',
  'api/persisted.test.ts',
  'api/production.test.ts',
  'api/shutdown.test.ts',
  'api/transport.test.ts',
  'hostile/graphql.test.ts',
  'identity/password.test.ts',
  'keyring/application-keys.test.ts',
  'keyring/command.test.ts',
  'keyring/key-file.test.ts',
  'keyring/killed.test.ts',
  'keyring/moved.test.ts',
  'keyring/rows-crash.test.ts',
  'keyring/rows-killed.test.ts',
  'keyring/sensitive-crash.test.ts',
  'matrix/graphql.test.ts',
  'platform/sql-statements.test.ts',
  'platform/waiting.test.ts',
  'pooler/bleeding.test.ts',
  'pooler/doctor.test.ts',
  'pooler/journey.test.ts',
  'pooler/poison.test.ts',
  'worker/killed.test.ts',
  'worker/mail.test.ts',
  'worker/runner.test.ts',
];

/** Of tests/runtime, starts and stops of whole processes, one is worth it on each version. */
const JOURNEY = 'runtime/journey.test.ts';

/** Files that take long and whose answer differs least between versions: `npm test` leaves them out on other versions, `npm run test:versions` runs them. */
const LONG = [
  'access/parallel.test.ts',
  'api/aggregates.test.ts',
  'api/graph.test.ts',
  'api/indexes.test.ts',
  'api/mask.test.ts',
  'api/rest.test.ts',
  'api/sealed.test.ts',
  'api/sealed-attacks.test.ts',
  'api/shell.test.ts',
  'api/tokens.test.ts',
  'identity/recovery.test.ts',
  'keyring/canaries.test.ts',
  'keyring/loud-rotation.test.ts',
  'keyring/rotate-rows.test.ts',
  'keyring/rows-of-tables.test.ts',
  'keyring/seal-rows.test.ts',
  'matrix/functions.test.ts',
  'platform/down.test.ts',
  'platform/expand.test.ts',
  'platform/provision.test.ts',
  'platform/replica.test.ts',
  'pooler/plans.test.ts',
  'sessions/sessions.test.ts',
  'sessions/use.test.ts',
];
const isShort = process.env.SAFETYPIN_TEST_SHORT === 'on';

/** Every cell of the matrix is the same with workers (PG-56), so on other versions it runs with them at once. */
export const withWorkers = ['tests/matrix/tables.test.ts'];

export const include = ['tests/!(runtime)/**/*.test.ts', `tests/${JOURNEY}`];
export const exclude = [
  '**/node_modules/**',
  ...FOLDERS.map((folder) => `tests/${folder}/**`),
  ...[...FILES, ...(isShort ? LONG : [])].map((file) => `tests/${file}`),
  ...withWorkers,
];

/** Names in these lists that are nothing any more. */
export function gone(): string[] {
  return [...FOLDERS, ...FILES, ...LONG, JOURNEY].filter((name) => !existsSync(join(import.meta.dirname, '..', name)));
}

/** The settings that force workers upon every plan that allows them, even where they only cost. */
export const workers = (major: number): Record<string, string> => ({
  [major < 16 ? 'force_parallel_mode' : 'debug_parallel_query']: 'regress',
  parallel_leader_participation: 'off',
  parallel_setup_cost: '0',
  parallel_tuple_cost: '0',
  min_parallel_table_scan_size: '0',
  min_parallel_index_scan_size: '0',
});
