// Works done as the worker does them: one batch in one job that is really there and locked.
import type pg from 'pg';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import type { Application } from '../support/actors.ts';

export interface Work {
  readonly id: string;
  readonly kind: string;
  readonly column_id: string | null;
  readonly done: string;
  readonly total: string | null;
  readonly percent: number | null;
  readonly finished_at: Date | null;
  readonly problem: string | null;
}

/** Does batches of works on a connection of its own, as an application's worker would. */
export class WorkHand {
  readonly admin: pg.Client;
  readonly #jobs: pg.Client;
  readonly #envelopes: EnvelopeSealer;

  private constructor(admin: pg.Client, jobs: pg.Client, envelopes: EnvelopeSealer) {
    this.admin = admin;
    this.#jobs = jobs;
    this.#envelopes = envelopes;
  }

  static async of(app: Application): Promise<WorkHand> {
    const envelopes = new EnvelopeSealer(app.db.pool('jobs', { max: 1 }), app.keys);
    return new WorkHand(await app.db.connect('admin'), await app.db.connect('jobs'), envelopes);
  }

  /** One batch; answers what the worker is told. `task` is what the job is of, `between` runs before the commit. */
  async batch(size = 5_000, task = 'keyring__work', between: () => Promise<void> = async () => {}): Promise<number> {
    const { rows } = await this.admin.query('select id from graphile_worker.add_job($1)', [task]);
    const id = rows[0].id;
    await this.admin.query(
      "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1",
      [id],
    );
    const envelope = await this.#envelopes.seal(null);
    await this.#jobs.query('begin');
    try {
      await this.#jobs.query("select set_config('role', platform.open_job($1, $2), true)", [id, envelope]);
      const answer = await this.#jobs.query<{ count: number }>('select keyring.work($1) as count', [size]);
      await between();
      await this.#jobs.query('commit');
      return answer.rows[0]?.count ?? 0;
    } catch (error) {
      await this.#jobs.query('rollback');
      if ((error as { code?: string }).code === 'KEYNO') this.#envelopes.forget(envelope);
      throw error;
    } finally {
      await this.admin.query('delete from graphile_worker._private_jobs where id = $1', [id]);
    }
  }

  /** Batches until nothing is left; answers how many there were. */
  async all(size = 5_000): Promise<number> {
    for (let batches = 0; batches < 1_000; batches += 1) {
      if ((await this.batch(size)) === 0) return batches;
    }
    throw new Error('a work without end');
  }

  /** Batches until every work is finished, without the pauses of one that waits for somebody. */
  async finish(size = 5_000): Promise<void> {
    for (let round = 0; round < 200; round += 1) {
      await this.all(size);
      const left = (await this.works()).filter(({ finished_at }) => finished_at === null);
      if (left.length === 0) return;
      await this.admin.query('update keyring_private.works set run_at = now()');
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    throw new Error(`works without end: ${JSON.stringify(await this.works())}`);
  }

  /** The works as their owner sees them. */
  async works(): Promise<Work[]> {
    await this.admin.query('set role safetypin_owner');
    try {
      return (await this.admin.query<Work>('select * from keyring.works()')).rows;
    } finally {
      await this.admin.query('reset role');
    }
  }
}
