// `npm start`: the database, its migrations, the API and the worker in one process, until Ctrl-C.
import { relative } from 'node:path';
import { type Config, loadConfig, loadEnvironmentFile, projectRoot, unknownSettings } from './config.ts';
import { openProvider } from './keyring/provider.ts';
import { openDatabase } from './platform/access.ts';
import { claimOrRefuse } from './platform/claim.ts';
import { openDataDirectory } from './platform/data-directory.ts';
import { Lifetime } from './platform/lifetime.ts';
import { logOptions, setUpLog } from './platform/log.ts';
import { onParentGone } from './platform/parent.ts';
import { codeOf, StartupError } from './platform/startup-error.ts';
import { progress, readyScreen, recordProgress } from './screen.ts';

/** Opens one thing after the other; each is given to `lifetime` at once, so that any failure closes what is open. */
async function start(lifetime: Lifetime): Promise<void> {
  loadEnvironmentFile();
  const config = loadConfig();
  setUpLog(logOptions(config));
  if (config.environment === 'production') recordProgress();
  for (const line of unknownSettings()) progress(line);
  onParentGone(config.parent, () => {
    progress('npm is gone, stopping');
    lifetime.end(0);
  });
  // Read while PostgreSQL starts: it is the larger half of a warm start.
  const modules = loadModules();
  modules.catch(() => {});

  const dataDirectory = openDataDirectory(config.dataDirectory);
  const provider = openProvider({ ...config, dataDirectory });
  const claim = config.databaseUrl === undefined ? await claimOrRefuse(dataDirectory, 'server') : undefined;
  if (claim) lifetime.own(claim.release);

  const access = await openDatabase(config, progress, { signal: lifetime.signal, ...(claim && { claim }) });
  lifetime.own(access.close);
  void access.lost.then((why) => lifetime.fail(new StartupError(`${why}; start again to recover`)));

  const { migrate, patienceOf, refuseUnsafe, refuseGaps, readKeys, startServer, startWorker } = await modules;
  await migrate(access, progress, patienceOf(config));
  if (config.environment === 'production') await refuseUnsafe(access, config.databasePooled);
  await refuseGaps(access, config.schemas);
  lifetime.signal.throwIfAborted();
  const keys = await readKeys(provider);

  const server = await startServer({ config, access, keys, say: progress }).catch((error: unknown) => {
    throw explainListening(error, config);
  });
  lifetime.own(server.close);
  if (config.worker) {
    const worker = await startWorker({ config, access, keys, say: progress });
    lifetime.own(worker.close);
  }

  if (claim) claim.address = server.url;
  const fromRoot = relative(projectRoot, dataDirectory);
  readyScreen({
    url: server.url,
    dataDirectory: access.embedded ? (fromRoot.startsWith('..') ? dataDirectory : fromRoot) : undefined,
    mailbox: config.smtpUrl === undefined,
    worker: config.worker,
    environment: config.environment,
  });
}

async function loadModules() {
  const [{ migrate }, { patienceOf }, { refuseUnsafe, refuseGaps }, { readKeys }, { startServer }, { startWorker }] =
    await Promise.all([
      import('./platform/migrate/migrate.ts'),
      import('./platform/migrate/patience.ts'),
      import('./platform/doctor/doctor.ts'),
      import('./keyring/application-keys.ts'),
      import('./http/server.ts'),
      import('./worker/runner.ts'),
    ]);
  return { migrate, patienceOf, refuseUnsafe, refuseGaps, readKeys, startServer, startWorker };
}

/** What a refused address means to whoever chose it. */
function explainListening(error: unknown, { host, port }: Config): unknown {
  const where = `${host}:${port}`;
  const other = port < 65535 ? port + 1 : port - 1;
  const meaning: Record<string, string> = {
    EADDRINUSE: `port ${port} is in use: stop the program that has it, or choose another, such as PORT=${other}`,
    EACCES: `this user may not listen on port ${port}: choose one above 1023, such as PORT=5678`,
    EADDRNOTAVAIL: `cannot listen on ${where}: HOST is not an address of this machine`,
    ENOTFOUND: `cannot listen on ${where}: HOST is not a known name`,
    EAI_AGAIN: `cannot listen on ${where}: HOST is not a known name`,
  };
  const said = meaning[codeOf(error) ?? ''];
  return said ? new StartupError(said, { cause: error }) : error;
}

const lifetime = new Lifetime(progress);
lifetime.watch();
await lifetime.run(start);
