// The committed migrations, run by graphile-migrate as safetypin_owner.
import { readdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { Logger } from "@graphile/logger";
import * as graphileMigrate from "graphile-migrate";
// Its pools stay open for a while after use and end the process when the server goes away under them.
import { clearAllPools } from "graphile-migrate/dist/pg.js";
import pg from "pg";
import type { DatabaseAccess } from "./access.ts";
import { connectionUrl, OWNER_OPTIONS, retarget, type Say, withClient } from "./connection.ts";

/** Where migrations live; `fixtures` in it is a link to sql/. */
export const MIGRATIONS_FOLDER = fileURLToPath(new URL("../../migrations", import.meta.url));

/** A database and a clone that do not fit; the message is meant for the person at the keyboard. */
export class MigrationRefused extends Error {}

interface Committed {
  filename: string;
  hash: string;
}

/** Settings of graphile-migrate for one database of this server. */
function migrateSettings(access: DatabaseAccess, database: string, folder: string, say: Say): graphileMigrate.Settings {
  return {
    connectionString: connectionUrl(retarget(access.admin, database, OWNER_OPTIONS)),
    rootConnectionString: connectionUrl(retarget(access.admin, "postgres")),
    databaseOwner: "safetypin_owner",
    migrationsFolder: folder,
    logger: new Logger(() => (level, message) => {
      if (level === "error" || level === "warning") say(message.trim());
    }),
  };
}

/** The committed migrations of this clone, in order. */
export async function committedMigrations(folder: string = MIGRATIONS_FOLDER): Promise<Committed[]> {
  const files = (await readdir(`${folder}/committed`)).filter((name) => /^\d{6}.*\.sql$/.test(name)).sort();
  return Promise.all(
    files.map(async (name) => {
      const text = await readFile(`${folder}/committed/${name}`, "utf8");
      const hash = /^--! Hash: (\S+)$/m.exec(text)?.[1];
      if (!hash) throw new MigrationRefused(`migrations/committed/${name} has no hash: it is made by \`npm run db:commit\`, not by hand`);
      return { filename: `${name.slice(0, 6)}.sql`, hash };
    }),
  );
}

/** Runs what is missing; number of migrations that ran. Refuses a database that was built from other ones. */
export async function runCommitted(access: DatabaseAccess, database: string, say: Say, folder: string = MIGRATIONS_FOLDER): Promise<number> {
  const wanted = await committedMigrations(folder);
  const applied = await withClient(retarget(access.admin, database), appliedMigrations);
  refuseOther(applied, wanted, database, access.embedded);
  const missing = wanted.slice(applied.length);
  if (missing.length === 0) return 0;
  await withGraphileMigrate(access, database, folder, say, (settings) => graphileMigrate.migrate(settings));
  return missing.length;
}

/** Calls graphile-migrate and waits until its connections are gone. */
export async function withGraphileMigrate(
  access: DatabaseAccess,
  database: string,
  folder: string,
  say: Say,
  work: (settings: graphileMigrate.Settings) => Promise<unknown>,
): Promise<void> {
  try {
    await work(migrateSettings(access, database, folder, say));
  } catch (error) {
    throw explained(error);
  } finally {
    clearAllPools();
  }
}

async function appliedMigrations(client: pg.Client): Promise<Committed[]> {
  const exists = await client.query("select to_regclass('graphile_migrate.migrations') is not null as yes");
  if (!exists.rows[0].yes) return [];
  return (await client.query("select filename, hash from graphile_migrate.migrations order by filename")).rows;
}

function refuseOther(applied: Committed[], wanted: Committed[], database: string, embedded: boolean): void {
  const stranger = applied.find((row, i) => row.filename !== wanted[i]?.filename || row.hash !== wanted[i]?.hash);
  if (!stranger) return;
  const cure = embedded
    ? "`npm run db:reset` builds it anew and ERASES what is in it"
    : "use a new database, or the version of SafetyPin that built this one";
  throw new MigrationRefused(`database ${database} was built by another ${stranger.filename} than this clone has: ${cure}.`);
}

/** graphile-migrate attaches a readable account with line and caret; keep that, drop its stack. */
function explained(error: unknown): unknown {
  const text = error instanceof Error && "_gmMessageOverride" in error ? error._gmMessageOverride : undefined;
  return typeof text === "string" ? new MigrationRefused(text, { cause: error }) : error;
}
