// `migrate`: from an empty server to a database that is up to date. Everything in it can run again.
import type { DatabaseAccess } from '../access.ts';
import { retarget, type Say, withClient } from '../connection.ts';
import { refusePooled } from '../doctor/pooler.ts';
import { explainServerError } from '../external.ts';
import { takeLock } from './lock.ts';
import { runCommitted } from './migrations.ts';
import { PATIENCE, type Patience } from './patience.ts';
import { provisionContents, provisionDatabase, provisionRoles, refuseReadOnly, withMaintenance } from './provision.ts';
import { provisionQueue } from './queue.ts';

/** Roles, database, extensions, job queue, committed migrations. A second caller waits and then finds it all done. */
export async function migrate(access: DatabaseAccess, say: Say, patience: Patience = PATIENCE): Promise<void> {
  await withMigrationLock(
    access,
    say,
    async () => {
      await buildDatabase(access, access.database, say, { patience });
    },
    patience,
  ).catch((error: unknown) => {
    throw explainServerError(error);
  });
}

export interface BuildOptions {
  /** Where the migrations are. Defaults to those of this clone. */
  readonly folder?: string;
  /** Defaults to 5 seconds a lock, 10 minutes a migration. */
  readonly patience?: Patience;
}

/** Builds or completes one database of the server; the caller holds the lock. */
export async function buildDatabase(
  access: DatabaseAccess,
  database: string,
  say: Say,
  o: BuildOptions = {},
): Promise<void> {
  const created = await withMaintenance(access, async (admin) => {
    await provisionRoles(access, admin);
    return provisionDatabase(admin, database);
  });
  await withClient(retarget(access.admin, database), (admin) => provisionContents(admin, database, say));
  await provisionQueue(access, database);
  const ran = await runCommitted(access, database, { ...o, say });
  if (created) say(`database ${database} created`);
  else if (ran) say(`database ${database}: ${ran} ${ran === 1 ? 'migration' : 'migrations'} run`);
}

/** One migration at a time on a server. */
export async function withMigrationLock<T>(
  access: DatabaseAccess,
  say: Say,
  work: () => Promise<T>,
  patience: Patience = PATIENCE,
): Promise<T> {
  return withMaintenance(access, async (client) => {
    await refuseReadOnly(client);
    await refusePooled(client);
    await takeLock(client, 'server', patience, say);
    return work();
  });
}
