// The prompt of a shell. What was typed is kept in memory only: a history on disk would hold what the trail seals.
import { createInterface, type Interface } from 'node:readline';
import type { Executor } from './executor.ts';
import type { Shell } from './shell.ts';
import { Statements } from './statements.ts';

export interface TerminalOptions {
  readonly shell: Shell;
  readonly executor: Executor;
  readonly note: (text: string) => void;
  /** Who and where, before `=>`. */
  readonly prompt: string;
}

const MARK = { none: '=', open: '=*', failed: '=!' } as const;
const GREETING = 'Every statement is recorded before it runs. \\? for help, \\q to end.';

export class Terminal {
  readonly #options: TerminalOptions;
  readonly #statements = new Statements();
  /** Lines that were typed and not looked at yet: people type ahead, and paste. */
  readonly #lines: string[] = [];
  #isBusy = false;
  #finish: (exitCode: number) => void = () => {};

  constructor(options: TerminalOptions) {
    this.#options = options;
  }

  /** Reads until \q, Ctrl-D, the end of the session, or the signal. */
  async run(signal: AbortSignal): Promise<number> {
    const { note } = this.#options;
    const output = process.stdout.isTTY ? process.stdout : process.stderr;
    const terminal = createInterface({ input: process.stdin, output, terminal: true, historySize: 500 });
    const finished = new Promise<number>((resolve) => {
      this.#finish = resolve;
    });
    const onAbort = (): void => this.#finish(0);
    signal.addEventListener('abort', onAbort);
    if (signal.aborted) onAbort();
    terminal.on('line', (line) => {
      this.#lines.push(line);
      void this.#work(terminal);
    });
    terminal.on('SIGINT', () => this.#interrupt(terminal));
    terminal.on('close', () => {
      if (this.#isBusy) return;
      // What comes next in this terminal begins on a line of its own.
      output.write('\n');
      this.#finish(0);
    });
    note(GREETING);
    this.#ask(terminal);
    try {
      return await finished;
    } finally {
      signal.removeEventListener('abort', onAbort);
      terminal.close();
      process.stdin.pause();
    }
  }

  async #work(terminal: Interface): Promise<void> {
    if (this.#isBusy) return;
    this.#isBusy = true;
    for (let line = this.#lines.shift(); line !== undefined; line = this.#lines.shift()) {
      if (!(await this.#take(line))) return;
    }
    this.#isBusy = false;
    // Ctrl-D came meanwhile.
    if ((terminal as { closed?: boolean }).closed) this.#finish(0);
    else this.#ask(terminal);
  }

  /** False when that was the end. */
  async #take(line: string): Promise<boolean> {
    const { shell, note } = this.#options;
    try {
      for (const { text } of this.#statements.add(line)) {
        const became = await shell.run({ text, line: 0 });
        if (became === 'over' || became === 'quit') {
          this.#finish(became === 'over' ? 1 : 0);
          return false;
        }
      }
    } catch (error) {
      this.#statements.clear();
      note(error instanceof Error ? error.message : String(error));
    }
    return true;
  }

  /** Ctrl-C: ends what runs and what was typed ahead of its end, or forgets what is being typed. Never the shell. */
  #interrupt(terminal: Interface): void {
    this.#lines.length = 0;
    if (this.#isBusy) {
      this.#options.executor.cancel();
      return;
    }
    this.#statements.clear();
    // Empties the line that is being typed: Ctrl-E, Ctrl-U.
    terminal.write(null, { ctrl: true, name: 'e' });
    terminal.write(null, { ctrl: true, name: 'u' });
    this.#options.note('^C');
    this.#ask(terminal);
  }

  #ask(terminal: Interface): void {
    const { prompt, executor } = this.#options;
    terminal.setPrompt(`${prompt}${this.#statements.isPending ? '-' : MARK[executor.transaction]}> `);
    terminal.prompt();
  }
}
