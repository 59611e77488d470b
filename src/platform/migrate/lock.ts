// One migration at a time. Locks of the session, not of a transaction: `create database` refuses transactions, and the
// server frees them when the process that holds them dies.
import type pg from 'pg';
import type { Say } from '../connection.ts';
import { sqlstateOf } from '../errors.ts';
import { StartupError } from '../startup-error.ts';
import type { Patience } from './patience.ts';

const LOCKS = {
  /** Roles and databases, taken in the maintenance database. */
  server: '723389746', // SAFETYPIN on a telephone keypad
  /** Contents of one database, taken there. */
  contents: '723389747',
} as const;

const LOCK_NOT_AVAILABLE = '55P03';
const UNKNOWN_OR_UNSUPPORTED = ['42704', '22023', '42501'];

/** Takes it for as long as the client is connected, after whoever has it now; says that it waits, and for whom. */
export async function takeLock(
  client: pg.Client,
  which: keyof typeof LOCKS,
  patience: Patience,
  say: Say,
): Promise<void> {
  // What a role or a database may have set must not end a migration that takes its time.
  await client.query('set statement_timeout = 0');
  await client.query('set idle_in_transaction_session_timeout = 0');
  await client.query('set idle_session_timeout = 0');
  // When this process is killed the server ends its statement within a second. Not every system can do that.
  await client.query("set client_connection_check_interval = '1s'").catch((error: unknown) => {
    if (!UNKNOWN_OR_UNSUPPORTED.includes(sqlstateOf(error) ?? '')) throw error;
  });
  const key = LOCKS[which];
  if ((await client.query('select pg_try_advisory_lock($1) as yes', [key])).rows[0].yes) return;
  const holder = await holderOf(client, key);
  say(`waiting for another migration to finish${holder}`);
  await client.query(`set lock_timeout = ${Math.max(1, patience.total)}`);
  try {
    await client.query('select pg_advisory_lock($1)', [key]);
  } catch (error) {
    if (sqlstateOf(error) !== LOCK_NOT_AVAILABLE) throw error;
    const still = (await holderOf(client, key)) || holder;
    throw new StartupError(
      `another migration has not finished within ${Math.round(patience.total / 1000)} s${still}: look after that one; nothing was changed`,
      { cause: error },
    );
  } finally {
    await client.query('set lock_timeout = 0').catch(() => {});
  }
}

async function holderOf(client: pg.Client, key: string): Promise<string> {
  // As the login itself, which may see more of others than the owner whose role it has taken.
  await client.query('set role none');
  const { rows } = await client.query<{ line: string }>(
    `select format(' (process %s: %s)', a.pid, concat_ws(', ', nullif(a.application_name, ''), a.usename,
         'since ' || to_char(a.backend_start at time zone 'UTC', 'HH24:MI:SS') || ' UTC')) as line
       from pg_catalog.pg_locks l join pg_catalog.pg_stat_activity a on a.pid = l.pid
      where l.locktype = 'advisory' and l.granted and l.classid = ($1::bigint >> 32)::oid
        and l.objid = ($1::bigint & 4294967295)::oid and l.objsubid = 1
        and l.database = (select oid from pg_catalog.pg_database where datname = current_database())`,
    [key],
  );
  await client.query('reset role');
  return rows[0]?.line ?? '';
}
