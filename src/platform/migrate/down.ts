// `npm run migrate:down`: takes the last migration back, by the reverse that came with it.
import { readFile } from 'node:fs/promises';
import { isNoTransactionDefined } from 'graphile-migrate/dist/header.js';
import type pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { OWNER_OPTIONS, retarget, type Say, withClient } from '../connection.ts';
import { explainSqlError } from '../sql/error.ts';
import { splitStatements } from '../sql/statements.ts';
import { codeOf, StartupError } from '../startup-error.ts';
import { takeLock } from './lock.ts';
import { withMigrationLock } from './migrate.ts';
import { appliedMigrations, committedFiles, committedMigrations, MIGRATIONS_FOLDER } from './migrations.ts';
import { PATIENCE, type Patience, patiently } from './patience.ts';
import { inTransaction } from './provision.ts';

export interface DownOptions {
  /** Whether somebody agreed to lose everything, which taking back the first migration means. Defaults to false. */
  readonly yes?: boolean;
  /** Whether people and organizations may be lost with it. Defaults to false. */
  readonly force?: boolean;
  readonly folder?: string;
  readonly patience?: Patience;
}

/** Runs migrations/reverse/<file> of the last migration in one transaction and forgets that it ran. */
export async function migrateDown(access: DatabaseAccess, say: Say, o: DownOptions = {}): Promise<void> {
  const { folder = MIGRATIONS_FOLDER, patience = PATIENCE } = o;
  const config = { ...retarget(access.admin, access.database, OWNER_OPTIONS), application_name: 'safetypin migrate' };
  const work = () =>
    withClient(config, async (owner) => {
      await takeLock(owner, 'contents', patience, say);
      const { file, filename } = await lastOf(owner, folder);
      const reverse = await readReverse(folder, file);
      const everything = filename === '000001.sql';
      if (everything && !o.yes) {
        const loss = `drops everything SafetyPin has in ${access.database}`;
        throw new StartupError(`taking back the first migration ${loss}: say --yes`);
      }
      const guard = everything && !o.force ? () => refuseLoss(owner, access.database) : async () => {};
      const name = `migrations/reverse/${file}`;
      await patiently(
        { client: owner, watcher: retarget(access.admin, access.database), what: name, patience, say },
        () => takeBack(owner, { text: reverse, name, filename }, guard),
      );
      say(`took back ${file}`);
    });
  await withMigrationLock(access, say, work, patience);
}

async function lastOf(owner: pg.Client, folder: string): Promise<{ file: string; filename: string }> {
  const last = (await appliedMigrations(owner)).at(-1);
  const number = last?.filename.slice(0, 6);
  const file = (await committedFiles(folder)).find((name) => number !== undefined && name.startsWith(number));
  if (!last) throw new StartupError('no migration has run: there is nothing to take back');
  if (!file) {
    throw new StartupError(`${last.filename} ran last, and this clone does not have it: use the version that does`);
  }
  const ours = (await committedMigrations(folder)).find(({ filename }) => filename === last.filename);
  if (ours?.hash !== last.hash) {
    throw new StartupError(`another ${last.filename} ran than this clone has: its reverse would not fit`);
  }
  return { file, filename: last.filename };
}

interface Reverse {
  readonly text: string;
  readonly name: string;
  readonly filename: string;
}

async function takeBack(
  owner: pg.Client,
  { text, name, filename }: Reverse,
  guard: () => Promise<void>,
): Promise<void> {
  const forget = () => owner.query('delete from graphile_migrate.migrations where filename = $1', [filename]);
  const run = async () => {
    await guard();
    for (const { text: statement, offset } of splitStatements(text)) {
      await owner.query(statement).catch((error: unknown) => {
        if (['55P03', '40P01'].includes(codeOf(error) ?? '')) throw error;
        throw new StartupError(explainSqlError(error, { text, offset, name }), { cause: error });
      });
    }
    await forget();
  };
  if (isNoTransactionDefined(text)) await run();
  else await inTransaction(owner, run);
}

/** The first migration made everything, so its reverse drops everything. In a transaction. */
async function refuseLoss(owner: pg.Client, database: string): Promise<void> {
  // Even the owner sees no row of a table that forces its rules.
  await owner.query('alter table identity.people no force row level security');
  await owner.query('alter table access.organizations no force row level security');
  const { rows } = await owner.query<{ people: string; organizations: string; host: string | null }>(
    `select (select count(*) from identity.people) as people, (select count(*) from access.organizations) as organizations,
       (select string_agg(distinct c.oid::regclass::text, ', ') from pg_catalog.pg_policy p
          join pg_catalog.pg_class c on c.oid = p.polrelid
         where c.relnamespace::regnamespace::text
           !~ '^(platform|keyring|audit|identity|access|sessions|request|api|graphile_worker)(_private|_steps)?$') as host`,
  );
  const [found] = rows;
  const lost: string[] = [];
  if (found?.people !== '0') lost.push(`${found?.people} people`);
  if (found?.organizations !== '0') lost.push(`${found?.organizations} organizations`);
  if (found?.host) lost.push(`the protection of ${found.host}`);
  if (lost.length > 0) {
    throw new StartupError(`${database} has ${lost.join(', ')}, which would be lost: back it up and say --yes --force`);
  }
}

async function readReverse(folder: string, file: string): Promise<string> {
  try {
    return await readFile(`${folder}/reverse/${file}`, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    throw new StartupError(`${file} has no reverse: write migrations/reverse/${file} first`, { cause: error });
  }
}
