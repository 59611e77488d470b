// A PostgreSQL of a test's own, which it may kill, with the API beside it. It is found in the same place after each start.
import { mkdtempSync, readFileSync, realpathSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../../src/platform/connection.ts';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import { type EmbeddedCluster, startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { Api, freePort } from '../api/api.ts';
import { accessTo } from '../support/access.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import type { TestDatabase } from '../support/database.ts';

export interface OwnCluster {
  readonly api: Api;
  admin<T extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<T[]>;
  /** The postmaster's process. */
  pid(): number;
  /** Whether it ended by itself. */
  hasEnded(): Promise<boolean>;
  /** Starts it again after its end. */
  restart(): Promise<void>;
  /** What PostgreSQL wrote to its log. */
  log(): string;
}

export interface OwnOptions {
  /** SQL of the host application. */
  readonly host: string;
  /** Defaults to a new folder. */
  readonly dataDirectory?: string;
  readonly settings?: Readonly<Record<string, string>>;
  readonly initdbOptions?: readonly string[];
}

const NAME = 'faults';

function temporaryFolder(): string {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'safetypin-faults-')));
  whenFileEnds(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** Starts all of it, and ends it after the file's last test. */
export async function startOwnCluster(o: OwnOptions): Promise<OwnCluster> {
  const dataDirectory = o.dataDirectory ?? temporaryFolder();
  const home = temporaryFolder();
  // Each start has another socket; whoever connects finds it by this name.
  const socket = join(home, 'socket');
  let server: EmbeddedCluster | undefined;
  const start = async (): Promise<void> => {
    const settings = { fsync: 'off', ...o.settings };
    server = await startEmbedded({ dataDirectory, settings, initdbOptions: ['--no-sync', ...(o.initdbOptions ?? [])] });
    rmSync(socket, { force: true });
    symlinkSync(server.socketDirectory, socket);
  };
  whenFileEnds(async () => {
    await server?.stop();
    rmSync(clusterDirectory(dataDirectory), { recursive: true, force: true });
  });
  await start();
  const access = accessTo({ host: socket, port: 5432, passwords: { ...loadSecrets(dataDirectory) } }, NAME);
  await buildDatabase(access, NAME, () => {});
  await withClient(retarget(access.admin, NAME, OWNER_OPTIONS), (owner) => owner.query(o.host));
  const config = loadConfig({
    NODE_ENV: 'test',
    PORT: String(await freePort()),
    SAFETYPIN_DATA_DIR: home,
    SAFETYPIN_SCHEMAS: 'ward',
  });
  const started = { config, access, keys: await loadApplicationKeys(home), say: () => {} };
  const running = await startServer(started);
  const worker = await startWorker(started);
  whenFileEnds(async () => {
    await worker.close();
    await running.close();
  });
  return {
    api: new Api(running.url, { name: NAME, access } as TestDatabase, config),
    admin: (text, values) =>
      withClient(retarget(access.admin, NAME), async (client) => (await client.query(text, values)).rows),
    pid: () => Number(readFileSync(join(clusterDirectory(dataDirectory), 'postmaster.pid'), 'utf8').split('\n')[0]),
    hasEnded: async () => Promise.race([server?.lost.then(() => true) ?? true, sleep(20, false)]),
    async restart() {
      // It has ended, and this gives its folder back.
      await server?.stop();
      await start();
    },
    log: () => readFileSync(join(dataDirectory, 'postgres.log'), 'utf8'),
  };
}
