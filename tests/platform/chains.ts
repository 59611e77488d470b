// Migrations of a test: the clone's own, and others behind them.
import { existsSync } from 'node:fs';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { calculateHash } from 'graphile-migrate/dist/hash.js';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import type { Say } from '../../src/platform/connection.ts';
import { withMigrationsFolder } from '../../src/platform/migrate/db-commit.ts';
import { buildDatabase, withMigrationLock } from '../../src/platform/migrate/migrate.ts';
import { committedFiles, committedMigrations, MIGRATIONS_FOLDER } from '../../src/platform/migrate/migrations.ts';
import type { Patience } from '../../src/platform/migrate/patience.ts';

/** Adds a committed migration, with its reverse, to a folder; its file name. */
export async function addMigration(folder: string, title: string, up: string, down?: string): Promise<string> {
  const previous = (await committedMigrations(folder)).at(-1)?.hash ?? null;
  const file = `${String((await committedFiles(folder)).length + 1).padStart(6, '0')}-${title}.sql`;
  const body = `${up.trim()}\n`;
  const header = `--! Previous: ${previous ?? '-'}\n--! Hash: ${calculateHash(body, previous)}\n--! Message: ${title}\n\n`;
  await writeFile(`${folder}/committed/${file}`, header + body);
  if (down !== undefined) await writeFile(`${folder}/reverse/${file}`, down);
  return file;
}

/** A folder with the clone's migrations, for as long as `work` runs. */
export async function withChain<T>(work: (folder: string) => Promise<T>): Promise<T> {
  return withMigrationsFolder({}, async (folder) => {
    await cp(`${MIGRATIONS_FOLDER}/committed`, `${folder}/committed`, { recursive: true });
    await mkdir(`${folder}/reverse`);
    if (existsSync(`${MIGRATIONS_FOLDER}/reverse`)) {
      await cp(`${MIGRATIONS_FOLDER}/reverse`, `${folder}/reverse`, { recursive: true });
    }
    return work(folder);
  });
}

/** `migrate` with the migrations of a folder. */
export function build(
  access: DatabaseAccess,
  folder: string,
  o: { say?: Say; patience?: Patience } = {},
): Promise<void> {
  const { say = () => {}, patience } = o;
  const work = () => buildDatabase(access, access.database, say, { folder, ...(patience && { patience }) });
  return withMigrationLock(access, say, work, patience);
}
