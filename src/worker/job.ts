import type { JobHelpers } from 'graphile-worker';
import type pg from 'pg';
import type { EnvelopeSealer } from '../keyring/envelope.ts';
import { sqlstateOf } from '../platform/errors.ts';
import { failureOf } from './failure.ts';

/** What a task works with. */
export interface JobTools {
  readonly pool: pg.Pool;
  readonly envelopes: EnvelopeSealer;
}

const KEY_UNAVAILABLE = 'KEYNO';

/**
 * One transaction with the context of the job: its task's permissions and nothing more, for as long as the job is
 * locked. `doing` says in a failure what was being done.
 */
export async function inJob<T>(
  { pool, envelopes }: JobTools,
  helpers: JobHelpers,
  doing: string,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  let envelope: Buffer | undefined;
  try {
    envelope = await envelopes.seal(null);
    const client = await pool.connect();
    try {
      await open(client, helpers, envelope).catch(async (error: unknown) => {
        // Its transport key is gone or was taken back, and nothing was done yet: another one does.
        if (sqlstateOf(error) !== KEY_UNAVAILABLE || envelope === undefined) throw error;
        await client.query('rollback');
        envelopes.forget(envelope);
        await envelopes.renew(client);
        envelope = await envelopes.seal(null);
        await open(client, helpers, envelope);
      });
      const result = await work(client);
      await client.query('commit');
      return result;
    } catch (error) {
      await client.query('rollback').catch(() => {});
      throw error;
    } finally {
      client.release();
    }
  } catch (error) {
    // The half may have been replaced, or the transport key lost: the next try asks for a new one.
    if (envelope !== undefined && sqlstateOf(error) === KEY_UNAVAILABLE) envelopes.forget(envelope);
    throw failureOf(error, doing);
  }
}

async function open(client: pg.PoolClient, helpers: JobHelpers, envelope: Buffer): Promise<void> {
  await client.query('begin');
  await client.query("select set_config('role', platform.open_job($1, $2), true)", [helpers.job.id, envelope]);
}
