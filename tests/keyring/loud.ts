// A PostgreSQL of its own that writes down all it can, and in front of it the real server and the real worker.
import { mkdtempSync, realpathSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import { migrate } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { Api, freePort } from '../api/api.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import type { Application } from '../support/actors.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { handleOf, type TestDatabase } from '../support/database.ts';
import { startPostgres } from '../support/postgres.ts';
import { CLINIC } from './records.ts';

/** All that a log may be told to say in production: everything but values. */
export const LOUD: Readonly<Record<string, string>> = {
  fsync: 'off',
  log_statement: 'all',
  log_min_duration_statement: '0',
  log_duration: 'on',
  log_error_verbosity: 'verbose',
  log_min_messages: 'debug5',
  log_lock_waits: 'on',
  deadlock_timeout: '10ms',
  log_temp_files: '0',
  log_connections: 'on',
  log_disconnections: 'on',
  log_checkpoints: 'on',
  log_autovacuum_min_duration: '0',
  log_line_prefix: '%m [%p] %q%u@%d %a %i %e ',
  shared_preload_libraries: 'auto_explain,pg_stat_statements',
  'auto_explain.log_min_duration': '0',
  'auto_explain.log_analyze': 'on',
  'auto_explain.log_buffers': 'on',
  'auto_explain.log_nested_statements': 'on',
  'auto_explain.log_settings': 'on',
  'auto_explain.log_triggers': 'on',
  'pg_stat_statements.track': 'all',
  track_activity_query_size: '65536',
};

/** What production refuses, since it writes values. Set for a database, on top of those. */
export const REFUSED: Readonly<Record<string, string>> = {
  log_parameter_max_length: '-1',
  log_parameter_max_length_on_error: '-1',
  'auto_explain.log_parameter_max_length': '-1',
  'auto_explain.log_verbose': 'on',
  debug_print_plan: 'on',
};

export interface Loud {
  readonly api: Api;
  readonly db: TestDatabase;
  readonly admin: pg.Client;
  /** Opens a request on a connection that has begun. */
  open(client: pg.ClientBase, credential: Buffer): Promise<void>;
  /** For keysOf(). */
  readonly app: Pick<Application, 'keys' | 'envelopes'>;
  readonly log: string;
  /** What PostgreSQL keeps: data_directory. */
  readonly cluster: string;
  /** What server and worker said to people. */
  readonly said: string[];
  stop(): Promise<void>;
}

/** Everything of it is stopped after the file's last test. */
export async function startLoud(): Promise<Loud> {
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  const server = await startPostgres({ dataDirectory, settings: LOUD, initdbOptions: ['--no-sync'] });
  let stopped: Promise<void> | undefined;
  const closers: (() => Promise<void>)[] = [server.stop];
  const stop = () => {
    stopped ??= (async () => {
      for (const close of closers.reverse()) await close();
    })();
    return stopped;
  };
  whenFileEnds(async () => {
    await stop();
    removeRun(dataDirectory);
  });
  const passwords = { ...loadSecrets(dataDirectory) };
  const access = accessTo({ host: server.socketDirectory, port: server.port, passwords }, 'safetypin');
  await migrate(access, () => {});
  const db = handleOf('safetypin', access);
  closers.push(db.drop);
  const admin = await db.connect('admin');
  // The worker gives its connections a second to end; with all that is written down here they take longer.
  closers.push(async () => {
    const worker =
      "select from pg_stat_activity where datname = 'safetypin' and application_name like 'safetypin worker%'";
    for (let tries = 0; tries < 50 && (await admin.query(worker)).rowCount !== 0; tries += 1) await sleep(100);
    await admin.query(worker.replace('from', 'pg_terminate_backend(pid, 5000) from'));
  });
  // Not before: each of its messages would have the whole migration with it.
  await admin.query('alter database safetypin set log_min_error_statement = debug5');
  await admin.query('create extension if not exists pg_stat_statements');
  const owner = await db.connect('owner');
  await owner.query(CLINIC);
  await owner.end();
  const said: string[] = [];
  const keys = await loadApplicationKeys(dataDirectory);
  const environment = {
    NODE_ENV: 'test',
    PORT: String(await freePort()),
    SAFETYPIN_DATA_DIR: dataDirectory,
    SAFETYPIN_SCHEMAS: 'clinic',
  };
  const config = loadConfig(environment);
  const started = { config, access, keys, say: (line: string) => said.push(line) };
  const api = await startServer(started);
  closers.push(api.close);
  const worker = await startWorker(started);
  closers.push(() => worker.close());
  // Before the database is dropped, which was to be first at the file's end.
  whenFileEnds(stop);
  const envelopes = new EnvelopeSealer(db.pool('authenticator', { max: 1 }), keys);
  return {
    api: new Api(api.url, db, config),
    db,
    admin,
    open: async (client, credential) => {
      await client.query("select set_config('role', sessions.open_request($1, $2, $3), true)", [
        credential,
        await envelopes.seal(credential),
        { ip: '192.0.2.7' },
      ]);
    },
    app: { keys, envelopes },
    log: join(dataDirectory, 'postgres.log'),
    cluster: clusterDirectory(dataDirectory),
    said,
    stop,
  };
}
