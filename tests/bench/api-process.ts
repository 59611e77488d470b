// The server as it is, with its worker, in a process of its own.
import { type AddressInfo, createServer } from 'node:net';
import { loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { accessTo } from '../support/access.ts';
import type { ServerOrder } from './place.ts';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

process.once('message', async ({ cluster, database, dataDirectory, schemas = '' }: ServerOrder) => {
  const port = await freePort();
  const config = loadConfig({
    PORT: String(port),
    SAFETYPIN_DATA_DIR: dataDirectory,
    // One issuer for every process of a run.
    PUBLIC_URL: 'http://bench.invalid',
    SAFETYPIN_SCHEMAS: schemas,
  });
  const started = {
    config,
    access: accessTo(cluster, database),
    keys: await loadApplicationKeys(dataDirectory),
    say() {},
  };
  const server = await startServer(started);
  const worker = await startWorker(started);
  process.once('SIGTERM', async () => {
    await worker.close();
    await server.close();
    process.exit(0);
  });
  process.send?.(port);
});
