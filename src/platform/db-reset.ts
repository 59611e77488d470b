// `npm run db:reset`: drops the embedded database and builds it anew. Never touches a server of somebody's own.
import pg from 'pg';
import type { DatabaseAccess } from './access.ts';
import { type Say, withClient } from './connection.ts';
import { buildDatabase, withMigrationLock } from './migrate.ts';
import { withMaintenance } from './provision.ts';
import { StartupError } from './startup-error.ts';

/** What would be lost, for the warning before it. Undefined when there is no database yet. */
export async function describeLoss(access: DatabaseAccess): Promise<string | undefined> {
  refuseForeign(access);
  const size = await withMaintenance(access, (admin) =>
    admin.query('select pg_size_pretty(pg_database_size(oid)) as size from pg_catalog.pg_database where datname = $1', [
      access.database,
    ]),
  );
  return size.rowCount ? `all of database ${access.database} (${size.rows[0].size})` : undefined;
}

/** Drops and rebuilds. Ends every connection to the database; a running server connects again by itself. */
export async function resetDatabase(access: DatabaseAccess, say: Say): Promise<void> {
  refuseForeign(access);
  await withMigrationLock(access, say, async () => {
    await withMaintenance(access, (admin) =>
      admin.query(`drop database if exists ${pg.escapeIdentifier(access.database)} with (force)`),
    );
    await buildDatabase(access, access.database, say);
  });
  await withClient(access.authenticator, (client) => client.query('select 1'));
}

function refuseForeign(access: DatabaseAccess): void {
  if (access.embedded) return;
  throw new StartupError('db:reset is for the embedded database only: drop a database of your own server yourself');
}
