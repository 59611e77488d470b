// `npm run db:commit`: makes a committed migration and proves that it runs before anything in git changes.
// graphile-migrate's own `commit` overwrites current.sql with expanded text when it fails, and cannot build the roles,
// extensions and job queue that its shadow database needs; so this writes the same file format by its parts.
import { chmod, mkdir, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { calculateHash } from 'graphile-migrate/dist/hash.js';
import { compileIncludes, parseMigrationText, serializeMigration } from 'graphile-migrate/dist/migration.js';
import type { ParsedSettings } from 'graphile-migrate/dist/settings.js';
import { sluggify } from 'graphile-migrate/dist/sluggify.js';
import type { DatabaseAccess } from '../access.ts';
import type { Say } from '../connection.ts';
import { StartupError } from '../startup-error.ts';
import { buildDatabase, withMigrationLock } from './migrate.ts';
import { committedFiles, committedMigrations, MIGRATIONS_FOLDER } from './migrations.ts';
import { withMaintenance } from './provision.ts';

const SHADOW = 'safetypin_shadow';
const INITIAL_FILE = '000001-initial.sql';
const BLANK = '-- Enter migration here\n';
const INITIAL = '--! Message: initial\n\n--!include all.sql\n';

/**
 * Commits migrations/current.sql as the next migration; while it is blank and nothing is released, rolls the one
 * initial migration again from sql/all.sql. Returns the path of the file made.
 */
export async function commitMigration(access: DatabaseAccess, message: string | undefined, say: Say): Promise<string> {
  const plan = await planCommit(message);
  const text = await compose(plan);
  await proveInShadow(access, plan, text, say);
  const target = join(MIGRATIONS_FOLDER, 'committed', plan.filename);
  await writeReadOnly(`${target}.new`, text);
  for (const old of plan.replaces) if (old !== plan.filename) await rm(join(MIGRATIONS_FOLDER, 'committed', old));
  await rename(`${target}.new`, target);
  if (!plan.initial) await writeFile(join(MIGRATIONS_FOLDER, 'current.sql'), BLANK);
  return `migrations/committed/${plan.filename}`;
}

interface Plan {
  initial: boolean;
  filename: string;
  source: string;
  previous: string | undefined;
  /** Committed files that the new one takes the place of. */
  replaces: string[];
  keeps: string[];
}

async function planCommit(message: string | undefined): Promise<Plan> {
  const current = await readFile(join(MIGRATIONS_FOLDER, 'current.sql'), 'utf8');
  const committed = await committedMigrations();
  const files = await committedFiles();
  if (isBlank(current)) {
    if (committed.length > 1 || (await isReleased())) {
      throw new StartupError('migrations/current.sql is empty: there is nothing to commit');
    }
    return {
      initial: true,
      filename: INITIAL_FILE,
      source: INITIAL,
      previous: undefined,
      replaces: files,
      keeps: [],
    };
  }
  if (committed.length === 0) {
    throw new StartupError(
      'the initial migration comes first: empty migrations/current.sql and run `npm run db:commit`',
    );
  }
  const source = message ? `--! Message: ${message.replace(/\s+/g, ' ')}\n\n${current}` : current;
  const title = parseMigrationText('current.sql', source, false).headers.Message;
  const number = String(committed.length + 1).padStart(6, '0');
  const filename = title ? `${number}-${sluggify(title)}.sql` : `${number}.sql`;
  return { initial: false, filename, source, previous: committed.at(-1)?.hash, replaces: [], keeps: files };
}

function isBlank(sql: string): boolean {
  return sql
    .split('\n')
    .every((line) => line.trim() === '' || (line.trim().startsWith('--') && !line.startsWith('--!')));
}

async function isReleased(): Promise<boolean> {
  const text = await readFile(new URL('../../../package.json', import.meta.url), 'utf8');
  return JSON.parse(text).version !== '0.0.0';
}

async function compose(plan: Pick<Plan, 'filename' | 'source' | 'previous'>): Promise<string> {
  const settings = { migrationsFolder: MIGRATIONS_FOLDER } as ParsedSettings; // all that including needs
  const expanded = await compileIncludes(settings, plan.source, new Set([plan.filename]));
  const { headers, body } = parseMigrationText(plan.filename, expanded, false);
  const hash = calculateHash(body, plan.previous ?? null);
  return serializeMigration(body, { Previous: plan.previous ?? '-', Hash: hash, ...headers });
}

/** The initial migration as sql/ says it now. */
export function composeInitial(): Promise<string> {
  return compose({ filename: INITIAL_FILE, source: INITIAL, previous: undefined });
}

/** migrations/current.sql with what it includes. */
export async function composeCurrent(): Promise<string> {
  const source = await readFile(join(MIGRATIONS_FOLDER, 'current.sql'), 'utf8');
  return compileIncludes({ migrationsFolder: MIGRATIONS_FOLDER } as ParsedSettings, source, new Set(['current.sql']));
}

/** A folder of migrations that is not the clone's own, for as long as `work` runs. */
export async function withMigrationsFolder<T>(
  committed: Readonly<Record<string, string>>,
  work: (folder: string) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'safetypin-migrations-'));
  try {
    await mkdir(join(folder, 'committed'));
    for (const [name, text] of Object.entries(committed)) await writeFile(join(folder, 'committed', name), text);
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Runs the whole chain with the new file in a database of its own, which is dropped again. */
async function proveInShadow(access: DatabaseAccess, plan: Plan, text: string, say: Say): Promise<void> {
  const drop = () => withMaintenance(access, (admin) => admin.query(`drop database if exists ${SHADOW} with (force)`));
  const chain: Record<string, string> = { [plan.filename]: text };
  for (const name of plan.keeps) chain[name] = await readFile(join(MIGRATIONS_FOLDER, 'committed', name), 'utf8');
  await withMigrationsFolder(chain, (folder) =>
    withMigrationLock(access, say, async () => {
      await drop();
      try {
        await buildDatabase(access, SHADOW, () => {}, { folder });
      } finally {
        await drop();
      }
    }),
  );
}

async function writeReadOnly(path: string, text: string): Promise<void> {
  await rm(path, { force: true });
  await writeFile(path, text);
  await chmod(path, 0o444);
}
