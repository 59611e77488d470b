// One connection for as long as a worker lives, whose name says which pool it is. The server closes it when the process
// dies, and then the others know that the jobs it had locked are free again: after seconds instead of four hours.
import pg from 'pg';

const ROUND = 5_000;
const RETRY = 1_000;

/** How long a job that ended here is still known: graphile-worker tells the database of it without waiting. */
const REMEMBERED = 60_000;

export class Presence {
  readonly #config: pg.ClientConfig;
  readonly #known = new Map<string, number>();
  #client: pg.Client | undefined;
  #name = 'starting';
  #timer: NodeJS.Timeout | undefined;
  #answered = 0;
  #closed = false;

  constructor(config: pg.ClientConfig) {
    this.#config = config;
  }

  /**
   * Connects; until `named` is called, nobody else judges which workers are dead. Jobs of dead ones are freed first: the
   * clock takes a locked job for one that runs, gives it up and adds another beside it.
   */
  async start(): Promise<void> {
    await this.#connect();
    await this.#client?.query('select graphile_worker.safetypin_rescue()');
  }

  /** Says which pool this worker is, and looks after the jobs of dead ones from now on. */
  async named(pool: string): Promise<void> {
    this.#name = pool;
    await this.#say();
    await this.#round();
  }

  /** When the database last answered; milliseconds of the epoch. */
  get answered(): number {
    return this.#answered;
  }

  /** A job runs here. */
  began(job: string): void {
    this.#known.set(job, Number.POSITIVE_INFINITY);
  }

  /** It does not run any more. */
  over(job: string): void {
    this.#known.set(job, Date.now() + REMEMBERED);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#client?.end().catch(() => {});
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({ ...this.#config, application_name: `safetypin worker ${this.#name}` });
    client.on('error', () => this.#lost(client));
    client.on('end', () => this.#lost(client));
    await client.connect();
    this.#client = client;
  }

  async #say(): Promise<void> {
    await this.#client?.query("select set_config('application_name', $1, false)", [`safetypin worker ${this.#name}`]);
  }

  #lost(client: pg.Client): void {
    if (this.#client !== client) return;
    this.#client = undefined;
    this.#again(RETRY);
  }

  #again(delay: number): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => void this.#round(), delay);
  }

  async #round(): Promise<void> {
    try {
      if (!this.#client) await this.#connect();
      await this.#client?.query('select graphile_worker.safetypin_rescue()');
      for (const [job, until] of this.#known) if (until < Date.now()) this.#known.delete(job);
      const known = [...this.#known.keys()];
      await this.#client?.query('select graphile_worker.safetypin_release($1, $2)', [this.#name, known]);
      this.#answered = Date.now();
      this.#again(ROUND);
    } catch {
      // The database is away; the worker itself says so.
      this.#again(RETRY);
    }
  }
}
