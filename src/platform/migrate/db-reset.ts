// `npm run db:reset`: erases the embedded database with its keys and passwords, and builds it anew.
import { existsSync, readdirSync } from 'node:fs';
import type { Config } from '../../config.ts';
import { openDatabase } from '../access.ts';
import { claimOrRefuse } from '../claim.ts';
import type { Say } from '../connection.ts';
import { openDataDirectory, removeDataDirectory } from '../data-directory.ts';
import { StartupError } from '../startup-error.ts';
import { migrate } from './migrate.ts';

/** Erases and builds anew, after `confirm` agreed. Refuses while a server runs on it, and for any other server. */
export async function resetDatabase(
  config: Config,
  confirm: (loss: string) => Promise<boolean>,
  say: Say,
): Promise<void> {
  if (config.databaseUrl !== undefined || config.environment === 'production') {
    throw new StartupError('db:reset is for the embedded database only: drop a database of your own server yourself');
  }
  const dataDirectory = openDataDirectory(config.dataDirectory);
  const claim = await claimOrRefuse(dataDirectory);
  try {
    if (existsSync(dataDirectory) && readdirSync(dataDirectory).length > 0) {
      const loss = `everything in the database of ${dataDirectory}, its keys and its passwords`;
      if (!(await confirm(loss))) throw new StartupError('nothing was changed');
      removeDataDirectory(dataDirectory);
    }
    const access = await openDatabase(config, say, { claim });
    try {
      await migrate(access, say);
    } finally {
      await access.close();
    }
  } finally {
    claim.release();
  }
}
