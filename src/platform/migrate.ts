// `migrate`: from an empty server to a database that is up to date. Everything in it can run again.
import type { DatabaseAccess } from './access.ts';
import { retarget, type Say, withClient } from './connection.ts';
import { runCommitted } from './migrations.ts';
import { provisionContents, provisionDatabase, provisionRoles, withMaintenance } from './provision.ts';
import { provisionQueue } from './queue.ts';

const LOCK = '723389746'; // SAFETYPIN on a telephone keypad

/** Roles, database, extensions, job queue, committed migrations. A second caller waits and then finds it all done. */
export async function migrate(access: DatabaseAccess, say: Say): Promise<void> {
  await withMigrationLock(access, say, async () => {
    await buildDatabase(access, access.database, say);
  });
}

/** Builds or completes one database of the server; the caller holds the lock. */
export async function buildDatabase(
  access: DatabaseAccess,
  database: string,
  say: Say,
  folder?: string,
): Promise<void> {
  const created = await withMaintenance(access, async (admin) => {
    await provisionRoles(access, admin);
    return provisionDatabase(admin, database);
  });
  await withClient(retarget(access.admin, database), (admin) => provisionContents(admin, database, say));
  await provisionQueue(access, database);
  const ran = await runCommitted(access, database, folder);
  if (created) say(`database ${database} created`);
  else if (ran) say(`database ${database}: ${ran} ${ran === 1 ? 'migration' : 'migrations'} run`);
}

/**
 * One migration at a time on a server. A lock of the session, not of a transaction: `create database` refuses
 * transactions, and the server frees it when this process dies.
 */
export async function withMigrationLock<T>(access: DatabaseAccess, say: Say, work: () => Promise<T>): Promise<T> {
  return withMaintenance(access, async (client) => {
    await client.query('set statement_timeout = 0');
    await client.query('set lock_timeout = 0');
    const free = await client.query('select pg_try_advisory_lock($1) as yes', [LOCK]);
    if (!free.rows[0].yes) {
      say('waiting for another migration to finish');
      await client.query('select pg_advisory_lock($1)', [LOCK]);
    }
    return work();
  });
}
