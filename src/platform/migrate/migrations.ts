// The committed migrations, run by graphile-migrate as safetypin_owner.
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Logger } from 'graphile-migrate';
import { isNoTransactionDefined } from 'graphile-migrate/dist/header.js';
import {
  type FileMigration,
  getLastMigration,
  getMigrationsAfter,
  runCommittedMigration,
} from 'graphile-migrate/dist/migration.js';
import { type ParsedSettings, parseSettings } from 'graphile-migrate/dist/settings.js';
import pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { OWNER_OPTIONS, retarget, type Say, withClient } from '../connection.ts';
import { explainSqlError } from '../sql/error.ts';
import { splitStatements } from '../sql/statements.ts';
import { StartupError } from '../startup-error.ts';
import { takeLock } from './lock.ts';
import { PATIENCE, type Patience, patiently } from './patience.ts';
import { dropUnfinished } from './unfinished.ts';

/** Where migrations live; `fixtures` in it is a link to sql/. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../../migrations', import.meta.url));

interface Committed {
  readonly filename: string;
  readonly hash: string;
}

export interface Applied extends Committed {
  readonly date: Date;
}

/** The names of the committed files of this clone, in order. */
export async function committedFiles(folder: string = MIGRATIONS_FOLDER): Promise<string[]> {
  return (await readdir(`${folder}/committed`)).filter((name) => /^\d{6}.*\.sql$/.test(name)).sort();
}

/** The committed migrations of this clone, in order. */
export async function committedMigrations(folder: string = MIGRATIONS_FOLDER): Promise<Committed[]> {
  return Promise.all(
    (await committedFiles(folder)).map(async (name) => {
      const text = await readFile(`${folder}/committed/${name}`, 'utf8');
      const hash = /^--! Hash: (\S+)$/m.exec(text)?.[1];
      if (!hash)
        throw new StartupError(
          `migrations/committed/${name} has no hash: it is made by \`npm run db:commit\`, not by hand`,
        );
      return { filename: `${name.slice(0, 6)}.sql`, hash };
    }),
  );
}

export interface RunOptions {
  /** Where the migrations are. Defaults to those of this clone. */
  readonly folder?: string;
  /** How long to wait for locks. Defaults to 5 seconds a lock, 10 minutes a migration. */
  readonly patience?: Patience;
  /** Takes a line for each wait. Defaults to nobody. */
  readonly say?: Say;
}

/**
 * Runs what is missing; number of migrations that ran. Refuses a database that was built from other ones.
 * graphile-migrate's `migrate` makes a pool from a URL, which cannot say all that a connection needs, keeps it open
 * after use, and ends the process when the server goes away under it: so its parts run on a client of ours.
 */
export async function runCommitted(access: DatabaseAccess, database: string, o: RunOptions = {}): Promise<number> {
  const { folder = MIGRATIONS_FOLDER, patience = PATIENCE, say = () => {} } = o;
  const settings = await migrateSettings(database, folder);
  const config = { ...retarget(access.admin, database, OWNER_OPTIONS), application_name: 'safetypin migrate' };
  return withClient(config, async (client) => {
    const owner = client as pg.Client & pg.PoolClient; // it is never released, only ended
    // The one that runs them holds a lock itself: when a migrator is killed, its last statement may go on for a moment.
    await takeLock(owner, 'contents', patience, say);
    refuseOther(await appliedMigrations(owner), await committedMigrations(folder), database, access.embedded);
    const missing = await getMigrationsAfter(settings, await getLastMigration(owner, settings));
    for (const migration of missing) {
      const what = `migrations/committed/${migration.realFilename}`;
      const waiting = {
        client,
        watcher: retarget(access.admin, database),
        what,
        patience: patienceFor(migration, patience),
        say,
      };
      await patiently(waiting, () => runOne(owner, settings, database, migration));
    }
    return missing.length;
  });
}

/** Building an index concurrently stops nobody while it waits, so it may wait as long as it likes. */
function patienceFor({ body }: FileMigration, patience: Patience): Patience {
  return isNoTransactionDefined(body) && /\bconcurrently\b/i.test(body)
    ? { ...patience, lock: patience.total }
    : patience;
}

async function runOne(
  owner: pg.Client & pg.PoolClient,
  settings: ParsedSettings,
  database: string,
  migration: FileMigration,
): Promise<void> {
  const loose = isNoTransactionDefined(migration.body);
  if (loose) await dropUnfinished(owner, migration.body);
  try {
    await runCommittedMigration(owner, settings, { database }, migration, '');
  } catch (error) {
    if (loose) await dropUnfinished(owner, migration.body);
    throw await explained(error, owner, migration, loose);
  }
}

/** Settings of graphile-migrate. The connection strings name what is demanded and are never used. */
async function migrateSettings(database: string, folder: string): Promise<ParsedSettings> {
  return parseSettings({
    connectionString: `postgres:///${encodeURIComponent(database)}`,
    rootConnectionString: 'postgres:///postgres',
    databaseOwner: 'safetypin_owner',
    migrationsFolder: folder,
    logger: new Logger(() => () => {}),
  });
}

/** What has run in a database, in order. */
export async function appliedMigrations(client: pg.Client): Promise<Applied[]> {
  const exists = await client.query("select to_regclass('graphile_migrate.migrations') is not null as yes");
  if (!exists.rows[0].yes) return [];
  return (await client.query('select filename, hash, date from graphile_migrate.migrations order by filename')).rows;
}

function refuseOther(applied: readonly Committed[], wanted: readonly Committed[], database: string, embedded: boolean) {
  const stranger = applied.find((row, i) => row.filename !== wanted[i]?.filename || row.hash !== wanted[i]?.hash);
  if (!stranger) return;
  const cure = embedded
    ? '`npm run db:reset` builds it anew and ERASES what is in it'
    : 'use a new database, or the version of SafetyPin that built this one';
  throw new StartupError(
    `database ${database} was built by another ${stranger.filename} than this clone has: ${cure}.`,
  );
}

/** Whether it only had to wait too long, and may have its locks at the next try. */
const isBusy = (error: pg.DatabaseError) => error.code === '55P03' || error.code === '40P01';

/** Says which statement of which file failed: PostgreSQL gives a position for some errors only. */
async function explained(
  error: unknown,
  owner: pg.Client,
  { body, realFilename, fullPath }: FileMigration,
  loose: boolean,
): Promise<unknown> {
  if (!(error instanceof pg.DatabaseError) || isBusy(error)) return error;
  // Outside of a transaction it is one statement, and cannot be tried again and taken back.
  const only = { error, offset: error.position ? 0 : (splitStatements(body)[0]?.offset ?? 0) };
  const failure = loose ? only : await findFailure(owner, body);
  // The body is what follows the headers; people count lines in the file.
  const text = await readFile(fullPath, 'utf8');
  const before = Math.max(0, text.indexOf(body.trim()));
  const place = { text, offset: before + (failure?.offset ?? 0), name: `migrations/committed/${realFilename}` };
  return new StartupError(explainSqlError(failure?.error ?? error, place), { cause: error });
}

/** Runs it again statement by statement, and takes all of it back. */
async function findFailure(client: pg.Client, body: string): Promise<{ error: unknown; offset: number } | undefined> {
  await client.query('begin');
  try {
    for (const { text, offset } of splitStatements(body)) {
      try {
        await client.query(text);
      } catch (error) {
        return { error, offset };
      }
    }
  } finally {
    await client.query('rollback');
  }
  return undefined;
}
