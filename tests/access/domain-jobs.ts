// What the worker does about domains, one step at a time: in the context of a job, with any answer of DNS.
import type pg from 'pg';
import type { Person } from '../support/actors.ts';
import type { TestDatabase } from '../support/database.ts';

export interface Added {
  outcome: string;
  reasons: string[];
  id: string;
  challenge_name: string;
  challenge_value: string;
}

export const NOTE = 'select access.note_domain_check($1, $2, $3, $4) as answer';

export class DomainJobs {
  readonly #admin: pg.Client;
  readonly #jobs: pg.Pool;

  constructor(db: TestDatabase, admin: pg.Client) {
    this.#admin = admin;
    this.#jobs = db.pool('jobs', { max: 4 });
  }

  /** In the context of a job: a new one of the clock, or the one that was asked for. */
  async as<T>(task: string, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
    const { rows } = await this.#admin.query<{ id: string }>(
      task === 'access__check_domains'
        ? 'select id from graphile_worker.add_job($1)'
        : 'select j.id from graphile_worker._private_jobs j join graphile_worker._private_tasks t on t.id = j.task_id where t.identifier = $1',
      [task],
    );
    await this.#admin.query(
      "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1",
      [rows[0]?.id],
    );
    const client = await this.#jobs.connect();
    try {
      await client.query('begin');
      await client.query("select set_config('role', platform.open_job($1, null), true)", [rows[0]?.id]);
      const result = await work(client);
      await client.query('commit');
      return result;
    } catch (error) {
      await client.query('rollback');
      throw error;
    } finally {
      client.release();
    }
  }

  /** What the worker does when DNS said this: texts, none, or (null) nothing at all. */
  note(who: Person, id: string, records: string[] | null): Promise<string | undefined> {
    return this.as(
      'access__check_domains',
      async (client) =>
        (await client.query<{ answer: string }>(NOTE, [who.organization, id, records !== null, records ?? []])).rows[0]
          ?.answer,
    );
  }
}
