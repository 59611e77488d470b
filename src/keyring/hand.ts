// Works on keys done in the foreground, by real jobs: the one who waits for them sees them go on. A worker that runs
// elsewhere takes its share.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { DatabaseAccess } from '../platform/access.ts';
import type { Say } from '../platform/connection.ts';
import { StartupError } from '../platform/startup-error.ts';
import { CONCURRENCY, startRun } from '../worker/runner.ts';
import { scheduledTasks } from '../worker/schedule.ts';
import { withTries } from '../worker/tries.ts';
import type { ApplicationKeys } from './application-keys.ts';
import { EnvelopeSealer } from './envelope.ts';
import { unfinished, type Work } from './tree.ts';

const TASK = 'keyring__work';
const ROUND = 250;
/** A work that fails is tried again every half minute. */
const PATIENCE = 100_000;

export interface Hand {
  readonly access: DatabaseAccess;
  readonly keys: ApplicationKeys;
  /** As safetypin_owner. */
  readonly owner: pg.Client;
  /** Told what there is to do, several times a second. */
  readonly onProgress: (works: readonly Work[]) => void;
  readonly say: Say;
}

/** Works until nothing is left to do. Throws a StartupError when nothing but failures has come for a while. */
export async function workByHand({ access, keys, owner, onProgress, say }: Hand): Promise<void> {
  const pool = new pg.Pool({ ...access.jobs, max: CONCURRENCY + 3, application_name: 'safetypin keys' });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  const { [TASK]: task } = scheduledTasks({ pool, envelopes: new EnvelopeSealer(pool, keys) });
  if (task === undefined) throw new Error(`no task ${TASK}`);
  const run = await startRun(access.jobs, pool, withTries({ [TASK]: task }, pool), say, []);
  let went = performance.now();
  try {
    for (let works = await unfinished(owner); works.length > 0; works = await unfinished(owner)) {
      onProgress(works);
      if (works.some(({ problem }) => problem === null)) went = performance.now();
      if (performance.now() - went > PATIENCE) {
        const stuck = works.map(
          ({ kind, column_name, problem }) => `${[kind, column_name].filter(Boolean).join(' ')}: ${problem}`,
        );
        throw new StartupError(
          `it does not go on (${stuck.join('; ')}). A worker tries it again; \`safetypin keys\` shows it`,
        );
      }
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
