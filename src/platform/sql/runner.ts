// `safetypin sql`: runs SQL as safetypin_owner in one transaction and shows what came of it.
import type pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../connection.ts';
import { StartupError } from '../startup-error.ts';
import { explainSqlError } from './error.ts';
import { type Statement, splitStatements } from './statements.ts';
import { formatResult } from './table.ts';

/** SQL to run, and where what it says goes. */
export interface SqlRun {
  readonly sql: string;
  /** What to call the text in messages: a file's name. */
  readonly name: string;
  /** Runs as the administrator himself instead of safetypin_owner. Defaults to false. */
  readonly asAdministrator?: boolean;
  readonly out: (text: string) => void;
  readonly note: (text: string) => void;
}

/** Runs all of it or nothing. Throws a StartupError that holds the explained error. */
export async function runSql(access: DatabaseAccess, run: SqlRun): Promise<void> {
  const options = run.asAdministrator ? undefined : OWNER_OPTIONS;
  await withClient(retarget(access.admin, access.database, options), async (client) => {
    client.on('notice', (notice) => run.note(`${notice.severity}: ${notice.message}`));
    await client.query('begin');
    for (const statement of splitStatements(run.sql)) {
      if (leaveOut(statement, run)) continue;
      run.out(formatResult(await runStatement(client, statement, run), statement.text));
    }
    await commit(client, run);
  });
}

async function runStatement(client: pg.Client, statement: Statement, run: SqlRun): Promise<pg.QueryArrayResult> {
  try {
    // As text: a value is shown as PostgreSQL writes it, not as JavaScript would.
    return await client.query({ text: statement.text, rowMode: 'array', types: { getTypeParser: () => String } });
  } catch (error) {
    throw failed(error, run, statement.offset);
  }
}

/** Constraints and triggers that are deferred speak up only now. */
async function commit(client: pg.Client, run: SqlRun): Promise<void> {
  try {
    await client.query('commit');
  } catch (error) {
    throw failed(error, run, run.sql.length);
  }
}

function failed(error: unknown, run: SqlRun, offset: number): StartupError {
  const account = explainSqlError(error, { text: run.sql, offset, name: run.name });
  return new StartupError(`${account}\nNothing was changed: the whole of ${run.name} is one transaction.`, {
    cause: error,
  });
}

/** Files written for psql hold their own begin and commit. */
function leaveOut(statement: Statement, run: SqlRun): boolean {
  const line = run.sql.slice(0, statement.offset).split('\n').length;
  if (statement.text.startsWith('\\')) {
    throw new StartupError(`${run.name}, line ${line}: ${statement.text.split('\n')[0]} is a command of psql, not SQL`);
  }
  if (/^(rollback|abort)(?!\s+to\b)/i.test(statement.text)) {
    throw new StartupError(`${run.name}, line ${line}: ${statement.text}: nothing was changed`);
  }
  if (!/^(begin|start\s+transaction|commit|end)\b/i.test(statement.text)) return false;
  run.note(`line ${line}: ${statement.text} left out: the whole of ${run.name} is one transaction`);
  return true;
}
