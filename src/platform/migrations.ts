// The committed migrations, run by graphile-migrate as safetypin_owner.
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Logger } from 'graphile-migrate';
import {
  type FileMigration,
  getLastMigration,
  getMigrationsAfter,
  runCommittedMigration,
} from 'graphile-migrate/dist/migration.js';
import { type ParsedSettings, parseSettings } from 'graphile-migrate/dist/settings.js';
import pg from 'pg';
import type { DatabaseAccess } from './access.ts';
import { OWNER_OPTIONS, retarget, withClient } from './connection.ts';
import { explainSqlError } from './sql-error.ts';
import { splitStatements } from './sql-statements.ts';
import { StartupError } from './startup-error.ts';

/** Where migrations live; `fixtures` in it is a link to sql/. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url));

interface Committed {
  filename: string;
  hash: string;
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

/**
 * Runs what is missing; number of migrations that ran. Refuses a database that was built from other ones.
 * graphile-migrate's `migrate` makes a pool from a URL, which cannot say all that a connection needs, keeps it open
 * after use, and ends the process when the server goes away under it: so its parts run on a client of ours.
 */
export async function runCommitted(
  access: DatabaseAccess,
  database: string,
  folder: string = MIGRATIONS_FOLDER,
): Promise<number> {
  const settings = await migrateSettings(database, folder);
  return withClient(retarget(access.admin, database, OWNER_OPTIONS), async (client) => {
    const owner = client as pg.Client & pg.PoolClient; // it is never released, only ended
    refuseOther(await appliedMigrations(owner), await committedMigrations(folder), database, access.embedded);
    const missing = await getMigrationsAfter(settings, await getLastMigration(owner, settings));
    for (const migration of missing) {
      try {
        await runCommittedMigration(owner, settings, { database }, migration, '');
      } catch (error) {
        throw await explained(error, owner, migration);
      }
    }
    return missing.length;
  });
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

async function appliedMigrations(client: pg.Client): Promise<Committed[]> {
  const exists = await client.query("select to_regclass('graphile_migrate.migrations') is not null as yes");
  if (!exists.rows[0].yes) return [];
  return (await client.query('select filename, hash from graphile_migrate.migrations order by filename')).rows;
}

function refuseOther(applied: Committed[], wanted: Committed[], database: string, embedded: boolean): void {
  const stranger = applied.find((row, i) => row.filename !== wanted[i]?.filename || row.hash !== wanted[i]?.hash);
  if (!stranger) return;
  const cure = embedded
    ? '`npm run db:reset` builds it anew and ERASES what is in it'
    : 'use a new database, or the version of SafetyPin that built this one';
  throw new StartupError(
    `database ${database} was built by another ${stranger.filename} than this clone has: ${cure}.`,
  );
}

/** Says which statement of which file failed: PostgreSQL gives a position for some errors only. */
async function explained(error: unknown, owner: pg.Client, { body, realFilename }: FileMigration): Promise<unknown> {
  if (!(error instanceof pg.DatabaseError)) return error;
  const failure = await findFailure(owner, body);
  const place = { text: body, offset: failure?.offset ?? 0, name: `migrations/committed/${realFilename}` };
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
