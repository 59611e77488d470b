// What was read of sensitive columns: the events, the counter, and the comparison of the two as the worker does it.
import type pg from 'pg';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import type { Application } from '../support/actors.ts';

export const CLINIC = `
  create schema clinic;
  create table clinic.patients (
    organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, phone text,
    primary key (organization_id, id));
  select access.protect('clinic.patients');
  select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', class => 'sensitive', permission => 'row.read', searchable => true);
  select keyring.seal_column('clinic.patients', 'phone', subject => 'id', permission => 'row.read');`;

/** Patients p01 to p20 of whoever asks. */
export const PATIENTS = `insert into clinic.patients (name, ssn, phone)
  select 'p' || to_char(n, 'fm00'), '078-05-11' || to_char(n, 'fm00'), '555-01' || to_char(n, 'fm00') from generate_series(1, 20) n`;

export interface Event {
  readonly action: string;
  readonly row_id: string | null;
  readonly details: Record<string, unknown>;
}

/** A reading that is missing, as an alert tells of it. */
export interface Gap {
  readonly first: number;
  readonly last: number;
  readonly after: string | null;
  readonly before: string;
}

/** Looks on as an administrator, and compares as the worker does. */
export class Openings {
  readonly admin: pg.Client;
  readonly #jobs: pg.Client;
  readonly #envelopes: EnvelopeSealer;
  readonly #seen = new Set<string>();

  private constructor(admin: pg.Client, jobs: pg.Client, envelopes: EnvelopeSealer) {
    this.admin = admin;
    this.#jobs = jobs;
    this.#envelopes = envelopes;
  }

  static async of(app: Application): Promise<Openings> {
    const envelopes = new EnvelopeSealer(app.db.pool('jobs', { max: 1 }), app.keys);
    return new Openings(await app.db.connect('admin'), await app.db.connect('jobs'), envelopes);
  }

  /** Events of readings that were not told yet, oldest first. */
  async events(): Promise<Event[]> {
    // By what was seen, not by order: ids of one millisecond have none.
    const { rows } = await this.admin.query<Event & { id: string }>(
      "select id, action, row_id, details from audit.events where action ~ '^value\\.' and occurred_at > now() - interval '5 minutes' order by id",
    );
    const events = rows.filter(({ id }) => !this.#seen.has(id));
    for (const { id } of events) this.#seen.add(id);
    return events.map(({ id, ...event }) => event);
  }

  /** The numbers that were taken so far. */
  async counter(): Promise<number> {
    const { rows } = await this.admin.query(
      'select case when is_called then last_value else 0 end::int as count from keyring_private.opening_numbers',
    );
    return rows[0].count;
  }

  /** How many numbers and events there were during some work; errors of the work are its own matter. */
  async during(work: () => Promise<unknown>): Promise<{ numbers: number; events: number }> {
    await this.events();
    const before = await this.counter();
    await work();
    return { numbers: (await this.counter()) - before, events: (await this.events()).length };
  }

  /** One run of the comparison, as the worker does it: batches until one is empty; answers how many it judged. */
  async compare(batch = 100_000, task = 'keyring__compare_openings'): Promise<number> {
    let judged = 0;
    for (;;) {
      const count = await this.#batch(batch, task);
      if (count === 0) return judged;
      judged += count;
    }
  }

  /** What a run of the comparison raised: how many readings are missing, by reason. */
  async alerts(): Promise<Event[]> {
    await this.events();
    await this.compare();
    return (await this.events()).filter(({ action }) => /mismatch|skip/.test(action));
  }

  async #batch(size: number, task: string): Promise<number> {
    // Later, so that no worker takes it before it is locked here.
    const { rows } = await this.admin.query(
      "select id from graphile_worker.add_job($1, run_at => now() + interval '1 hour')",
      [task],
    );
    const id = rows[0].id;
    await this.admin.query(
      "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1",
      [id],
    );
    await this.#jobs.query('begin');
    try {
      await this.#jobs.query("select set_config('role', platform.open_job($1, $2), true)", [
        id,
        await this.#envelopes.seal(null),
      ]);
      const answer = await this.#jobs.query<{ count: number }>('select keyring.compare_openings($1) as count', [size]);
      await this.#jobs.query('commit');
      return answer.rows[0]?.count ?? 0;
    } catch (error) {
      await this.#jobs.query('rollback');
      throw error;
    } finally {
      await this.admin.query('delete from graphile_worker._private_jobs where id = $1', [id]);
    }
  }
}
