import type pg from 'pg';
import { AppError } from '../platform/app-error.ts';
import { isOutage, SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import { cancelWhenGone } from './cancel.ts';
import { Envelopes, type Sealer } from './envelopes.ts';
import { Losses } from './losses.ts';
import type { Observe, RequestNote } from './observe.ts';
import { StatementNames } from './statements.ts';
import { corked, type Gone, type RequestClient, RequestTransaction, type TransactionState } from './transaction.ts';

export type { RequestClient } from './transaction.ts';

/** Whose turn a request takes where many wait (http/turns.ts). It gives no right to anything. */
export interface Turn {
  readonly name: string;
  /** A turn of its own, once SQL has taken the credential. */
  readonly once?: string;
}

/** Places at the database and who gets the next. */
export interface Places {
  nameOf(turn: Turn): string;
  enter(name: string, signal?: Gone): Promise<void> | undefined;
  leave(name: string): void;
  proved(turn: Turn): void;
}

/** Who asks, from where. Made once per HTTP request; the credential is already known to come from a good token. */
export interface RequestSource {
  readonly requestId: string;
  readonly credential: Buffer | null;
  readonly ip: string | null;
  readonly userAgent: string | null;
  /** Why sensitive values are read, as the client says it: a code for the audit trail. */
  readonly purpose?: string;
  /** Without one, a request waits for nobody but the pool. */
  readonly turn?: Turn;
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
  /** In which order requests get connections. Defaults to that in which they come. */
  readonly places?: Places;
  /** Told why the database could not be reached, or was lost on the way. Defaults to nothing. */
  readonly onUnavailable?: (error: unknown, requestId: string) => void;
  /** Told how long each step took. Defaults to nothing. */
  readonly observe?: Observe;
}

type Work<Result> = (client: RequestClient) => Result | Promise<Result>;

interface Asked<Result> {
  readonly connection: pg.PoolClient;
  readonly source: RequestSource;
  readonly envelope: Buffer;
  readonly work: Work<Result>;
  readonly signal: Gone | undefined;
}

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
  const { pool, sealer, statementNames = 100, onUnavailable = ignore, observe = ignore, places } = options;
  const names = new StatementNames(statementNames);
  const envelopes = new Envelopes(sealer);
  const losses = new Losses();
  pool.on('connect', (client) => losses.watch(client));

  /** Whatever the reason: the pool, the socket, a server that takes no connections. Operators are told, clients are not. */
  function unavailable(error: unknown, source: RequestSource): AppError {
    onUnavailable(error, source.requestId);
    return new AppError(SQLSTATE.unreachable, 'the database cannot be reached', { cause: error });
  }

  const reached = <Value>(asked: Promise<Value>, source: RequestSource): Promise<Value> =>
    asked.catch((error: unknown) => {
      throw unavailable(error, source);
    });

  /** Each organization in its turn, and then whoever comes first. */
  async function inRequest<Result>(source: RequestSource, work: Work<Result>, signal?: Gone): Promise<Result> {
    const { turn } = source;
    if (places === undefined || turn === undefined) return onConnection(source, work, signal, performance.now());
    const name = places.nameOf(turn);
    const asked = performance.now();
    const waiting = places.enter(name, signal);
    if (waiting !== undefined) await waiting;
    try {
      const result = await onConnection(source, work, signal, asked);
      places.proved(turn);
      return result;
    } finally {
      places.leave(name);
    }
  }

  async function onConnection<Result>(
    source: RequestSource,
    work: Work<Result>,
    signal: Gone | undefined,
    asked: number,
  ): Promise<Result> {
    // Sealed before a connection is taken: the sealer may need one itself, and the pool may have only one.
    const envelope = envelopes.at(source.credential) ?? (await reached(envelopes.seal(source.credential), source));
    if (signal?.aborted) throw new AppError(SQLSTATE.canceled, 'the client has gone');
    const connection = await reached(pool.connect(), source);
    observe('wait', asked, performance.now(), source);
    losses.watch(connection);
    let broken: Error | undefined;
    try {
      return await runOpened({ connection, source, envelope, work, signal });
    } catch (error) {
      const lost = losses.of(connection);
      broken = lost ?? (await rollBack(connection));
      if (sqlstateOf(error) === SQLSTATE.keyUnavailable) envelopes.forget(envelope);
      throw explained(lost ?? error, lost !== undefined, source);
    } finally {
      connection.release(broken ?? losses.of(connection));
    }
  }

  /** What the loss of a connection, or an error of PostgreSQL, means for whoever asked. */
  function explained(error: unknown, isLost: boolean, source: RequestSource): unknown {
    if (error instanceof AppError) return error;
    // A transaction that was ended for taking too long (25P03, 25P04) is the asker's own doing, though it ends a connection.
    const isUnavailable = isLost ? !sqlstateOf(error)?.startsWith('25P') : isOutage(error);
    return isUnavailable ? unavailable(error, source) : error;
  }

  function open(connection: pg.PoolClient, source: RequestSource, envelope: Buffer): Promise<unknown> {
    const { ip, userAgent, requestId, purpose } = source;
    const metadata = JSON.stringify({ ip, userAgent, requestId, purpose });
    const values = [source.credential, envelope, metadata];
    connection.query('begin').catch(ignore);
    const name = names.use(connection, OPEN_NAME);
    return connection.query(name === undefined ? { text: OPEN, values } : { text: OPEN, values, name });
  }

  /**
   * A crash of the database empties its table of transport keys, and the next opening is refused for it. Nothing ran: what
   * was sent behind the opening failed with it. So the request is opened anew with an envelope under another key, and
   * what failed is sent again (see RequestTransaction), without anybody noticing.
   */
  async function reopen(state: TransactionState, refused: Buffer): Promise<void> {
    const { connection, source } = state;
    const problem = await rollBack(connection);
    if (problem !== undefined) throw problem;
    await open(connection, source, await envelopes.sealAnew(source.credential, refused, connection));
    state.openings += 1;
  }

  async function runOpened<Result>(asked: Asked<Result>): Promise<Result> {
    const { connection, source, envelope, work, signal } = asked;
    const stream = corked(connection);
    let state: TransactionState;
    let working: Promise<Result>;
    try {
      const began = performance.now();
      const opening = open(connection, source, envelope);
      const observed = (): void => {
        state.answered = performance.now();
        observe('open', began, state.answered, source);
      };
      const failed = (error: unknown): void => {
        state.openError = error;
      };
      const refused = (error: unknown): void | Promise<void> => {
        if (sqlstateOf(error) !== SQLSTATE.keyUnavailable) return failed(error);
        const reopened = reopen(state, envelope).catch(failed);
        state.reopening = reopened.finally(() => {
          state.reopening = undefined;
        });
        return reopened;
      };
      state = {
        connection,
        source,
        observe,
        answered: began,
        names,
        // Noted in the same tick as the answer: that of the first statement may come with it.
        opened: opening.then(observed, (error: unknown) => Promise.resolve(refused(error)).then(observed)),
        signal,
        reopening: undefined,
        openings: 1,
        running: 0,
        savepoints: 0,
        closed: false,
        ending: undefined,
        openError: undefined,
        firstError: undefined,
      };
      // What it throws at once is thrown later: the opening is under way by now.
      working = (async () => work(new RequestTransaction(state)))();
    } finally {
      stream.uncork();
    }
    const unwatched = cancelWhenGone(signal, state);
    try {
      const result = await working;
      await state.opened;
      if (state.openError !== undefined) throw state.openError;
      // Work that swallowed an error of PostgreSQL did not get what it believes to have.
      if (state.firstError !== undefined) throw state.firstError;
      if (signal?.aborted) throw new AppError(SQLSTATE.canceled, 'the client has gone');
      const isWhole = await unwatched();
      if (!isWhole) throw new AppError(SQLSTATE.canceled, 'the client has gone');
      const ending = performance.now();
      const { command } = await (state.ending ?? connection.query('commit'));
      observe('commit', ending, performance.now(), source);
      if (command !== 'COMMIT') throw new AppError(SQLSTATE.transactionAborted, 'the transaction was rolled back');
      return result;
    } catch (error) {
      await state.opened;
      throw state.openError ?? error;
    } finally {
      state.closed = true;
      // A cancel under way must not hit the rollback, or whoever comes next.
      if (!(await unwatched())) losses.note(connection, new Error('it is not known whether a cancel request arrived'));
    }
  }

  return {
    pool,
    inRequest,
    withPgClient: (source, signal) => (_settings, work) => inRequest(source, work, signal),
  };
}
