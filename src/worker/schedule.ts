// What runs by the clock: a task that calls one SQL function, with a context for nobody and no organization.
import { type JobHelpers, parseCronItems, type Task } from 'graphile-worker';
import { inJob, type JobTools } from './job.ts';

interface Scheduled {
  /** Minute, hour, day, month, weekday, in UTC. */
  readonly at: string;
  /** How far back a missed run is made up for, once each. Milliseconds. */
  readonly missed: number;
  readonly sql: string;
}

const HOUR = 3_600_000;

const SCHEDULE: Readonly<Record<string, Scheduled>> = {
  audit__ensure_partitions: { at: '5 0 * * *', missed: 24 * HOUR, sql: 'select audit.ensure_partitions()' },
  platform__clean_up: { at: '17 * * * *', missed: 0, sql: 'select api_steps.clean_up()' },
};

/** The tasks behind the clock. */
export function scheduledTasks(tools: JobTools): Record<string, Task> {
  const task = (name: string, sql: string) => async (_payload: unknown, helpers: JobHelpers) => {
    await inJob(tools, helpers, name, (client) => client.query(sql));
  };
  return Object.fromEntries(Object.entries(SCHEDULE).map(([name, { sql }]) => [name, task(name, sql)]));
}

/** The clock itself. A job that is still waiting is not added again. */
export const cronItems = parseCronItems(
  Object.entries(SCHEDULE).map(([task, { at, missed }]) => ({
    task,
    match: at,
    identifier: task,
    options: { backfillPeriod: missed, jobKey: task, jobKeyMode: 'preserve_run_at' as const, maxAttempts: 5 },
  })),
);
