// `npm run migrate:down`: takes the last migration back, by the reverse that came with it.
import { readFile } from 'node:fs/promises';
import type { DatabaseAccess } from './access.ts';
import { OWNER_OPTIONS, retarget, type Say, withClient } from './connection.ts';
import { withMigrationLock } from './migrate.ts';
import { committedFiles, MIGRATIONS_FOLDER } from './migrations.ts';
import { inTransaction } from './provision.ts';
import { explainSqlError } from './sql-error.ts';
import { splitStatements } from './sql-statements.ts';
import { codeOf, StartupError } from './startup-error.ts';

/** Runs migrations/reverse/<file> of the last migration in one transaction and forgets that it ran. */
export async function migrateDown(access: DatabaseAccess, say: Say): Promise<void> {
  await withMigrationLock(access, say, () =>
    withClient(retarget(access.admin, access.database, OWNER_OPTIONS), async (owner) => {
      const last = await owner.query('select filename from graphile_migrate.migrations order by filename desc limit 1');
      const number = String(last.rows[0]?.filename ?? '').slice(0, 6);
      const file = (await committedFiles()).find((name) => name.startsWith(number) && number !== '');
      if (!file) throw new StartupError('no migration of this clone has run: there is nothing to take back');
      const text = await readReverse(file);
      await inTransaction(owner, async () => {
        for (const { text: statement, offset } of splitStatements(text)) {
          await owner.query(statement).catch((error: unknown) => {
            const place = { text, offset, name: `migrations/reverse/${file}` };
            throw new StartupError(explainSqlError(error, place), { cause: error });
          });
        }
        await owner.query('delete from graphile_migrate.migrations where filename = $1', [`${number}.sql`]);
      });
      say(`took back ${file}`);
    }),
  );
}

async function readReverse(file: string): Promise<string> {
  try {
    return await readFile(`${MIGRATIONS_FOLDER}/reverse/${file}`, 'utf8');
  } catch (error) {
    if (codeOf(error) !== 'ENOENT') throw error;
    const cure = file.startsWith('000001')
      ? 'the first migration is taken back by dropping the database'
      : `write migrations/reverse/${file} first`;
    throw new StartupError(`${file} has no reverse: ${cure}`, { cause: error });
  }
}
