import type pg from 'pg';
import { AppError } from '../platform/app-error.ts';
import { SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import type { RequestSource } from './adaptor.ts';
import type { Observe } from './observe.ts';
import type { StatementNames } from './statements.ts';

/** One statement. Values are always bound; SQL text never holds one. */
export interface Statement {
  readonly text: string;
  readonly values?: readonly unknown[];
  readonly name?: string;
  readonly arrayMode?: boolean;
}

export interface StatementResult<Row> {
  readonly rows: readonly Row[];
  readonly rowCount: number | null;
  readonly notices: readonly never[];
}

/** What work inside an opened request may do; the shape PostGraphile expects of a PgClient. */
export interface RequestClient {
  query<Row>(statement: Statement): Promise<StatementResult<Row>>;
  withTransaction<Result>(work: (client: this) => Promise<Result>): Promise<Result>;
  /**
   * Sends what `send` asks for at once, and the commit behind it in the same packet where that can be: a round trip less.
   * Nothing can be asked afterwards. For reading only: what is done with the answers may fail when all is committed.
   */
  finish<Result>(send: () => Promise<Result>): Promise<Result>;
}

const NO_NOTICES: readonly never[] = Object.freeze([]);

/** Text that PostgreSQL cannot hold: NUL, or half of a surrogate pair (Node would store it as U+FFFD without a word). */
export function isStorableText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** Typed text as SQL can take it: what cannot be stored is nobody's address and no name, and becomes empty. */
export const storable = (text: string): string => (isStorableText(text) ? text : '');

function assertStorable(values: readonly unknown[]): void {
  for (const value of values) {
    if (Array.isArray(value)) assertStorable(value);
    else if (typeof value === 'string' && !isStorableText(value)) {
      throw new AppError(SQLSTATE.malformedText, 'a value holds text that cannot be stored');
    }
  }
}

/** Whether whoever asked has gone: an AbortSignal, or anything that knows. */
export interface Gone {
  readonly aborted: boolean;
  addEventListener(type: 'abort', listener: () => void): void;
  removeEventListener(type: 'abort', listener: () => void): void;
}

const ignore = (): void => {};

/** Corks writes, so that what follows leaves in one packet. */
export function corked(connection: pg.PoolClient): { uncork(): void } {
  const { stream } = (connection as unknown as { connection: { stream: { cork(): void; uncork(): void } } }).connection;
  stream.cork();
  return stream;
}

/** Shared by an opened transaction and the savepoints inside it. */
export interface TransactionState {
  readonly connection: pg.PoolClient;
  readonly source: RequestSource;
  readonly observe: Observe;
  /** When the last answer came: a statement sent ahead of it began to run no earlier. */
  answered: number;
  readonly names: StatementNames;
  /** Settles when the request was opened; its error explains every "transaction is aborted" behind it. */
  readonly opened: Promise<unknown>;
  readonly signal: Gone | undefined;
  /** Set while the request is opened anew, with another envelope: nothing may be sent then. */
  reopening: Promise<unknown> | undefined;
  /** How often it was opened. What failed behind an earlier opening never ran, and is sent again. */
  openings: number;
  /** Statements that were sent and not answered. */
  running: number;
  savepoints: number;
  closed: boolean;
  /** The commit, if it was sent ahead of the end of the work. */
  ending: Promise<pg.QueryResult> | undefined;
  openError: unknown;
  /** The error that aborted the transaction, unless a savepoint has undone it. */
  firstError: unknown;
}

/**
 * A transaction in which a request is open. Statements go out without waiting for the ones before them; only while a
 * savepoint is open do its siblings wait, or they would end up inside it.
 */
export class RequestTransaction implements RequestClient {
  readonly #state: TransactionState;
  #savepoint: Promise<unknown> | null = null;

  constructor(state: TransactionState) {
    this.#state = state;
  }

  query<Row>(statement: Statement): Promise<StatementResult<Row>> {
    return this.#savepoint === null
      ? this.#send<Row>(statement)
      : this.#savepoint.then(() => this.query<Row>(statement));
  }

  withTransaction<Result>(work: (client: this) => Promise<Result>): Promise<Result> {
    if (this.#savepoint !== null) return this.#savepoint.then(() => this.withTransaction(work));
    const result = this.#inSavepoint(work);
    const mark: Promise<unknown> = result.then(
      () => this.#leave(mark),
      () => this.#leave(mark),
    );
    this.#savepoint = mark;
    return result;
  }

  finish<Result>(send: () => Promise<Result>): Promise<Result> {
    const state = this.#state;
    const isLast = state.savepoints === 0 && state.running === 0 && state.reopening === undefined && !state.closed;
    if (!isLast) return send();
    const stream = corked(state.connection);
    try {
      const sent = send();
      // Of what was sent an error is the one that counts; a commit behind it only undoes.
      state.ending = state.connection.query('commit');
      state.ending.catch(ignore);
      state.closed = true;
      return sent;
    } finally {
      stream.uncork();
    }
  }

  #leave(mark: Promise<unknown>): void {
    if (this.#savepoint === mark) this.#savepoint = null;
  }

  async #inSavepoint<Result>(work: (client: this) => Promise<Result>): Promise<Result> {
    const state = this.#state;
    state.savepoints += 1;
    const savepoint = `sp_${state.savepoints}`;
    // Waited for only through what follows: an error here is the error of the first statement inside.
    const began = this.#send({ text: `savepoint ${savepoint}` });
    began.catch(() => {});
    try {
      const result = await work(new RequestTransaction(state) as this);
      await began;
      await this.#send({ text: `release savepoint ${savepoint}` });
      return result;
    } catch (error) {
      await this.#send({ text: `rollback to savepoint ${savepoint}` });
      // The transaction is whole again, so what failed inside it may be handled by the caller.
      if (state.firstError === error) state.firstError = undefined;
      throw error;
    }
  }

  async #send<Row>(statement: Statement): Promise<StatementResult<Row>> {
    const state = this.#state;
    const { text, values, name, arrayMode } = statement;
    if (state.reopening !== undefined) await state.reopening;
    if (state.closed) throw new AppError(SQLSTATE.canceled, 'the transaction is over');
    if (state.signal?.aborted) throw new AppError(SQLSTATE.canceled, 'the client has gone');
    if (values !== undefined) assertStorable(values);
    const config: pg.QueryConfig & { rowMode?: 'array' } = { text };
    if (values !== undefined) config.values = values as unknown[];
    const known = state.names.use(state.connection, name);
    if (known !== undefined) config.name = known;
    if (arrayMode === true) config.rowMode = 'array';
    const sent = performance.now();
    const { openings } = state;
    state.running += 1;
    try {
      const { rows, rowCount } = await state.connection.query(config as pg.QueryConfig);
      this.#observe(sent, config);
      return { rows, rowCount, notices: NO_NOTICES };
    } catch (error) {
      this.#observe(sent, config);
      if (sqlstateOf(error) === SQLSTATE.transactionAborted) {
        await state.opened;
        if (state.openings > openings) return await this.#send(statement);
        const cause = state.openError ?? state.firstError;
        if (cause !== undefined) throw cause;
      }
      state.firstError ??= error;
      throw error;
    } finally {
      state.running -= 1;
    }
  }

  #observe(sent: number, statement: { text: string; name?: string | undefined }): void {
    const state = this.#state;
    const began = Math.max(sent, state.answered);
    state.answered = performance.now();
    state.observe('statement', began, state.answered, state.source, statement);
  }
}
