import type { Server, ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

export interface ShutdownOptions {
  /** Between saying that the server is not ready any more and taking no more connections, for balancers to notice. */
  readonly delayMilliseconds: number;
  /** How long requests under way may take to end; then they are cut off. */
  readonly closeMilliseconds: number;
}

/** Ends a server so that whoever asked something gets the answer, and nobody's next request is lost on the way. */
export class Shutdown {
  readonly #options: ShutdownOptions;
  readonly #responses = new Set<ServerResponse>();
  readonly #underWay = new Set<Promise<void>>();
  #isStopping = false;

  constructor(options: ShutdownOptions) {
    this.#options = options;
  }

  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Notes an answer that is still to come. */
  began(response: ServerResponse): void {
    if (this.#isStopping) response.shouldKeepAlive = false;
    this.#responses.add(response);
    response.once('close', () => this.#responses.delete(response));
  }

  /** Notes work that is done whether its client still listens or not. */
  working(work: Promise<void>): void {
    const noted = work.finally(() => this.#underWay.delete(noted));
    this.#underWay.add(noted);
  }

  async stop(server: Server): Promise<void> {
    const { delayMilliseconds, closeMilliseconds } = this.#options;
    this.#isStopping = true;
    // Clients that keep their connection are told with this answer that it is the last.
    for (const response of this.#responses) if (!response.headersSent) response.shouldKeepAlive = false;
    if (delayMilliseconds > 0) await sleep(delayMilliseconds);
    const closed = new Promise<void>((resolve) => {
      server.close(() => resolve());
    });
    // A connection that was idle, or has just got its answer, would otherwise be kept for another five seconds.
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    const timer = setTimeout(() => server.closeAllConnections(), closeMilliseconds);
    await closed;
    await Promise.race([Promise.allSettled(this.#underWay), sleep(closeMilliseconds, undefined, { ref: false })]);
    clearInterval(idle);
    clearTimeout(timer);
  }
}
