import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from './startup-error.ts';

type Close = () => Promise<void> | void;

/** npm, the bootstrap and the terminal can each pass on the same Ctrl-C; a person's second one comes later. */
const SAME_SIGNAL_MS = 500;
const STEP_LIMIT_MS = 10_000;
const STOP_LIMIT_MS = 40_000;

/** Not the error's other properties: an error of PostgreSQL's carries values of rows in them. */
function stackOf(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

/** Owns everything a program opens, and closes it in reverse order in whatever way the program ends. */
export class Lifetime {
  readonly #controller = new AbortController();
  readonly #closers: Close[] = [];
  readonly #say: (line: string) => void;
  #starting: Promise<void> = Promise.resolve();
  #endedAt: number | undefined;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  /** Aborted when the program is to end. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Ends on Ctrl-C and its kin with exit code 0, and on a defect with 1. */
  watch(): void {
    for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, () => this.#told(name));
    process.on('uncaughtException', (error) => this.fail(error));
    process.on('unhandledRejection', (error) => this.fail(error));
    // Whoever read our output is gone; that is no reason to fall over while stopping.
    for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});
  }

  /** Runs a start. If the program is told to end meanwhile, the start comes to its next step first. */
  async run(start: (lifetime: Lifetime) => Promise<void>): Promise<void> {
    this.#starting = start(this);
    try {
      await this.#starting;
    } catch (error) {
      this.fail(error);
    }
  }

  /** Takes what was opened. If the program is ending already, the start ends here. */
  own(close: Close): void {
    this.#closers.push(close);
    this.signal.throwIfAborted();
  }

  /** Says why, closes everything, and exits 1. A second reason, while it ends, adds nothing. */
  fail(error: unknown): void {
    if (this.#endedAt !== undefined) return;
    if (error instanceof StartupError) for (const line of error.message.split('\n')) this.#complain(line);
    else this.#complain(`unexpected error: ${stackOf(error)}`);
    this.end(1);
  }

  /** Closes everything and exits. */
  end(code: number): void {
    if (this.#endedAt !== undefined) return;
    this.#endedAt = Date.now();
    this.#controller.abort(new StartupError('told to stop'));
    setTimeout(() => {
      this.#complain('stopping takes too long, forced');
      process.exit(1);
    }, STOP_LIMIT_MS).unref();
    void this.#close(code);
  }

  async #close(code: number): Promise<void> {
    let result = code;
    // What is half open has an owner only when its step is done.
    await Promise.race([this.#starting.catch(() => {}), sleep(STEP_LIMIT_MS, undefined, { ref: false })]);
    for (let close = this.#closers.pop(); close; close = this.#closers.pop()) {
      try {
        await close();
      } catch (error) {
        this.#complain(`while stopping: ${stackOf(error)}`);
        result = 1;
      }
    }
    if (result === 0) this.#say('Stopped.');
    process.exit(result);
  }

  #told(name: NodeJS.Signals): void {
    if (this.#endedAt === undefined) {
      this.#say(name === 'SIGINT' ? 'Stopping; Ctrl-C again forces it.' : `Stopping (${name}).`);
      this.end(0);
    } else if (Date.now() - this.#endedAt > SAME_SIGNAL_MS) {
      this.#complain('forced');
      process.exit(130);
    }
  }

  #complain(line: string): void {
    process.stderr.write(`safetypin: ${line}\n`);
  }
}
