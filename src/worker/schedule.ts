// What runs by the clock: a task that calls one SQL function, with a context for nobody and no organization.
import { type JobHelpers, parseCronItems, type Task } from 'graphile-worker';
import { inJob, type JobTools } from './job.ts';

interface Scheduled {
  /** Minute, hour, day, month, weekday, in UTC. */
  readonly at: string;
  /** How far back a missed run is made up for; all that were missed together are one run. Milliseconds. */
  readonly missed: number;
  /** With $1 it does so many rows at a time and goes on until it answers 0. */
  readonly sql: string;
  /** Rows of each kind in one transaction, which holds their locks for some tenths of a second. Defaults to BATCH. */
  readonly batch?: number;
}

const HOUR = 3_600_000;

const SCHEDULE: Readonly<Record<string, Scheduled>> = {
  audit__ensure_partitions: { at: '5 0 * * *', missed: 24 * HOUR, sql: 'select audit.ensure_partitions() as count' },
  platform__report_failures: {
    at: '*/5 * * * *',
    missed: 0,
    sql: 'select api_steps.report_failed_jobs() as count',
  },
  identity__clean_up: { at: '17 * * * *', missed: 0, sql: 'select identity.clean_up($1) as count' },
  access__close_organizations: {
    at: '12 * * * *',
    missed: 0,
    sql: 'select access.close_organizations($1) as count',
    batch: 100,
  },
  access__clean_up: { at: '22 * * * *', missed: 0, sql: 'select access.clean_up($1) as count' },
  sessions__clean_up: { at: '27 * * * *', missed: 0, sql: 'select sessions.clean_up($1) as count' },
  keyring__clean_up: { at: '37 * * * *', missed: 0, sql: 'select keyring.clean_up($1) as count' },
  keyring__work: { at: '* * * * *', missed: 0, sql: 'select keyring.work($1) as count', batch: 5_000 },
  keyring__compare_openings: {
    at: '*/2 * * * *',
    missed: 0,
    sql: 'select keyring.compare_openings($1) as count',
    batch: 100_000,
  },
  platform__clean_up: { at: '47 * * * *', missed: 0, sql: 'select platform.clean_up($1) as count' },
};

const BATCH = 1_000;
/** What is left then waits for the next run. */
const MOST_BATCHES = 1_000;
const ATTEMPTS = 5;

/** The tasks behind the clock. Those in batches go on until nothing is left, one transaction for each batch. */
export function scheduledTasks(tools: JobTools): Record<string, Task> {
  const task =
    (name: string, { sql, batch = BATCH }: Scheduled) =>
    async (_payload: unknown, helpers: JobHelpers) => {
      const inBatches = sql.includes('$1');
      for (let batches = 0; batches < MOST_BATCHES; batches += 1) {
        const count = await inJob(tools, helpers, name, async (client) => {
          const { rows } = await client.query<{ count: number }>(sql, inBatches ? [batch] : []);
          return rows[0]?.count ?? 0;
        });
        if (!inBatches || count === 0 || helpers.abortSignal?.aborted) return;
      }
    };
  return Object.fromEntries(Object.entries(SCHEDULE).map(([name, scheduled]) => [name, task(name, scheduled)]));
}

/** What needs more than SQL, made elsewhere: by the same clock. */
const ELSEWHERE: Readonly<Record<string, Omit<Scheduled, 'sql'>>> = {
  access__check_domains: { at: '*/5 * * * *', missed: 0 },
};

/** The clock itself. A job that is still waiting is not added again. */
export const cronItems = parseCronItems(
  Object.entries({ ...SCHEDULE, ...ELSEWHERE }).map(([task, { at, missed }]) => ({
    task,
    match: at,
    identifier: task,
    options: { backfillPeriod: missed, jobKey: task, jobKeyMode: 'preserve_run_at' as const, maxAttempts: ATTEMPTS },
  })),
);
