import { isIP } from 'node:net';
import type { Turn } from '../graphql/adaptor.ts';
import type { Gone } from '../graphql/transaction.ts';
import { AppError } from '../platform/app-error.ts';
import { SQLSTATE } from '../platform/errors.ts';

export interface TurnsOptions {
  /** Requests that may be at the database at once: as many as the pool has connections. */
  readonly places: number;
  /** How many of these one asker may have while others could come. Defaults to all but a fifth. */
  readonly share?: number;
  /** Requests of one asker that may wait. Defaults to 200. */
  readonly waiting?: number;
  /** Requests that may wait altogether. Defaults to ten times as many. */
  readonly waitingInAll?: number;
  /** How long one waits. Defaults to 5 seconds, as long as for a connection. */
  readonly milliseconds?: number;
  /** Told that somebody was turned away. */
  readonly onOverload?: () => void;
}

interface Waiter {
  readonly go: () => void;
  isOver: boolean;
}

/** API keys that were found good. What is not known here is anybody's word. */
const PROVED = 10_000;

/**
 * Whoever asks much waits for himself: requests take turns by organization before they get a connection, however many each
 * has sent, and no organization has all places. The turn gives no right and says nothing about anybody: SQL alone knows
 * who may what. Anonymous requests take the turn of their network.
 */
export class Turns {
  readonly #places: number;
  readonly #share: number;
  readonly #waiting: number;
  readonly #waitingInAll: number;
  readonly #milliseconds: number;
  readonly #onOverload: () => void;
  /** Who waits, whose turn is next first. */
  readonly #queues = new Map<string, Waiter[]>();
  readonly #running = new Map<string, number>();
  readonly #proved = new Set<string>();
  #taken = 0;
  #all = 0;

  constructor(options: TurnsOptions) {
    this.#places = options.places;
    this.#share = options.share ?? Math.max(1, options.places - Math.ceil(options.places / 5));
    this.#waiting = options.waiting ?? 200;
    this.#waitingInAll = options.waitingInAll ?? this.#waiting * 10;
    this.#milliseconds = options.milliseconds ?? 5000;
    this.#onOverload = options.onOverload ?? (() => {});
  }

  /** Whose turn a request takes. A key has one of its own once it was found good, or made-up keys would be many askers. */
  nameOf({ name, once }: Turn): string {
    return once !== undefined && this.#proved.has(once) ? once : name;
  }

  /** SQL took the credential of this request. */
  proved({ once }: Turn): void {
    if (once === undefined || this.#proved.has(once)) return;
    if (this.#proved.size >= PROVED) this.#proved.clear();
    this.#proved.add(once);
  }

  /** Takes a place, at once (undefined) or when its turn comes. Each place that was taken must be left. */
  enter(name: string, signal?: Gone): Promise<void> | undefined {
    if (this.#taken < this.#places && this.#runningOf(name) < this.#share && !this.#queues.has(name)) {
      this.#run(name);
      return undefined;
    }
    const queue = this.#queues.get(name) ?? [];
    if (queue.length >= this.#waiting || this.#all >= this.#waitingInAll) {
      this.#onOverload();
      throw new AppError(SQLSTATE.busy, 'too many requests wait for their turn');
    }
    return this.#wait(name, queue, signal);
  }

  leave(name: string): void {
    const running = this.#runningOf(name) - 1;
    if (running > 0) this.#running.set(name, running);
    else this.#running.delete(name);
    this.#taken -= 1;
    this.#next();
  }

  #runningOf(name: string): number {
    return this.#running.get(name) ?? 0;
  }

  #run(name: string): void {
    this.#taken += 1;
    this.#running.set(name, this.#runningOf(name) + 1);
  }

  #wait(name: string, queue: Waiter[], signal: Gone | undefined): Promise<void> {
    this.#queues.set(name, queue);
    this.#all += 1;
    return new Promise((resolve, reject) => {
      const give = (error: AppError): void => {
        if (waiter.isOver) return;
        end();
        const at = queue.indexOf(waiter);
        queue.splice(at, 1);
        if (queue.length === 0) this.#queues.delete(name);
        reject(error);
      };
      const end = (): void => {
        waiter.isOver = true;
        this.#all -= 1;
        clearTimeout(timer);
        signal?.removeEventListener('abort', gone);
      };
      const gone = (): void => give(new AppError(SQLSTATE.canceled, 'the client has gone'));
      const timer = setTimeout(
        () => give(new AppError(SQLSTATE.overloaded, 'the turn did not come')),
        this.#milliseconds,
      );
      const waiter: Waiter = {
        isOver: false,
        go() {
          end();
          resolve();
        },
      };
      queue.push(waiter);
      signal?.addEventListener('abort', gone);
    });
  }

  #turn(): string | undefined {
    for (const name of this.#queues.keys()) if (this.#runningOf(name) < this.#share) return name;
    return undefined;
  }

  /** Gives a free place to the next in turn who has not his share yet. */
  #next(): void {
    while (this.#taken < this.#places) {
      const name = this.#turn();
      const queue = name === undefined ? undefined : this.#queues.get(name);
      const waiter = queue?.shift();
      if (name === undefined || queue === undefined) return;
      this.#queues.delete(name);
      if (queue.length > 0) this.#queues.set(name, queue);
      this.#run(name);
      waiter?.go();
    }
  }
}

/** The network of an address: all of an IPv4 address, the first half of an IPv6 one, which one customer has alone. */
export function networkOf(address: string | null): string {
  if (address === null || isIP(address) !== 6) return `address ${address}`;
  const [head = '', tail] = address.split('::');
  const [left, right] = [head, tail ?? ''].map((part) => (part === '' ? [] : part.split(':')));
  const middle = tail === undefined ? [] : Array(8 - (left?.length ?? 0) - (right?.length ?? 0)).fill('0');
  return `address ${[...(left ?? []), ...middle, ...(right ?? [])].slice(0, 4).join(':')}`;
}
