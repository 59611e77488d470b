// The connection that statements run on, apart from the one that records them. It is a direct one: what a statement leaves
// behind in it (a role, a setting, a lock) is taken away before the next, which a pooler would have given to somebody else.
import pg from 'pg';
import { cancelRunning } from '../graphql/cancel.ts';
import type { TextResult } from '../platform/sql/table.ts';

/** A result of which only the first rows were kept. */
export interface Answer {
  readonly result: TextResult;
  /** Rows there were. */
  readonly total: number;
}

/** Longest value that is kept of a row, in characters. */
const VALUE_LENGTH = 10_000;
const AS_TEXT = { getTypeParser: () => String };

const shortened = (value: string | null): string | null =>
  value === null || value.length <= VALUE_LENGTH
    ? value
    : `${value.slice(0, VALUE_LENGTH)}… (${value.length - VALUE_LENGTH} more characters)`;

export class Line {
  readonly #config: pg.ClientConfig;
  readonly #onNotice: (severity: string, message: string) => void;
  #client: pg.Client | undefined;
  #loss: unknown;
  #running = false;
  #canceling: Promise<boolean> | undefined;

  constructor(config: pg.ClientConfig, onNotice: (severity: string, message: string) => void) {
    this.#config = config;
    this.#onNotice = onNotice;
  }

  /** Whether a transaction is under way, and whole: as the server says. */
  get transaction(): 'none' | 'open' | 'failed' {
    const status = (this.#client as { getTransactionStatus?(): string | null } | undefined)?.getTransactionStatus?.();
    if (status === 'T') return 'open';
    return status === 'E' ? 'failed' : 'none';
  }

  /** Why the connection was lost since this was asked last, or undefined. */
  takeLoss(): unknown {
    const loss = this.#loss;
    this.#loss = undefined;
    return loss;
  }

  async connect(): Promise<void> {
    if (this.#client !== undefined) return;
    const client = new pg.Client(this.#config);
    client.on('error', (error) => this.#lose(client, error));
    client.on('end', () => this.#lose(client, new Error('the server closed it')));
    client.on('notice', ({ severity, message }) => this.#onNotice(severity ?? 'NOTICE', message ?? ''));
    await client.connect();
    this.#client = client;
  }

  /** A statement of the shell's own. */
  async send<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<readonly Row[]> {
    return (await (await this.#ready()).query<Row>(text, values)).rows;
  }

  /**
   * A statement as it was typed: by the extended protocol, which takes one statement in a message and refuses a second.
   * All rows are counted, the first `limit` are kept.
   */
  async run(text: string, limit: number): Promise<Answer> {
    const client = await this.#ready();
    this.#running = true;
    try {
      return await new Promise((resolve, reject) => {
        const rows: (string | null)[][] = [];
        let total = 0;
        const config = { text, queryMode: 'extended', rowMode: 'array', types: AS_TEXT };
        const query = client.query(new pg.Query(config as pg.QueryConfig));
        query.on('row', (row) => {
          total += 1;
          if (rows.length < limit) rows.push((row as unknown as (string | null)[]).map(shortened));
        });
        // What became of the transaction is known only when the server is ready again, which is when it answers this.
        query.on('error', (error) => {
          const answered = Promise.resolve(this.#canceling).then(() => client.query(''));
          answered.catch((loss) => this.#lose(client, loss)).finally(() => reject(error));
        });
        query.on('end', (result) => resolve({ result: { ...result, rows } as unknown as TextResult, total }));
      });
    } finally {
      this.#running = false;
    }
  }

  /** Cancels the statement that was typed, if it still runs. */
  cancel(): void {
    if (this.#running && this.#client !== undefined) this.#canceling ??= cancelRunning(this.#client);
  }

  async close(): Promise<void> {
    await this.#canceling;
    const client = this.#client;
    this.#client = undefined;
    await client?.end().catch(() => {});
  }

  /** The first reason stays. */
  #lose(client: pg.Client, loss: unknown): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#loss = loss;
  }

  /** A cancel under way must not hit what is sent next; when it is not known where it is, this connection is given up. */
  async #ready(): Promise<pg.Client> {
    const isDelivered = (await this.#canceling) ?? true;
    this.#canceling = undefined;
    if (!isDelivered) await this.close();
    if (this.#client === undefined) throw this.#loss ?? new Error('the connection was lost');
    return this.#client;
  }
}
