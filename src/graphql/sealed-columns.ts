import { randomBytes } from 'node:crypto';
import { AppError } from '../platform/app-error.ts';
import { sqlstateOf } from '../platform/errors.ts';
import type { RequestClient } from './adaptor.ts';
import type { Statement, StatementResult } from './transaction.ts';

/** What became of a sealed value: its text, as its codec takes it, or why there is none. */
export type Opened = { readonly value: string | null } | { readonly problem: unknown };

/** The opened values of one request, by what stood for them in the rows. */
export type OpenedValues = Map<string, Opened>;

type Work<Result> = (client: RequestClient) => Result | Promise<Result>;
type WithClient = <Result>(settings: unknown, work: Work<Result>) => Promise<Result>;

interface Sealed {
  readonly tokens: string[];
  readonly rows: string[];
  readonly values: string[];
}

/** Refusals that are about values, not about the rows that they stand in. */
const OF_VALUES: ReadonlySet<string | null> = new Set(['KEYNO', 'DENYD']);

const ignore = (): void => {};

/**
 * Statements select a token for each sealed value: row and ciphertext behind a mark that nobody can guess. When their
 * rows have come, the tokens in them are opened in the same transaction, one statement for all of a column, however deep
 * in the answer they stand; the fields find the values here. So a list costs one round trip more, not one for each row.
 */
export class SealedColumns {
  /** No text that somebody stored can pass for a token. */
  readonly mark = `sealed:${randomBytes(16).toString('hex')}:`;
  readonly #token = new RegExp(`${this.mark}([0-9a-f-]{36}):([0-9a-f-]{36}):([0-9a-f]+)`, 'g');
  readonly #expressions = new Map<string, string>();

  /** Makes a column known: `expression` gives the value `o.value` the text that its codec takes. */
  add(columnId: string, expression: string): void {
    this.#expressions.set(columnId, expression);
  }

  /**
   * A door to the database whose statements open what they bring. `isRepeatable`: only reads, so what fails for the keys'
   * sake is asked again without values; otherwise a savepoint keeps what was written.
   */
  opening(withPgClient: WithClient, opened: OpenedValues, isRepeatable: boolean): WithClient {
    return async (settings, work) => {
      let problem: unknown;
      const failed = (error: unknown): void => {
        problem ??= error;
      };
      const client = (inner: RequestClient): RequestClient =>
        new OpeningClient(inner, this, (sealed, within) => this.#open(sealed, within, opened, isRepeatable, failed));
      try {
        return await withPgClient(settings, (inner) => work(client(inner)));
      } catch (error) {
        if (!isRepeatable || error !== problem || !OF_VALUES.has(sqlstateOf(error))) throw error;
        const without = (sealed: ReadonlyMap<string, Sealed>): Promise<void> => {
          for (const { tokens } of sealed.values()) for (const token of tokens) opened.set(token, { problem });
          return Promise.resolve();
        };
        return withPgClient(settings, (inner) => work(new OpeningClient(inner, this, without)));
      }
    };
  }

  /** The sealed values in rows, by column. */
  find(rows: readonly unknown[]): ReadonlyMap<string, Sealed> {
    const found = new Map<string, Sealed>();
    const seen = new Set<string>();
    for (const row of rows) {
      for (const cell of Array.isArray(row) ? row : Object.values(row as object)) {
        if (typeof cell !== 'string' || !cell.includes(this.mark)) continue;
        for (const [token, column, id, value] of cell.matchAll(this.#token) as Iterable<string[]>) {
          if (seen.has(token as string)) continue;
          seen.add(token as string);
          let sealed = found.get(column as string);
          if (sealed === undefined) {
            sealed = { tokens: [], rows: [], values: [] };
            found.set(column as string, sealed);
          }
          sealed.tokens.push(token as string);
          sealed.rows.push(id as string);
          sealed.values.push(`"\\\\x${value}"`);
        }
      }
    }
    return found;
  }

  async #open(
    found: ReadonlyMap<string, Sealed>,
    client: RequestClient,
    opened: OpenedValues,
    isRepeatable: boolean,
    failed: (error: unknown) => void,
  ): Promise<void> {
    const each = [...found].map(async ([column, sealed]) => {
      try {
        if (isRepeatable) return await this.#openColumn(client, column, sealed, opened);
        await client.withTransaction((inner) => this.#openColumn(inner, column, sealed, opened));
      } catch (problem) {
        failed(problem);
        if (isRepeatable || !OF_VALUES.has(sqlstateOf(problem))) throw problem;
        for (const token of sealed.tokens) opened.set(token, { problem });
      }
    });
    for (const one of each) one.catch(ignore);
    await Promise.all(each);
  }

  async #openColumn(client: RequestClient, column: string, sealed: Sealed, opened: OpenedValues): Promise<void> {
    const expression = this.#expressions.get(column);
    if (expression === undefined) throw new Error('a sealed column that is not known');
    const { rows } = await client.query<[number, string | null, string | null]>({
      text: `select o.number, ${expression}, o.problem from keyring.open_values($1, $2, $3) o`,
      values: [column, `{${sealed.rows.join()}}`, `{${sealed.values.join()}}`],
      name: `open_${column}`,
      arrayMode: true,
    });
    for (const [number, value, problem] of rows) {
      const token = sealed.tokens[number - 1];
      if (token !== undefined) opened.set(token, isSilent(problem) ? { value } : { problem: refusalOf(problem) });
    }
  }
}

/** Columns whose refusal is an error raise it; for the others who may not read sees nothing there. */
const isSilent = (problem: string | null): problem is null | 'DENYD' => problem === null || problem === 'DENYD';

/** The error of one value, by SQLSTATE. It says nothing of the value. */
export const refusalOf = (sqlstate: string): AppError => new AppError(sqlstate, 'a sealed value did not open');

/** Hands statements on, and opens what their rows bring. */
class OpeningClient implements RequestClient {
  readonly #inner: RequestClient;
  readonly #columns: SealedColumns;
  readonly #open: (found: ReadonlyMap<string, Sealed>, client: RequestClient) => Promise<void>;

  constructor(
    inner: RequestClient,
    columns: SealedColumns,
    open: (found: ReadonlyMap<string, Sealed>, client: RequestClient) => Promise<void>,
  ) {
    this.#inner = inner;
    this.#columns = columns;
    this.#open = open;
  }

  async query<Row>(statement: Statement): Promise<StatementResult<Row>> {
    const result = await this.#inner.query<Row>(statement);
    if (!statement.text.includes(this.#columns.mark)) return result;
    const found = this.#columns.find(result.rows);
    if (found.size > 0) await this.#open(found, this.#inner);
    return result;
  }

  withTransaction<Result>(work: (client: this) => Promise<Result>): Promise<Result> {
    return this.#inner.withTransaction((inner) => work(new OpeningClient(inner, this.#columns, this.#open) as this));
  }
}
