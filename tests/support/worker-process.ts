// A worker in a process of its own, to be killed: node worker-process.ts <JSON of WorkerProcess>
import { loadConfig } from '../../src/config.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { accessTo, type TestCluster } from './access.ts';

/** What the process is told. */
export interface WorkerProcess {
  readonly cluster: TestCluster;
  readonly database: string;
  readonly keys: string;
  readonly environment: Record<string, string>;
}

process.stdout.on('error', () => {}); // the test that listened is over
const told = JSON.parse(process.argv[2] ?? '{}') as WorkerProcess;
const worker = await startWorker({
  config: loadConfig(told.environment),
  access: accessTo(told.cluster, told.database),
  keys: await loadApplicationKeys(told.keys),
  say: (line) => console.log(line),
});
console.log('ready');
process.once('SIGTERM', () => void worker.close());
