// `safetypin shell`: what is typed, piped or in a file, run statement by statement, and what came of it.
import { SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import { explainSqlError } from '../platform/sql/error.ts';
import { formatExpanded, formatResult, printable } from '../platform/sql/table.ts';
import { meaningOf } from './commands.ts';
import { type Executor, Refused } from './executor.ts';
import { SessionOver } from './operator.ts';
import type { Ready } from './statements.ts';

/** What became of one statement: `over` is the end of the shell. */
export type Became = 'done' | 'failed' | 'over' | 'quit';

export interface ShellOptions {
  readonly executor: Executor;
  readonly out: (text: string) => void;
  readonly note: (text: string) => void;
  /** Our own SQLSTATEs with the code and the sentence that stand for them everywhere. */
  readonly register: ReadonlyMap<string, { readonly code: string; readonly message: string }>;
  /** What the text is called in messages. */
  readonly name: string;
}

/** Longest line of an account of an error. */
const LINE_LENGTH = 500;

/** Several lines, of which a terminal obeys nothing. */
export const harmless = (text: string): string =>
  text
    .split('\n')
    .map((line) => printable(line.length > LINE_LENGTH ? `${line.slice(0, LINE_LENGTH)}…` : line))
    .join('\n');

export class Shell {
  readonly #options: ShellOptions;
  #isExpanded = false;

  constructor(options: ShellOptions) {
    this.#options = options;
  }

  /** Runs one statement or command and shows what came of it. Never throws. */
  async run(ready: Ready): Promise<Became> {
    const { out, note } = this.#options;
    if (!ready.text.startsWith('\\')) return await this.#runStatement(ready);
    const meaning = meaningOf(ready.text);
    if (meaning.is === 'quit') return 'quit';
    if (meaning.is === 'statement') return await this.#runStatement({ ...ready, text: meaning.text });
    if (meaning.is === 'unknown') {
      note(harmless(`there is no command ${ready.text.split(/\s/)[0]}: \\? lists them`));
      return 'failed';
    }
    if (meaning.is === 'expanded') this.#isExpanded = !this.#isExpanded;
    out(meaning.is === 'words' ? meaning.text : `expanded display is ${this.#isExpanded ? 'on' : 'off'}`);
    return 'done';
  }

  async #runStatement({ text, line }: Ready): Promise<Became> {
    const { executor, out, note } = this.#options;
    try {
      const { result, total } = await executor.run(text);
      out((this.#isExpanded ? formatExpanded : formatResult)(result, text, total));
      return 'done';
    } catch (error) {
      if (error instanceof SessionOver) {
        note('The session has ended: it was revoked, its person suspended, or its time is over. Nothing was run.');
        return 'over';
      }
      note(harmless(this.#explain(error, text, line)));
      return 'failed';
    }
  }

  #explain(error: unknown, statement: string, line: number): string {
    if (error instanceof Refused) return `refused: ${error.message}`;
    const { register, name } = this.#options;
    // As many lines before it as stand before it in the file.
    const text = '\n'.repeat(line) + statement;
    const account = explainSqlError(error, { text, offset: line, name });
    const code = sqlstateOf(error);
    // What the operator has canceled did not take too long.
    const isCanceled = code === SQLSTATE.canceled && /user request/.test(account);
    const known = isCanceled ? undefined : register.get(code ?? '');
    const head = code === null || account.includes(code) ? account : `ERROR ${code}: ${account}`;
    return known === undefined ? head : `${head}\n  ${known.code}: ${known.message}`;
  }
}
