// The schema of graphile-worker, built and upgraded as safetypin_owner. The worker's login owns nothing in it.
import { Logger, runMigrations } from 'graphile-worker';
import pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../connection.ts';
import { inTransaction, readSql } from './provision.ts';

/** Says nothing but errors: what it does is not news to anybody. */
const quiet = new Logger(() => (level, message) => {
  if (level === 'error') console.error(message);
});

/** Installs or upgrades the queue and says who may use it. Idempotent. */
export async function provisionQueue(access: DatabaseAccess, database: string): Promise<void> {
  const owner = retarget(access.admin, database, OWNER_OPTIONS);
  const pool = new pg.Pool({ ...owner, max: 1 });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  try {
    await runMigrations({ pgPool: pool, logger: quiet });
  } finally {
    await pool.end();
  }
  await withClient(owner, (client) =>
    inTransaction(client, async () => client.query(await readSql('platform/queue.sql'))),
  );
}
