// Works on keys done in the foreground, by real jobs: the one who waits for them sees them go on. A worker that runs
// elsewhere takes its share.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { DatabaseAccess } from '../platform/access.ts';
import type { Say } from '../platform/connection.ts';
import { CONCURRENCY, startRun } from '../worker/runner.ts';
import { scheduledTasks } from '../worker/schedule.ts';
import { withTries } from '../worker/tries.ts';
import type { ApplicationKeys } from './application-keys.ts';
import { EnvelopeSealer } from './envelope.ts';
import { unfinished, type Work } from './tree.ts';

const TASK = 'keyring__work';
const ROUND = 250;

export interface Hand {
  readonly access: DatabaseAccess;
  readonly keys: ApplicationKeys;
  /** As safetypin_owner. */
  readonly owner: pg.Client;
  /** Told what there is to do, several times a second. */
  readonly onProgress: (works: readonly Work[]) => void;
  readonly say: Say;
}

/** Works until nothing is left to do. */
export async function workByHand({ access, keys, owner, onProgress, say }: Hand): Promise<void> {
  const pool = new pg.Pool({ ...access.jobs, max: CONCURRENCY + 3, application_name: 'safetypin keys' });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  const { [TASK]: task } = scheduledTasks({ pool, envelopes: new EnvelopeSealer(pool, keys) });
  if (task === undefined) throw new Error(`no task ${TASK}`);
  const run = await startRun(access.jobs, pool, withTries({ [TASK]: task }, pool), say, []);
  try {
    for (let works = await unfinished(owner); works.length > 0; works = await unfinished(owner)) {
      onProgress(works);
      // Beside the clock's own, under a key of our own: one at a time.
      await owner.query(
        `select graphile_worker.add_job($1, job_key => $2) where not exists (
           select from graphile_worker.jobs j where j.task_identifier = $1 and j.locked_at is not null)`,
        [TASK, `${TASK} by hand`],
      );
      await sleep(ROUND);
    }
  } finally {
    await run.stop();
    await pool.end();
  }
}
