import type { JobHelpers, Task } from 'graphile-worker';
import { JobFailure } from '../worker/failure.ts';
import { inJob, type JobTools } from '../worker/job.ts';
import type { TxtLookup } from './dns.ts';

interface DueDomain {
  readonly organization_id: string;
  readonly id: string;
  readonly challenge_name: string;
}

/** Questions to DNS at once. */
const BATCH = 20;
/** What is left then waits for the next run. */
const MOST_BATCHES = 500;

/** `access__check_domains`, by the clock, and `access__check_domain`, which somebody asked for. SQL says which are due, and what an answer means. */
export function domainTasks(tools: JobTools, lookup: TxtLookup): Record<string, Task> {
  const check = async (domain: DueDomain, helpers: JobHelpers, signal: AbortSignal) => {
    const { answered, records } = await lookup(domain.challenge_name, signal);
    // Taken, but not answered: in ten minutes it is due again.
    if (signal.aborted) throw new JobFailure('asking DNS: the worker was stopped', 'stopped');
    await inJob(tools, helpers, 'noting what DNS said', (client) =>
      client.query('select access.note_domain_check($1, $2, $3, $4)', [
        domain.organization_id,
        domain.id,
        answered,
        records,
      ]),
    );
  };
  const checkDue = async (helpers: JobHelpers): Promise<number> => {
    const signal = helpers.abortSignal ?? new AbortController().signal;
    const due = await inJob(tools, helpers, 'taking domains', async (client) => {
      const { rows } = await client.query<DueDomain>('select * from access.due_domains($1)', [BATCH]);
      return rows;
    });
    const done = await Promise.allSettled(due.map((domain) => check(domain, helpers, signal)));
    // One that fails keeps none of the others from being noted.
    const failed = done.find((one) => one.status === 'rejected');
    if (failed) throw failed.reason;
    return due.length;
  };
  return {
    access__check_domain: async (_payload: unknown, helpers: JobHelpers) => void (await checkDue(helpers)),
    access__check_domains: async (_payload: unknown, helpers: JobHelpers) => {
      for (let batches = 0; batches < MOST_BATCHES; batches += 1) {
        if ((await checkDue(helpers)) === 0 || helpers.abortSignal?.aborted) return;
      }
    },
  };
}
