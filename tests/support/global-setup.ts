// One PostgreSQL for a whole project of tests, of the version the project names, and in it one template database built
// from the committed migrations.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { retarget, withClient } from '../../src/platform/connection.ts';
import { startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { binariesOf } from '../versions/servers.ts';
import { DATA_PREFIX, removeAbandoned, removeRun } from './abandoned.ts';
import { accessTo, type TestCluster } from './access.ts';
import { allFunctions, uncalled } from './coverage.ts';

declare module 'vitest' {
  interface ProvidedContext {
    cluster: TestCluster;
    /** Major version of the PostgreSQL that tests run on. */
    postgres: number;
    /** Settings of it beside those of every run. */
    settings: Readonly<Record<string, string>>;
    /** The same in full, as the server says it. */
    server: string;
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
  const { postgres, settings } = project.getProvidedContext();
  const binaries = await binariesOf(postgres);
  const embedded = await startEmbedded({ dataDirectory, binaries, settings: { ...SETTINGS, ...settings } });
  const calls = join(dataDirectory, 'calls.txt');
  let functions: string[] = [];
  const teardown = async () => {
    // A run of some files says nothing about what the others call, nor does one of some parts.
    const { testFiles } = await project.globTestFiles();
    const ran = project.vitest.state.getTestModules().filter((file) => file.project.name === project.name);
    const whole = project.name === 'main' && ran.length === testFiles.length;
    const line = whole ? uncalled(functions, calls) : undefined;
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
    const version = await withClient(access.admin, async (admin) => {
      await admin.query(`alter database ${TEMPLATE} with is_template true allow_connections false`);
      return (await admin.query('show server_version')).rows[0].server_version;
    });
    project.provide('cluster', cluster);
    project.provide('server', `PostgreSQL ${version}`);
  } catch (error) {
    await teardown();
    throw error;
  }
  return teardown;
}
