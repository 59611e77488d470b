// One PostgreSQL for the whole run, and in it one template database built from the committed migrations.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { withClient } from '../../src/platform/connection.ts';
import { startEmbedded } from '../../src/platform/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeAbandoned, removeRun } from './abandoned.ts';
import { accessTo, type TestCluster } from './access.ts';

declare module 'vitest' {
  interface ProvidedContext {
    cluster: TestCluster;
  }
}

/** The database that every clone is a copy of. */
export const TEMPLATE = 'safetypin_template';

// Nothing here outlives the run, so nothing needs to reach the disk.
const SETTINGS = {
  fsync: 'off',
  synchronous_commit: 'off',
  full_page_writes: 'off',
  max_connections: '200',
  track_functions: 'all',
};

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await removeAbandoned();
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  const embedded = await startEmbedded({ dataDirectory, settings: SETTINGS });
  const teardown = async () => {
    await embedded.stop();
    removeRun(dataDirectory);
  };
  try {
    const cluster: TestCluster = {
      host: embedded.socketDirectory,
      port: embedded.port,
      passwords: { ...loadSecrets(dataDirectory) },
    };
    const access = accessTo(cluster, TEMPLATE);
    await buildDatabase(access, TEMPLATE, () => {});
    await withClient(access.admin, (admin) =>
      admin.query(`alter database ${TEMPLATE} with is_template true allow_connections false`),
    );
    project.provide('cluster', cluster);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
