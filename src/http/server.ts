import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { postgraphile } from 'postgraphile';
import type { Config } from '../config.ts';
import { createRequests, type Requests } from '../graphql/adaptor.ts';
import { serverPreset } from '../graphql/preset.ts';
import { createPasswordHasher } from '../identity/password.ts';
import type { ApplicationKeys } from '../keyring/application-keys.ts';
import { EnvelopeSealer } from '../keyring/envelope.ts';
import { mailbox } from '../mail/mailbox.ts';
import { createMetrics } from '../observe/metrics.ts';
import { createObserver, type Observer } from '../observe/observer.ts';
import { tracerFor } from '../observe/trace.ts';
import type { DatabaseAccess } from '../platform/access.ts';
import { ErrorRegister, type RegisterRow } from '../platform/errors.ts';
import { faultRecorder } from '../platform/faults.ts';
import { startHeartbeat } from '../platform/heartbeat.ts';
import { describeFault, logFault } from '../platform/log.ts';
import { outageNotes } from '../platform/outage.ts';
import { StartupError } from '../platform/startup-error.ts';
import { gatherActivity } from '../sessions/activity.ts';
import { AccessTokens } from '../sessions/tokens.ts';
import { createApp } from './app.ts';
import { trustedClientAddress } from './client-address.ts';
import { graphqlHandler, isGraphQL } from './graphql.ts';
import { readinessOf } from './health.ts';
import { metricsDoor } from './metrics.ts';
import { documentsFrom, loadPersistedOperations } from './persisted.ts';
import { Authenticator, nobody } from './request.ts';
import { ApiGrafserv } from './serv.ts';
import { Shutdown } from './shutdown.ts';
import { Turns } from './turns.ts';

export interface ServerOptions {
  readonly config: Config;
  readonly access: DatabaseAccess;
  readonly keys: ApplicationKeys;
  readonly say: (line: string) => void;
  /** How long requests under way may take to end when the server stops. */
  readonly closeMilliseconds?: number;
}

export interface RunningServer {
  readonly url: string;
  close(): Promise<void>;
}

/** Connections of one process. More would only wait for the same processors. */
const CONNECTIONS = 10;
/** Prepared statements that each of them keeps. */
const STATEMENT_NAMES = 100;
/** How long requests under way may take to end when the server stops. */
const CLOSE_MILLISECONDS = 10_000;
/** How long a request may take to arrive as a whole. */
const REQUEST_MILLISECONDS = 60_000;
/** And then connections to the database. */
const POOL_MILLISECONDS = 1000;

function openPool(access: DatabaseAccess): pg.Pool {
  const pool = new pg.Pool({
    ...access.authenticator,
    pipeline: true,
    max: CONNECTIONS,
    connectionTimeoutMillis: 5000,
    keepAlive: true,
    application_name: 'safetypin-api',
  });
  // A connection that breaks while nobody uses it is replaced; without a listener it would end the process.
  const onLost = outageNotes('pool');
  pool.on('error', (error) => onLost(error));
  return pool;
}

/** Nothing sealed could be read or found with another key, so a server that has another one must not run. */
async function bindApplication(requests: Requests, { keyProvider, dataDirectory }: Config): Promise<void> {
  const { rows } = await requests.inRequest(nobody(), (client) =>
    client.query<{ bound: boolean }>({ text: 'select keyring.bind_application() as bound' }),
  );
  if (rows[0]?.bound !== true) {
    const where =
      keyProvider === 'local' ? `${dataDirectory}/keys/application.json` : keyProvider.replace(/^file:/, '');
    throw new StartupError(`the key in ${where} is not the one this database was made with`);
  }
}

async function listen(server: Server, { host, port }: Config): Promise<string> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  const { address, family, port: actual } = server.address() as AddressInfo;
  return `http://${family === 'IPv6' ? `[${address}]` : address}:${actual}`;
}

/** What still runs when the time is over runs on in PostgreSQL, which has its own; nobody waits for it here. */
async function endPool(pool: pg.Pool): Promise<void> {
  await Promise.race([pool.end(), sleep(POOL_MILLISECONDS, undefined, { ref: false })]);
}

/** Starts the API: one pool, one PostGraphile, one Express, all closed by `close` in reverse order. */
export async function startServer(options: ServerOptions): Promise<RunningServer> {
  const { config, access, keys } = options;
  const isProduction = config.environment === 'production';
  const pool = openPool(access);
  const closers: (() => Promise<void>)[] = [() => endPool(pool)];
  const close = async (): Promise<void> => {
    for (const closer of closers.reverse()) await closer();
  };
  try {
    const sealer = new EnvelopeSealer(pool, keys);
    const hasher = createPasswordHasher({
      observe: (stage, seconds) => metrics.passwordHash(stage, seconds),
      onOverload: () => metrics.countLimit('password.waiting'),
    });
    const heartbeat = startHeartbeat(pool);
    closers.push(heartbeat.stop);
    const metrics = createMetrics({ pool, auditor: access.auditor, hasher, sealer, heartbeat });
    closers.push(metrics.close);
    const tracer = await tracerFor(config.tracesUrl, 'safetypin');
    if (tracer !== undefined) closers.push(tracer.close);
    const observer: Observer = createObserver({ ...config, metrics, tracer });
    const requests = createRequests({
      pool,
      sealer,
      observe: observer.observe,
      statementNames: config.databasePooled ? 0 : STATEMENT_NAMES,
      places: new Turns({ places: CONNECTIONS, onOverload: () => metrics.countLimit('request.turns') }),
      onUnavailable: outageNotes('database'),
    });
    const register = new ErrorRegister(
      (await pool.query<RegisterRow>('select sqlstate, code, http_status, message from platform.errors')).rows,
    );
    await bindApplication(requests, config);
    const tokens = await AccessTokens.open({ dataDirectory: config.dataDirectory, issuer: config.publicUrl });
    const tools = { requests, tokens, hasher, refreshKey: keys.derive('refresh') };
    const recordFault = faultRecorder({ requests, onFault: metrics.countFault });
    const activity = gatherActivity(pool, (error) => logFault(describeFault(error, 'none', 'activity')));
    closers.push(() => activity.close());

    const pgl = postgraphile(
      serverPreset({
        pool,
        schemas: config.schemas,
        tagsFile: config.tagsFile,
        tools,
        ruru: !isProduction,
        execution: {
          register,
          recordFault,
          introspection: !isProduction,
          tellCost: config.environment === 'development',
          onError: metrics.countError,
          onLimit: metrics.countLimit,
          onOperation: observer.operation,
        },
      }),
    );
    closers.push(async () => pgl.release());
    await pgl.getSchema();
    const serv = pgl.createServ((config) => new ApiGrafserv(config));

    const shared = {
      authenticator: new Authenticator(tokens, requests, activity),
      register,
      recordFault,
      observer,
      clientAddress: trustedClientAddress(config.trustedProxies),
      isHttps: config.publicUrl.startsWith('https://'),
      serv,
    };
    const door = metricsDoor(config, metrics);
    const readiness = readinessOf(requests);
    const shutdown = new Shutdown({
      delayMilliseconds: config.shutdownDelay * 1000,
      closeMilliseconds: options.closeMilliseconds ?? CLOSE_MILLISECONDS,
    });
    const app = await createApp({
      ...shared,
      tools,
      readiness: async () => (shutdown.isStopping ? 'STOPPING' : readiness()),
      metricsDoor: door,
      mailbox: isProduction ? undefined : (to) => mailbox.list(to),
      ruru: !isProduction,
    });
    const { persistedOperations: folder, persistedOnly } = config;
    const documentOf = documentsFrom(folder === undefined ? undefined : loadPersistedOperations(folder), persistedOnly);
    const graphql = graphqlHandler({ ...shared, documentOf });
    const server = createServer({ requestTimeout: REQUEST_MILLISECONDS }, (request, response) => {
      shutdown.began(response);
      if (!isGraphQL(request)) return app(request, response);
      shutdown.working(graphql(request, response));
    });
    closers.push(await door.listen());
    const url = await listen(server, config);
    closers.push(() => shutdown.stop(server));
    return { url, close };
  } catch (error) {
    await close();
    throw error;
  }
}
