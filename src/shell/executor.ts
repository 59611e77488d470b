// One statement after the other: recorded, then run inside a request of the operator's.
import { randomUUID } from 'node:crypto';
import { SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import type { Answer, Line } from './line.ts';
import type { Operator } from './operator.ts';

/** A statement that was not run, or was taken back, for a reason in words. */
export class Refused extends Error {}

export interface ExecutorOptions {
  readonly line: Line;
  readonly operator: Operator;
  /** Seals the application's half of the key for a credential. */
  readonly sealer: { seal(credential: Buffer | null): Promise<Buffer>; forget(refused: Buffer): void };
  /** Rows of a result that are kept. */
  readonly limit: number;
  readonly note: (text: string) => void;
}

const OPEN = "select set_config('role', sessions.open_request($1, $2, $3), true)";
const IS_OPEN = "select current_user = 'safetypin_member' and request.session_id() is not null as open";

const BEGIN = /^(begin|start\s+transaction)\b/i;
const END = /^(commit|end|rollback|abort)\b/i;
const BACK_TO = /^(rollback|abort)(\s+(work|transaction))?\s+to\b/i;

/** What cannot be run here, in words. Not a guard: what slips through meets the rules of the database. */
const REFUSALS: readonly (readonly [RegExp, string])[] = [
  [/^copy\b/i, 'copy reads or writes a stream that this shell does not have: use insert or select'],
  [/^prepare\s+transaction\b/i, 'a request ends with its connection: prepare transaction is not for it'],
  [
    /^(commit|end|rollback|abort)\b.*\band\s+chain\b/is,
    'and chain would begin a transaction without a request: say begin',
  ],
];

export class Executor {
  readonly #options: ExecutorOptions;
  /** Of the transaction that was begun by hand. */
  #begun: { readonly requestId: string; readonly at: number } | undefined;
  #isCanceled = false;

  constructor(options: ExecutorOptions) {
    this.#options = options;
  }

  /** What the prompt shows of the transaction. */
  get transaction(): 'none' | 'open' | 'failed' {
    return this.#options.line.transaction;
  }

  /** Cancels what runs now: the statement, or before it was sent, its turn. */
  cancel(): void {
    this.#isCanceled = true;
    this.#options.line.cancel();
  }

  /**
   * Runs one statement. Errors of PostgreSQL, of recording and of the connection come out as they are; Refused for what
   * was not run, SessionOver when nothing can be run any more.
   */
  async run(statement: string): Promise<Answer> {
    const { line, operator } = this.#options;
    this.#isCanceled = false;
    for (const [pattern, why] of REFUSALS) if (pattern.test(statement)) throw new Refused(`${why}. It was not run.`);
    await this.#reach();
    const requestId = this.#begun?.requestId ?? randomUUID();
    await operator.record(statement, requestId);
    if (this.#isCanceled) throw new Refused('canceled before it was run.');
    if (END.test(statement) && !BACK_TO.test(statement)) return await this.#end(statement);
    if (this.#begun !== undefined) return await this.#runInside(statement);
    if (!BEGIN.test(statement)) return await this.#runAlone(statement, requestId);
    await this.#open(statement, requestId);
    this.#begun = { requestId, at: Date.now() };
    return tag(line.transaction === 'open' ? 'BEGIN' : '');
  }

  /** Connects again after a loss. A transaction that was lost takes with it the statement that was meant for it. */
  async #reach(): Promise<void> {
    const { line, note } = this.#options;
    const loss = line.takeLoss();
    const wasBegun = this.#begun !== undefined && line.transaction === 'none';
    if (wasBegun) this.#begun = undefined;
    if (wasBegun)
      throw new Refused(`${lossInWords(loss)}, so the transaction is over: it was rolled back, and this was not run.`);
    await line.connect();
    if (loss !== undefined) note(`${lossInWords(loss)}; connected again`);
  }

  /** Begins and opens the request, anew with another envelope when a crash has emptied the table of transport keys. */
  async #open(begin: string, requestId: string): Promise<void> {
    const { line, operator, sealer, limit } = this.#options;
    const { credential, ip, userAgent } = operator.source();
    for (let tries = 1; ; tries += 1) {
      const envelope = await sealer.seal(credential);
      await line.run(begin, limit);
      try {
        await line.send(OPEN, [credential, envelope, JSON.stringify({ ip, userAgent, requestId })]);
        return;
      } catch (error) {
        await this.#clear();
        if (sqlstateOf(error) !== SQLSTATE.keyUnavailable || tries > 1) throw error;
        sealer.forget(envelope);
      }
    }
  }

  async #runAlone(statement: string, requestId: string): Promise<Answer> {
    const { line, limit } = this.#options;
    await this.#open('begin', requestId);
    const began = Date.now();
    try {
      const answer = await line.run(statement, limit);
      if (line.transaction === 'none') throw new Refused('the statement ended its transaction by itself.');
      await this.#demandOpen(began);
      await line.send('commit');
      return answer;
    } finally {
      await this.#clear();
    }
  }

  async #runInside(statement: string): Promise<Answer> {
    const { line, limit } = this.#options;
    const began = this.#begun?.at ?? 0;
    try {
      if (line.transaction === 'open') await this.#demandOpen(began);
      const answer = await line.run(statement, limit);
      if (line.transaction === 'open') await this.#demandOpen(began);
      return answer;
    } finally {
      // It ended by itself, in whatever disguise, or with its connection.
      if (line.transaction === 'none') await this.#clear();
    }
  }

  async #end(statement: string): Promise<Answer> {
    const { line, limit } = this.#options;
    try {
      return await line.run(statement, limit);
    } finally {
      // Whatever it said: nothing is left open, and no transaction without a request begins.
      await this.#clear();
    }
  }

  /**
   * Whether the request is still open. Outside it policies show no rows: an empty answer would look like a true one, so
   * all of the transaction is taken back instead.
   */
  async #demandOpen(began: number): Promise<void> {
    const { line, operator } = this.#options;
    let isOpen = false;
    try {
      isOpen = (await line.send<{ open: boolean }>(IS_OPEN))[0]?.open === true;
    } catch {
      // A role that may not even ask is not the one of the request.
    }
    if (isOpen) return;
    await this.#clear();
    const isLate = Date.now() - began > operator.requestSeconds * 1000;
    const why = isLate
      ? `a request may last ${operator.requestSeconds} s, and these are over`
      : 'the statement left its request, by another role or context, or the session has ended';
    throw new Refused(`${why}: the transaction was rolled back. Begin again for the next one.`);
  }

  /** Back to a connection as it was when it was new: no transaction, role, setting, lock or statement is left in it. */
  async #clear(): Promise<void> {
    const { line } = this.#options;
    this.#begun = undefined;
    try {
      if (line.transaction !== 'none') await line.send('rollback');
      await line.send('discard all');
    } catch {
      // A connection that cannot do this is lost, or must be: it is replaced before the next statement.
      await line.close();
    }
  }
}

const tag = (command: string): Answer => ({
  result: { command, rowCount: null, oid: 0, fields: [], rows: [] },
  total: 0,
});

function lossInWords(loss: unknown): string {
  const code = sqlstateOf(loss);
  if (code === '25P03') return 'the connection was ended for waiting too long inside a transaction';
  if (code === '25P04') return 'the connection was ended because its transaction took too long';
  return `the connection was lost${loss instanceof Error ? ` (${loss.message})` : ''}`;
}
