// What only the database knows, asked for now and then: whoever reads the metrics gets what was known last, also while
// the database is gone.
import pg from 'pg';
import type { Counts } from './series.ts';

/** One line of platform.queue_state(). */
export interface QueueRow {
  readonly task: string;
  readonly state: string;
  readonly jobs: string;
  readonly oldest_seconds: number;
}

/** One count of audit.count_events(). */
export interface EventCount {
  readonly action: string;
  readonly because: string | null;
  readonly count: number;
}

export interface FiguresOptions {
  /** The API's own connections. */
  readonly pool: pg.Pool;
  /** The login that may count events; the API's may not. */
  readonly auditor: pg.ClientConfig;
  readonly onEvents: (counts: readonly EventCount[]) => void;
}

const REMEMBER_MILLISECONDS = 10_000;
/** Whoever reads waits no longer than this; what comes later is there for the next reader. */
const PATIENCE_MILLISECONDS = 1000;
const STATEMENT_MILLISECONDS = 5000;

export class Figures {
  readonly #options: FiguresOptions;
  readonly #auditor: pg.Pool;
  #asked = Number.NEGATIVE_INFINITY;
  #asking: Promise<void> = Promise.resolve();
  #answered: number | undefined;
  #since: string | null = null;
  /** The queue as it was seen last. */
  queue: readonly QueueRow[] = [];
  /** Whether the last question was answered; undefined before the first. */
  isUp: boolean | undefined;

  constructor(options: FiguresOptions) {
    this.#options = options;
    this.#auditor = new pg.Pool({
      ...options.auditor,
      max: 1,
      connectionTimeoutMillis: 3000,
      idleTimeoutMillis: 30_000,
      application_name: 'safetypin-metrics',
    });
    this.#auditor.on('error', () => {});
  }

  /** Seconds since the figures were taken; undefined before the first. */
  get age(): number | undefined {
    return this.#answered === undefined ? undefined : (performance.now() - this.#answered) / 1000;
  }

  /** Asks again if that was long ago, and waits for it a moment. */
  async refresh(): Promise<void> {
    const now = performance.now();
    if (now - this.#asked >= REMEMBER_MILLISECONDS) {
      this.#asked = now;
      this.#asking = this.#ask();
    }
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, PATIENCE_MILLISECONDS);
    });
    await Promise.race([this.#asking, late]);
    clearTimeout(timer);
  }

  async close(): Promise<void> {
    await this.#asking;
    await this.#auditor.end();
  }

  async #ask(): Promise<void> {
    // That the database is gone is a figure too; requests say why. Either is known without the other.
    const [counted, seen] = await Promise.allSettled([this.#countEvents(), this.#lookAtQueue()]);
    this.isUp = seen.status === 'fulfilled';
    if (this.isUp && counted.status === 'fulfilled') this.#answered = performance.now();
  }

  async #lookAtQueue(): Promise<void> {
    const { rows } = await this.#options.pool.query<QueueRow>('select * from platform.queue_state()');
    this.queue = rows;
  }

  async #countEvents(): Promise<void> {
    const client = await this.#auditor.connect();
    let broken: Error | undefined;
    try {
      await client.query('begin read only');
      await client.query(`set local statement_timeout = ${STATEMENT_MILLISECONDS}`);
      const { rows } = await client.query<{ until: string; counts: EventCount[] }>(
        'select until, counts from audit.count_events($1)',
        [this.#since],
      );
      await client.query('commit');
      const row = rows[0];
      if (row === undefined) return;
      this.#since = row.until;
      this.#options.onEvents(row.counts);
    } catch (error) {
      broken = error instanceof Error ? error : new Error('failed');
      throw error;
    } finally {
      client.release(broken);
    }
  }
}

/** Series that events are counted in, under names that people look for. */
export interface EventSeries {
  readonly events: Counts;
  readonly signIns: Counts;
  readonly registrations: Counts;
  readonly verifications: Counts;
  readonly resets: Counts;
  readonly locks: Counts;
}

/** Which series an action also counts in, and as what. */
const NAMED: Readonly<Record<string, readonly [series: keyof EventSeries, ...values: string[]]>> = {
  'login.lock': ['locks'],
  'registration.request': ['registrations', 'requested'],
  'registration.complete': ['registrations', 'completed'],
  'verification.request': ['verifications', 'requested'],
  'email.verify': ['verifications', 'verified'],
  'email.refuse': ['verifications', 'refused'],
  'password_reset.request': ['resets', 'requested'],
  'password_reset.success': ['resets', 'changed'],
  'password_reset.refuse': ['resets', 'refused'],
};

/** Why SQL refuses a sign-in: to the trail, never to a client. */
export const REFUSAL_REASONS = [
  'locked',
  'wrong_password',
  'unknown',
  'unverified',
  'suspended',
  'no_organization',
  'no_attempt',
] as const;

/** Every series that can be told ahead begins at nothing: a rate sees only what rises. */
export function beginAtNothing(series: EventSeries): void {
  for (const [name, ...values] of Object.values(NAMED)) series[name].add(0, ...values);
  series.events.add(0, 'value.mismatch');
  series.signIns.add(0, 'signed_in', 'none');
  for (const reason of REFUSAL_REASONS) series.signIns.add(0, 'refused', reason);
}

/** Counts what the trail tells; signing in by its reason. */
export function countEvents(series: EventSeries, counts: readonly EventCount[]): void {
  for (const { action, because, count } of counts) {
    series.events.add(count, action);
    const named = NAMED[action];
    if (named !== undefined) series[named[0]].add(count, ...named.slice(1));
    if (action === 'login.success') series.signIns.add(count, 'signed_in', 'none');
    if (action === 'login.failure') series.signIns.add(count, 'refused', because ?? 'none');
  }
}
