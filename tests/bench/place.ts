// Where benchmarks run: a PostgreSQL of their own with stock settings, and each server in a process of its own.
import { type ChildProcess, fork } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import { startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { buildDatabase } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { accessTo, type TestCluster } from '../support/access.ts';

/** What a server process is told before it starts. */
export interface ServerOrder {
  readonly cluster: TestCluster;
  readonly database: string;
  readonly dataDirectory: string;
  /** Schemas of tables of one's own that the API serves, comma between. */
  readonly schemas?: string;
}

export interface Load {
  readonly port: number;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  /** One connection for each. */
  readonly bodies: readonly string[];
  readonly seconds: number;
}

export interface Place extends AsyncDisposable {
  readonly order: ServerOrder;
  /** Starts a program of this folder as a server; returns its port. */
  serve(program: string, more?: Pick<ServerOrder, 'schemas'>): Promise<number>;
  /** Requests a second that succeed; throws if any fails. */
  load(load: Load): Promise<number>;
}

const answer = <Answer>(child: ChildProcess): Promise<Answer> =>
  new Promise((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`a process of the benchmark ended with ${code}`));
    child.once('exit', ended);
    child.once('message', (message) => {
      child.removeListener('exit', ended);
      resolve(message as Answer);
    });
  });

/** Starts PostgreSQL and builds the database. Dispose of it to stop everything. */
export async function openPlace(): Promise<Place> {
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), 'safetypin-bench-')));
  const embedded = await startEmbedded({ dataDirectory });
  const children: ChildProcess[] = [];
  const dispose = async (): Promise<void> => {
    for (const child of children) child.kill();
    await Promise.all(children.map((child) => child.exitCode ?? new Promise((resolve) => child.once('exit', resolve))));
    await embedded.stop();
    rmSync(clusterDirectory(dataDirectory), { recursive: true, force: true });
    rmSync(dataDirectory, { recursive: true, force: true });
  };
  try {
    const cluster = {
      host: embedded.socketDirectory,
      port: embedded.port,
      passwords: { ...loadSecrets(dataDirectory) },
    };
    const order = { cluster, database: 'bench', dataDirectory };
    await buildDatabase(accessTo(cluster, order.database), order.database, () => {});
    const start = (program: string): ChildProcess => {
      const child = fork(join(import.meta.dirname, program), { env: { ...process.env, GRAPHILE_ENV: 'production' } });
      children.push(child);
      return child;
    };
    const generator = start('load.mjs');
    return {
      order,
      async serve(program, more) {
        const child = start(program);
        const port = answer<number>(child);
        child.send({ ...order, ...more });
        return port;
      },
      async load(load) {
        const result = answer<{ perSecond: number; failed: number }>(generator);
        generator.send(load);
        const { perSecond, failed } = await result;
        if (failed > 0) throw new Error(`${failed} requests to ${load.path} failed`);
        return perSecond;
      },
      [Symbol.asyncDispose]: dispose,
    };
  } catch (error) {
    await dispose();
    throw error;
  }
}
