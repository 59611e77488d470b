// A database of its own for each test file: `const db = await cloneDatabase()`, dropped after the file's last test.
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { inject } from 'vitest';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../../src/platform/connection.ts';
import { provisionContents } from '../../src/platform/migrate/provision.ts';
import { accessTo } from './access.ts';
import { whenFileEnds } from './cleanup.ts';
import { noteCalls } from './coverage.ts';

/** Who a test connects as: the logins, the administrator, and the administrator as migrations run. */
export type Login = 'admin' | 'owner' | 'authenticator' | 'jobs' | 'auditor';

/** One cloned database. What it hands out it also closes. */
export interface TestDatabase {
  readonly name: string;
  readonly access: DatabaseAccess;
  /** The connection settings of a login. */
  config(login: Login): pg.ClientConfig;
  /** A connection of its own; closed with the database, or earlier by the test. */
  connect(login: Login): Promise<pg.Client>;
  pool(login: Login, options?: pg.PoolConfig): pg.Pool;
  /** Closes what was handed out, complains about connections that it did not hand out, and drops the database. */
  drop(): Promise<void>;
}

/** Copies the template. Without `template`, the one built from the committed migrations. */
export async function cloneDatabase(template = 'safetypin_template'): Promise<TestDatabase> {
  const name = `t_${randomBytes(8).toString('hex')}`;
  const access = accessTo(inject('cluster'), name);
  await withClient(access.admin, (admin) =>
    admin.query(`create database ${name} template ${pg.escapeIdentifier(template)} owner safetypin_owner`),
  );
  // A copy takes neither the template's grants nor its settings with it.
  await withClient(retarget(access.admin, name), (admin) => provisionContents(admin, name, () => {}));
  return handleOf(name, access);
}

/** Hands out connections to a database of the test server, and drops it when the file ends. */
export function handleOf(name: string, access: DatabaseAccess): TestDatabase {
  const clients = new Set<pg.Client>();
  const pools = new Set<pg.Pool>();
  let dropped = false;
  const config = (login: Login): pg.ClientConfig => {
    if (login === 'owner') return retarget(access.admin, name, OWNER_OPTIONS);
    return login === 'admin' ? retarget(access.admin, name) : access[login];
  };
  const database: TestDatabase = {
    name,
    access,
    config,
    async connect(login) {
      const client = new pg.Client(config(login));
      client.on('error', () => {});
      await client.connect();
      clients.add(client);
      return client;
    },
    pool(login, options) {
      const pool = new pg.Pool({ ...config(login), ...options });
      pool.on('error', () => {});
      pools.add(pool);
      return pool;
    },
    async drop() {
      if (dropped) return;
      dropped = true;
      // A test may have closed some of them itself.
      await Promise.allSettled([...clients].map((client) => client.end()));
      await Promise.allSettled([...pools].filter((pool) => !pool.ended).map((pool) => pool.end()));
      const left = await withClient(access.admin, async (admin) => {
        const leaks = await leaksOf(admin, name);
        await noteCallsOf(access, name);
        await admin.query(`drop database if exists ${name} with (force)`);
        return leaks;
      });
      if (left.length > 0) throw new Error(`connections left open to ${name}: ${left.join('; ')}`);
    },
  };
  whenFileEnds(database.drop);
  return database;
}

/** A database that its test never built has nothing to note. */
async function noteCallsOf(access: DatabaseAccess, name: string): Promise<void> {
  const { calls } = inject('cluster');
  if (calls) await withClient(retarget(access.admin, name), (admin) => noteCalls(admin, calls)).catch(() => {});
}

/** Connections nobody closed. One that is just going away gets a moment. */
async function leaksOf(admin: pg.Client, name: string): Promise<string[]> {
  for (let attempt = 0; ; attempt += 1) {
    const { rows } = await admin.query(
      `select format('%s (%s): %s', usename, application_name, left(query, 80)) as line from pg_stat_activity
        where datname = $1 and backend_type = 'client backend'`,
      [name],
    );
    if (rows.length === 0 || attempt === 20) return rows.map(({ line }) => line);
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
}
