// How a try of a job ends. graphile-worker knows one way to fail: once more, up to the number of tries. What cannot
// succeed ends at once, and what a stopping worker broke off does not count.
import type { JobHelpers, Task, TaskList } from 'graphile-worker';
import type pg from 'pg';
import { failureOf } from './failure.ts';

/** The tasks, each so that whatever it throws is a JobFailure that says no more than codes, and is settled as such. */
export function withTries(tasks: TaskList, pool: pg.Pool): TaskList {
  return Object.fromEntries(
    Object.entries(tasks).map(([name, task]) => [name, task === undefined ? task : bounded(name, task as Task, pool)]),
  ) as TaskList;
}

function bounded(name: string, task: Task, pool: pg.Pool): Task {
  return async (payload: unknown, helpers: JobHelpers) => {
    try {
      await task(payload as never, helpers);
    } catch (error) {
      const failure = failureOf(error, name);
      if (failure.kind !== 'again') {
        const { id, locked_by } = helpers.job;
        // Without an answer it is a failure like others, and tried again.
        await pool
          .query('select graphile_worker.safetypin_end_try($1, $2, $3)', [id, locked_by, failure.kind === 'final'])
          .catch(() => {});
      }
      throw failure;
    }
  };
}
