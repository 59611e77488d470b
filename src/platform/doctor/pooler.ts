// What stands between us and the server, found out by looking: nobody has to say it.
import pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { withClient } from '../connection.ts';
import { StartupError } from '../startup-error.ts';

export interface Pooling {
  /** `none`: a direct connection. */
  readonly mode: 'none' | 'session' | 'transaction';
  /** Whether what a client leaves in a connection meets the next one: settings, SQL-level PREPARE (F10). */
  readonly leaves: boolean;
}

/** How often two clients are compared: a pool of several connections can answer differently by chance. */
const ROUNDS = 4;

/** Looks through two connections at once. Changes nothing that outlives them. */
export async function poolingOf(config: pg.ClientConfig): Promise<Pooling> {
  return withClient(config, async (one) => {
    if ((await backendOf(one)) === keyOf(one)) return { mode: 'none', leaves: false };
    return withClient(config, async (other) => {
      for (let round = 0; round < ROUNDS; round += 1) {
        const mine = await backendOf(one);
        await other.query('begin');
        const theirs = await backendOf(other);
        const moved = theirs === mine || (await backendOf(one)) !== mine;
        await other.query('rollback');
        if (moved) return { mode: 'transaction', leaves: await leavesState(one) };
      }
      return { mode: 'session', leaves: false };
    });
  });
}

/** Whether a pooler answers instead of the server: the number it gave is of its own making. */
export async function isPooled(client: pg.Client): Promise<boolean> {
  return (await backendOf(client)) !== keyOf(client);
}

/** Behind a pooler the lock of one migrator would not keep another out, and it would not run as the owner. */
export async function refusePooled(client: pg.Client): Promise<void> {
  if (!(await isPooled(client))) return;
  throw new StartupError(
    'DATABASE_URL leads through a pooler: give it the address of the server itself, and the pooler as DATABASE_POOLER_URL',
  );
}

/** The number that the greeting gave for cancelling; a pooler gives its own. */
function keyOf(client: pg.Client): number {
  return Number((client as pg.Client & { processID: number | null }).processID);
}

async function backendOf(client: pg.Client): Promise<number> {
  return (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]?.pid ?? 0;
}

/** Leaves a setting behind and looks whether the next transaction of the same server connection still has it. */
async function leavesState(client: pg.Client): Promise<boolean> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const left = await client.query<{ pid: number }>(
      "select pg_backend_pid() as pid, set_config('safetypin.probe', 'left', false)",
    );
    const next = await client.query<{ pid: number; found: string | null }>(
      "select pg_backend_pid() as pid, current_setting('safetypin.probe', true) as found, set_config('safetypin.probe', '', false)",
    );
    if (next.rows[0]?.pid === left.rows[0]?.pid) return next.rows[0]?.found === 'left';
  }
  return true;
}

export interface Console {
  readonly version: string;
  readonly settings: ReadonlyMap<string, string>;
}

/** PgBouncer's own console, where one of our logins may see it. */
export async function readConsole(access: DatabaseAccess): Promise<Console | undefined> {
  const { options: _, ...pooler } = access.authenticator;
  for (const { user, password } of [access.admin, access.authenticator]) {
    const console = await ask({ ...pooler, user, password, database: 'pgbouncer', connectionTimeoutMillis: 3000 });
    if (console) return console;
  }
  return undefined;
}

async function ask(config: pg.ClientConfig): Promise<Console | undefined> {
  const client = new pg.Client(config);
  client.on('error', () => {});
  try {
    await client.connect();
    const version = await client.query('show version');
    const settings = await client.query<{ key: string; value: string }>('show config');
    const said = JSON.stringify(version.rows[0] ?? {});
    return {
      version: /PgBouncer (\d+(?:\.\d+)+)/i.exec(said)?.[1] ?? '0',
      settings: new Map(settings.rows.map(({ key, value }) => [key, value])),
    };
  } catch {
    return undefined;
  } finally {
    await client.end().catch(() => {});
  }
}
