// One PostgreSQL for the whole run, and in it one template database built from the committed migrations.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { retarget, withClient } from '../../src/platform/connection.ts';
import { startEmbedded } from '../../src/platform/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeAbandoned, removeRun } from './abandoned.ts';
import { accessTo, type TestCluster } from './access.ts';
import { allFunctions, uncalled } from './coverage.ts';

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
  const calls = join(dataDirectory, 'calls.txt');
  let functions: string[] = [];
  const teardown = async () => {
    // A run of some files says nothing about what the others call.
    const { testFiles } = await project.globTestFiles();
    const ran = project.vitest.state.getTestModules().filter((file) => file.project.name === project.name);
    const line = ran.length === testFiles.length ? uncalled(functions, calls) : undefined;
    if (line) process.stderr.write(`${line}\n`);
    await embedded.stop();
    removeRun(dataDirectory);
  };
  try {
    const cluster: TestCluster = {
      host: embedded.socketDirectory,
      port: embedded.port,
      passwords: { ...loadSecrets(dataDirectory) },
      calls,
    };
    const access = accessTo(cluster, TEMPLATE);
    await buildDatabase(access, TEMPLATE, () => {});
    functions = await withClient(retarget(access.admin, TEMPLATE), allFunctions);
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
