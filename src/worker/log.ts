import { Logger } from 'graphile-worker';
import type { Say } from '../platform/connection.ts';

const QUIET = 10_000;

/**
 * graphile-worker's log without its chatter. A failed job is told by FailureLog, whose lines hold no stack and no text
 * of others; what is left are faults of the worker itself.
 */
export function workerLogger(say: Say): Logger {
  return new Logger(() => (level, message, meta) => {
    if (level !== 'error' && level !== 'warning') return;
    if (meta?.failure) return;
    say(`worker: ${message.split('\n')[0]}`);
  });
}

/** One line for a failed job, and one line in ten seconds for a task that goes on failing. */
export class FailureLog {
  readonly #say: Say;
  readonly #tasks = new Map<string, { told: number; since: number }>();

  constructor(say: Say) {
    this.#say = say;
  }

  failed(task: string, attempt: number, attempts: number, message: string): void {
    const now = Date.now();
    const seen = this.#tasks.get(task);
    if (seen && now - seen.told < QUIET && attempt < attempts) {
      seen.since += 1;
      return;
    }
    const others = seen && seen.since > 0 ? `, and ${seen.since} more of this task since` : '';
    const last = attempt >= attempts ? '; it is given up' : '';
    this.#say(`job ${task} failed (try ${attempt} of ${attempts})${last}: ${message}${others}`);
    this.#tasks.set(task, { told: now, since: 0 });
  }
}
