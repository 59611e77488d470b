// The committed migrations, run by graphile-migrate as safetypin_owner.
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Logger } from '@graphile/logger';
import * as graphileMigrate from 'graphile-migrate';
// Its pools stay open for a while after use and end the process when the server goes away under them.
import { parseMigrationText } from 'graphile-migrate/dist/migration.js';
import { clearAllPools } from 'graphile-migrate/dist/pg.js';
import pg from 'pg';
import type { DatabaseAccess } from './access.ts';
import { connectionUrl, OWNER_OPTIONS, retarget, type Say, withClient } from './connection.ts';
import { explainSqlError } from './sql-error.ts';
import { splitStatements } from './sql-statements.ts';
import { StartupError } from './startup-error.ts';

/** Where migrations live; `fixtures` in it is a link to sql/. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL('../../migrations', import.meta.url));

interface Committed {
  filename: string;
  hash: string;
}

/** Settings of graphile-migrate for one database of this server. */
function migrateSettings(access: DatabaseAccess, database: string, folder: string, say: Say): graphileMigrate.Settings {
  return {
    connectionString: connectionUrl(retarget(access.admin, database, OWNER_OPTIONS)),
    rootConnectionString: connectionUrl(retarget(access.admin, 'postgres')),
    databaseOwner: 'safetypin_owner',
    migrationsFolder: folder,
    logger: new Logger(() => (level, message) => {
      if (level === 'error' || level === 'warning') say(message.trim());
    }),
  };
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

/** Runs what is missing; number of migrations that ran. Refuses a database that was built from other ones. */
export async function runCommitted(
  access: DatabaseAccess,
  database: string,
  say: Say,
  folder: string = MIGRATIONS_FOLDER,
): Promise<number> {
  const wanted = await committedMigrations(folder);
  const applied = await withClient(retarget(access.admin, database), appliedMigrations);
  refuseOther(applied, wanted, database, access.embedded);
  const missing = wanted.slice(applied.length);
  if (missing.length === 0) return 0;
  try {
    await graphileMigrate.migrate(migrateSettings(access, database, folder, say));
  } catch (error) {
    throw await explained(error, retarget(access.admin, database, OWNER_OPTIONS), folder);
  } finally {
    clearAllPools();
  }
  return missing.length;
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
async function explained(error: unknown, owner: pg.ClientConfig, folder: string): Promise<unknown> {
  if (!(error instanceof pg.DatabaseError)) return error;
  const applied = await withClient(owner, appliedMigrations);
  const file = (await committedFiles(folder))[applied.length];
  if (!file) return error;
  const { body } = parseMigrationText(file, await readFile(`${folder}/committed/${file}`, 'utf8'));
  const failure = await withClient(owner, (client) => findFailure(client, body));
  const place = { text: body, offset: failure?.offset ?? 0, name: `migrations/committed/${file}` };
  return new StartupError(explainSqlError(failure?.error ?? error, place), { cause: error });
}

/** Runs it again statement by statement, and takes all of it back. */
async function findFailure(client: pg.Client, body: string): Promise<{ error: unknown; offset: number } | undefined> {
  await client.query('begin');
  for (const { text, offset } of splitStatements(body)) {
    try {
      await client.query(text);
    } catch (error) {
      return { error, offset };
    }
  }
  await client.query('rollback');
  return undefined;
}
