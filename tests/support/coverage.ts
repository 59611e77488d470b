// Which functions of the database no test ever called: a body in PL/pgSQL is checked only when it runs.
import { appendFileSync, existsSync, readFileSync } from 'node:fs';
import type pg from 'pg';

const OURS = `n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'graphile_migrate', 'graphile_worker', 'public', 'extensions')`;

/** The functions of a database that was just built. */
export async function allFunctions(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(
    `select p.oid::regprocedure::text as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace where ${OURS}
        -- PostgreSQL counts a call when it returns; what only raises never does, nor what is inlined ("return …").
        and p.prosqlbody is null
        and p.prosrc !~* '^(\\s|--[^\\n]*\\n)*begin\\s+raise\\s' order by 1`,
  );
  return rows.map(({ name }) => name);
}

/** Notes what was called in the database this client is connected to. */
export async function noteCalls(client: pg.Client, file: string): Promise<void> {
  const { rows } = await client.query<{ name: string }>(
    `select p.oid::regprocedure::text as name from pg_stat_user_functions s join pg_proc p on p.oid = s.funcid
       join pg_namespace n on n.oid = p.pronamespace where s.calls > 0 and ${OURS}`,
  );
  if (rows.length > 0) appendFileSync(file, `${rows.map(({ name }) => name).join('\n')}\n`);
}

/** What was never called, as one line for the end of a whole run. */
export function uncalled(functions: readonly string[], file: string): string | undefined {
  const called = new Set(existsSync(file) ? readFileSync(file, 'utf8').split('\n') : []);
  const never = functions.filter((name) => !called.has(name));
  return never.length === 0
    ? undefined
    : `${never.length} of ${functions.length} functions were called by no test: ${never.join(', ')}`;
}
