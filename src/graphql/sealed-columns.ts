import { randomBytes } from 'node:crypto';
import { AppError } from '../platform/app-error.ts';
import { sqlstateOf } from '../platform/errors.ts';
import type { RequestClient } from './adaptor.ts';
import type { Statement, StatementResult } from './transaction.ts';

/** What became of a sealed value: its text, as its codec takes it, or why there is none. */
export type Opened = { readonly value: string | null } | { readonly problem: unknown };

/** The opened values of one request, by what stood for them in cells that hold more than one. */
export type OpenedValues = Map<string, Opened>;

type Work<Result> = (client: RequestClient) => Result | Promise<Result>;
type WithClient = <Result>(settings: unknown, work: Work<Result>) => Promise<Result>;
type Row = Record<string | number, unknown>;

/** The values of one column: rows and ciphertexts, and where each goes: into its cell, or to its token. */
interface Sealed {
  readonly ids: string[];
  readonly values: string[];
  readonly places: ({ readonly row: Row; readonly cell: string | number } | string)[];
}
type Found = ReadonlyMap<string, Sealed>;

/** Refusals that are about values, not about the rows that they stand in. */
const OF_VALUES: ReadonlySet<string | null> = new Set(['KEYNO', 'KEYRO', 'DENYD']);

const UUID = 36;

/**
 * Statements select a token for each sealed value: row and ciphertext behind a mark that nobody can guess. When their
 * rows have come, the tokens in them are opened in the same transaction, one statement for all of a column, however deep
 * in the answer they stand. So a list costs one round trip more, not one for each row.
 */
export class SealedColumns {
  /** No text that somebody stored can pass for a token. */
  readonly mark = `sealed${randomBytes(12).toString('hex')}:`;
  readonly #token = new RegExp(`${this.mark}([0-9a-f-]{36}):([0-9a-f-]{36}):([0-9a-f]+)`, 'g');
  readonly #statements = new Map<string, string>();

  /** Makes a column known: `expression` gives the value `o.value` the text that its codec takes. */
  add(columnId: string, expression: string): void {
    this.#statements.set(columnId, `select o.number, ${expression}, o.problem from keyring.open_values($1, $2, $3) o`);
  }

  /**
   * A door to the database whose statements open what they bring. `isRepeatable`: only reads, so what fails for the keys'
   * sake is asked again without values; otherwise a savepoint keeps what was written.
   */
  opening(withPgClient: WithClient, opened: OpenedValues, isRepeatable: boolean): WithClient {
    return async (settings, work) => {
      let problem: unknown;
      const open = async (client: RequestClient, column: string, sealed: Sealed): Promise<void> => {
        try {
          if (isRepeatable) return await this.#open(client, column, sealed, opened);
          await client.withTransaction((inner) => this.#open(inner, column, sealed, opened));
        } catch (error) {
          problem ??= error;
          if (isRepeatable || !OF_VALUES.has(sqlstateOf(error))) throw error;
          settle(sealed, opened, { problem: error });
        }
      };
      try {
        return await withPgClient(settings, (client) => work(new OpeningClient(client, this, open, isRepeatable)));
      } catch (error) {
        if (!isRepeatable || error !== problem || !OF_VALUES.has(sqlstateOf(error))) throw error;
        const without = async (_client: RequestClient, _column: string, sealed: Sealed): Promise<void> =>
          settle(sealed, opened, { problem });
        return withPgClient(settings, (client) => work(new OpeningClient(client, this, without, false)));
      }
    };
  }

  /** The sealed values in rows, by column. */
  find(rows: readonly unknown[]): Found {
    const found = new Map<string, Sealed>();
    const add = (column: string, id: string, value: string, place: Sealed['places'][number]): void => {
      let sealed = found.get(column);
      if (sealed === undefined) {
        sealed = { ids: [], values: [], places: [] };
        found.set(column, sealed);
      }
      sealed.ids.push(id);
      sealed.values.push(value);
      sealed.places.push(place);
    };
    const seen = new Set<string>();
    for (const row of rows as Row[]) {
      for (const cell of Object.keys(row)) {
        const text = row[cell];
        if (typeof text !== 'string') continue;
        if (text.startsWith(this.mark)) {
          const at = this.mark.length;
          const behind = at + UUID + 1;
          add(text.slice(at, at + UUID), text.slice(behind, behind + UUID), text.slice(behind + UUID + 1), {
            row,
            cell,
          });
        } else if (text.includes(this.mark)) {
          // Rows of a relation, in one cell.
          for (const [token, column = '', id = '', value = ''] of text.matchAll(this.#token)) {
            if (!seen.has(token)) add(column, id, value, token);
            seen.add(token);
          }
        }
      }
    }
    return found;
  }

  async #open(client: RequestClient, column: string, sealed: Sealed, opened: OpenedValues): Promise<void> {
    const text = this.#statements.get(column);
    if (text === undefined) throw new Error('a sealed column that is not known');
    const { rows } = await client.query<[number, string | null, string | null]>({
      text,
      values: [column, `{${sealed.ids.join()}}`, `{"\\\\x${sealed.values.join('","\\\\x')}"}`],
      name: `open_${column}`,
      arrayMode: true,
    });
    for (const [number, value, problem] of rows) {
      put(sealed.places[number - 1], opened, isSilent(problem) ? { value } : { problem: refusalOf(problem) });
    }
  }
}

function put(place: Sealed['places'][number] | undefined, opened: OpenedValues, value: Opened): void {
  if (typeof place === 'string') opened.set(place, value);
  else if (place !== undefined) place.row[place.cell] = value;
}

function settle({ places }: Sealed, opened: OpenedValues, value: Opened): void {
  for (const place of places) put(place, opened, value);
}

/** Columns whose refusal is an error raise it; for the others who may not read sees nothing there. */
const isSilent = (problem: string | null): problem is null | 'DENYD' => problem === null || problem === 'DENYD';

/** The error of one value, by SQLSTATE. It says nothing of the value. */
export const refusalOf = (sqlstate: string): AppError => new AppError(sqlstate, 'a sealed value did not open');

type Open = (client: RequestClient, column: string, sealed: Sealed) => Promise<void>;

/** Hands statements on, and opens what their rows bring. */
class OpeningClient implements RequestClient {
  readonly #inner: RequestClient;
  readonly #columns: SealedColumns;
  readonly #open: Open;
  /** Whether nothing comes behind a statement whose values are opened: PostGraphile reads by one in a transaction. */
  readonly #isLast: boolean;

  constructor(inner: RequestClient, columns: SealedColumns, open: Open, isLast: boolean) {
    this.#inner = inner;
    this.#columns = columns;
    this.#open = open;
    this.#isLast = isLast;
  }

  query<Row>(statement: Statement): Promise<StatementResult<Row>> {
    const result = this.#inner.query<Row>(statement);
    return statement.text.includes(this.#columns.mark) ? this.#opened(result) : result;
  }

  async #opened<Row>(result: Promise<StatementResult<Row>>): Promise<StatementResult<Row>> {
    const { rows } = await result;
    const found = this.#columns.find(rows);
    if (found.size === 0) return result;
    // Sent without waiting for one another; if several fail, the first one's error is the one that counts.
    const open = (): Promise<unknown> =>
      Promise.all([...found].map(([column, sealed]) => this.#open(this.#inner, column, sealed)));
    await (this.#isLast ? this.#inner.finish(open) : open());
    return result;
  }

  finish<Result>(send: () => Promise<Result>): Promise<Result> {
    return this.#inner.finish(send);
  }

  withTransaction<Result>(work: (client: this) => Promise<Result>): Promise<Result> {
    return this.#inner.withTransaction((inner) =>
      work(new OpeningClient(inner, this.#columns, this.#open, false) as this),
    );
  }
}
