import type pg from 'pg';
import { AppError } from '../platform/app-error.ts';
import { SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import { Envelopes, type Sealer } from './envelopes.ts';
import type { Observe, RequestNote } from './observe.ts';
import { StatementNames } from './statements.ts';
import { type Gone, type RequestClient, RequestTransaction, type TransactionState } from './transaction.ts';

export type { RequestClient } from './transaction.ts';

/** Who asks, from where. Made once per HTTP request; the credential is already known to come from a good token. */
export interface RequestSource {
  readonly requestId: string;
  readonly credential: Buffer | null;
  readonly ip: string | null;
  readonly userAgent: string | null;
  /** What is learnt of the request on its way, for the log, the metrics and the trace. */
  readonly note?: RequestNote;
}

/** The same client without its session: for steps that prove a person anew. */
export const withoutCredential = (source: RequestSource): RequestSource =>
  source.credential === null ? source : { ...source, credential: null };

export interface RequestsOptions {
  /** Made with `pipeline: true`. Its owner ends it. */
  readonly pool: pg.Pool;
  readonly sealer: Sealer;
  /** Prepared statements kept per connection. Defaults to 100; 0 through a transaction pooler. */
  readonly statementNames?: number;
  /** Told why the database could not be reached, or was lost on the way. Defaults to nothing. */
  readonly onUnavailable?: (error: unknown) => void;
  /** Told how long each step took. Defaults to nothing. */
  readonly observe?: Observe;
}

type Work<Result> = (client: RequestClient) => Result | Promise<Result>;

export interface Requests {
  readonly pool: pg.Pool;
  /** Runs work in a transaction with the request open: for REST handlers and TypeScript-backed steps. */
  inRequest<Result>(source: RequestSource, work: Work<Result>, signal?: Gone): Promise<Result>;
  /** The `withPgClient` of PostGraphile's context, bound to who asks. It ignores settings: SQL decides the role. */
  withPgClient(
    source: RequestSource,
    signal?: Gone,
  ): <Result>(settings: unknown, work: Work<Result>) => Promise<Result>;
}

const OPEN = "select set_config('role', sessions.open_request($1, $2, $3), true)";
const OPEN_NAME = 'open_request';
const ROLLBACK_MILLISECONDS = 5000;

const ignore = (): void => {};

/** Corks writes, so that begin, opening and the first statement leave in one packet. */
function corked(connection: pg.PoolClient): { uncork(): void } {
  const { stream } = (connection as unknown as { connection: { stream: { cork(): void; uncork(): void } } }).connection;
  stream.cork();
  return stream;
}

function isIdle(connection: pg.PoolClient): boolean {
  return (connection as unknown as { getTransactionStatus(): string | null }).getTransactionStatus() === 'I';
}

/** Rolls back; an error means that the state of the connection is unknown and it must not be used again. */
async function rollBack(connection: pg.PoolClient): Promise<Error | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error('rollback timed out')), ROLLBACK_MILLISECONDS);
  });
  try {
    await Promise.race([connection.query('rollback'), late]);
    return isIdle(connection) ? undefined : new Error('connection is not idle after rollback');
  } catch (error) {
    return error instanceof Error ? error : new Error('rollback failed');
  } finally {
    clearTimeout(timer);
  }
}

/**
 * Opens requests on a pool. `begin`, the opening and the first statement are sent without waiting for one another: an
 * error of the opening aborts the transaction, so nothing behind it can run, and that first error is the one reported.
 * The commit is always awaited: that costs no message, and no answer leaves before what it says is durable.
 */
export function createRequests(options: RequestsOptions): Requests {
  const { pool, sealer, statementNames = 100, onUnavailable = ignore, observe = ignore } = options;
  const names = new StatementNames(statementNames);
  const envelopes = new Envelopes(sealer);

  /** Whatever the reason: the pool, the socket, a server that takes no connections. Operators are told, clients are not. */
  function unavailable(error: unknown): AppError {
    onUnavailable(error);
    return new AppError(SQLSTATE.unreachable, 'the database cannot be reached', { cause: error });
  }

  const reached = <Value>(asked: Promise<Value>): Promise<Value> =>
    asked.catch((error: unknown) => {
      throw unavailable(error);
    });

  async function inRequest<Result>(source: RequestSource, work: Work<Result>, signal?: Gone): Promise<Result> {
    // Sealed before a connection is taken: the sealer may need one itself, and the pool may have only one.
    const envelope = envelopes.at(source.credential) ?? (await reached(envelopes.seal(source.credential)));
    if (signal?.aborted) throw new AppError(SQLSTATE.canceled, 'the client has gone');
    const asked = performance.now();
    const connection = await reached(pool.connect());
    observe('wait', asked, performance.now(), source);
    let broken: Error | undefined;
    const onError = (error: Error): void => {
      broken = error;
    };
    connection.on('error', onError);
    try {
      return await runOpened(connection, source, envelope, work, signal);
    } catch (error) {
      broken ??= await rollBack(connection);
      // A crash empties the table of transport keys: the next request asks for a new one.
      if (sqlstateOf(error) === SQLSTATE.keyUnavailable) envelopes.forget();
      throw error === broken ? unavailable(error) : error;
    } finally {
      connection.removeListener('error', onError);
      connection.release(broken);
    }
  }

  async function runOpened<Result>(
    connection: pg.PoolClient,
    source: RequestSource,
    envelope: Buffer,
    work: Work<Result>,
    signal: Gone | undefined,
  ): Promise<Result> {
    const metadata = JSON.stringify({ ip: source.ip, userAgent: source.userAgent, requestId: source.requestId });
    const stream = corked(connection);
    let state: TransactionState;
    let working: Promise<Result>;
    try {
      connection.query('begin').catch(ignore);
      const name = names.use(connection, OPEN_NAME);
      const values = [source.credential, envelope, metadata];
      const began = performance.now();
      const opening = connection.query(name === undefined ? { text: OPEN, values } : { text: OPEN, values, name });
      const observed = (): void => {
        state.answered = performance.now();
        observe('open', began, state.answered, source);
      };
      const opened = opening.then(observed, (error: unknown) => {
        state.openError = error;
        observed();
      });
      state = {
        connection,
        source,
        observe,
        answered: began,
        names,
        opened,
        signal,
        savepoints: 0,
        closed: false,
        openError: undefined,
        firstError: undefined,
      };
      working = Promise.resolve(work(new RequestTransaction(state)));
    } finally {
      stream.uncork();
    }
    try {
      const result = await working;
      await state.opened;
      if (state.openError !== undefined) throw state.openError;
      // Work that swallowed an error of PostgreSQL did not get what it believes to have.
      if (state.firstError !== undefined) throw state.firstError;
      const ending = performance.now();
      const { command } = await connection.query('commit');
      observe('commit', ending, performance.now(), source);
      if (command !== 'COMMIT') throw new AppError(SQLSTATE.transactionAborted, 'the transaction was rolled back');
      return result;
    } catch (error) {
      await state.opened;
      throw state.openError ?? error;
    } finally {
      state.closed = true;
    }
  }

  return {
    pool,
    inRequest,
    withPgClient: (source, signal) => (_settings, work) => inRequest(source, work, signal),
  };
}
