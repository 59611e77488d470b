import { existsSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { parseIntoClientConfig } from 'pg-connection-string';
import type { Config } from '../config.ts';
import { type Claim, claim, describeOwner, ownerOf } from './claim.ts';
import { clusterDirectory, openDataDirectory } from './data-directory.ts';
import { startEmbedded } from './embedded/embedded.ts';
import { isAlive, type Postmaster, readPostmaster } from './embedded/leftover.ts';
import { meetServer } from './external.ts';
import { loadSecrets, type Secrets } from './secrets.ts';
import { StartupError } from './startup-error.ts';

/** Who connects how, for the embedded PostgreSQL and for a server of your own alike. */
export interface DatabaseAccess {
  /** An administrator, of the database below. Before that exists, connect with `database: 'postgres'`. */
  readonly admin: pg.ClientConfig;
  readonly authenticator: pg.ClientConfig;
  readonly jobs: pg.ClientConfig;
  readonly auditor: pg.ClientConfig;
  readonly database: string;
  readonly embedded: boolean;
  /** Settles when an embedded server that we started ends by itself; never for any other. */
  readonly lost: Promise<string>;
  /** Stops the embedded server if we started it. */
  close(): Promise<void>;
}

export interface OpenOptions {
  /** The right to the data directory: the server takes it first. Defaults to taking it, or to joining its owner. */
  readonly claim?: Claim;
  /** Ends the start, when it is aborted before the database is ready. */
  readonly signal?: AbortSignal;
}

const DATABASE = 'safetypin';
/** A command that takes longer is one that stays, such as `worker`. */
const COMMAND_LIMIT_MS = 10_000;
const never = new Promise<string>(() => {});

/**
 * Opens the way to the database: your server when DATABASE_URL is set, else the embedded one, started here or joined
 * when another live process runs it.
 */
export async function openDatabase(
  config: Config,
  say: (line: string) => void,
  o: OpenOptions = {},
): Promise<DatabaseAccess> {
  const dataDirectory = openDataDirectory(config.dataDirectory);
  return throughPooler(await openDirect(config, dataDirectory, say, o), config.poolerUrl);
}

async function openDirect(
  config: Config,
  dataDirectory: string,
  say: (line: string) => void,
  o: OpenOptions,
): Promise<DatabaseAccess> {
  if (config.databaseUrl !== undefined) return await external(config.databaseUrl, loadSecrets(dataDirectory));
  if (config.environment === 'production') throw new StartupError('production never brings its own PostgreSQL');
  const right = o.claim ?? (await claimSoon(dataDirectory));
  if (!right) return await join(dataDirectory);
  try {
    const cluster = await startEmbedded({ dataDirectory, claim: right, say, ...(o.signal && { signal: o.signal }) });
    const close = async () => {
      await cluster.stop();
      if (!o.claim) right.release();
    };
    return embedded(cluster, loadSecrets(dataDirectory), cluster.lost, close);
  } catch (error) {
    if (!o.claim) right.release();
    throw error;
  }
}

/**
 * The API's requests by way of a pooler. All others stay direct: the worker listens, migrations change the role of
 * their connection, and neither is possible where a connection is another one after each transaction.
 */
function throughPooler(access: DatabaseAccess, url: string | undefined): DatabaseAccess {
  if (url === undefined) return access;
  const { user: _, password: __, ...place } = parseIntoClientConfig(url);
  const { user, password } = access.authenticator;
  return { ...access, authenticator: { ...place, user, password } as pg.ClientConfig };
}

/** Takes the data directory, after waiting for a command that has it; not for a server, whose database can be joined. */
async function claimSoon(dataDirectory: string): Promise<Claim | undefined> {
  for (const end = Date.now() + COMMAND_LIMIT_MS; ; await sleep(100)) {
    const right = await claim(dataDirectory);
    if (right || Date.now() > end || (await ownerOf(dataDirectory)).kind === 'server') return right;
  }
}

function embedded(
  server: { socketDirectory: string; port: number },
  secrets: Secrets,
  lost: Promise<string>,
  close: () => Promise<void>,
): DatabaseAccess {
  // `ssl` is said because PGSSLMODE would otherwise be asked.
  const common = { host: server.socketDirectory, port: server.port, database: DATABASE, ssl: false };
  return { ...logins(common, secrets), admin: as(common, 'postgres', secrets.postgres), embedded: true, lost, close };
}

async function external(url: string, secrets: Secrets): Promise<DatabaseAccess> {
  const admin = await meetServer(url);
  return { ...logins(admin, secrets), admin, embedded: false, lost: never, close: async () => {} };
}

function as(common: pg.ClientConfig, user: string, password: string): pg.ClientConfig {
  return { ...common, user, password };
}

function logins(common: pg.ClientConfig, secrets: Secrets) {
  return {
    database: common.database ?? DATABASE,
    authenticator: as(common, 'safetypin_authenticator', secrets.safetypin_authenticator),
    jobs: as(common, 'safetypin_jobs', secrets.safetypin_jobs),
    auditor: as(common, 'safetypin_auditor', secrets.safetypin_auditor),
  };
}

/** Joins the embedded server that another process runs. It stays that process's to stop. */
async function join(dataDirectory: string): Promise<DatabaseAccess> {
  const server = await runningServer(dataDirectory);
  return embedded(server, loadSecrets(dataDirectory), never, async () => {});
}

async function runningServer(dataDirectory: string): Promise<Postmaster> {
  for (const end = Date.now() + 30_000; Date.now() < end; await sleep(100)) {
    const cluster = clusterDirectory(dataDirectory);
    const server = existsSync(cluster) ? readPostmaster(cluster) : undefined;
    if (server?.ready && isAlive(server.pid)) return server;
  }
  throw new StartupError(`${await describeOwner(dataDirectory)}, and its database does not answer: try again`);
}
