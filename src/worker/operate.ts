// `safetypin jobs`: what an operator does about jobs that failed. The rules are platform.troubled_jobs(),
// api_steps.retry_jobs() and api_steps.drop_jobs().
import type { DatabaseAccess } from '../platform/access.ts';
import { OWNER_OPTIONS, retarget, type Say, withClient } from '../platform/connection.ts';
import { formatResult } from '../platform/sql/table.ts';
import { StartupError } from '../platform/startup-error.ts';

const LIST = `select id, task, state, attempts || ' of ' || attempts_allowed as tries,
    to_char(since at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "since (UTC)", error
  from platform.troubled_jobs()`;

const CHANGES = { retry: 'api_steps.retry_jobs', drop: 'api_steps.drop_jobs' } as const;

/** Shows the jobs that were given up, then those that failed and are tried again. */
export async function listJobs(access: DatabaseAccess, print: Say): Promise<void> {
  await asOwner(access, async (client) => {
    const text = await client.query({ text: LIST, rowMode: 'array', types: { getTypeParser: () => String } });
    print(formatResult(text, LIST));
  });
}

/** Lets jobs run again, or removes them. Throws a StartupError that names the ids there is no such job for. */
export async function changeJobs(
  access: DatabaseAccess,
  what: keyof typeof CHANGES,
  ids: readonly string[],
  print: Say,
): Promise<void> {
  const wrong = ids.find((id) => !/^[1-9]\d{0,17}$/.test(id));
  if (ids.length === 0 || wrong !== undefined) {
    throw new StartupError(`jobs ${what} needs the ids of jobs, as jobs list shows them`);
  }
  const done = await asOwner(access, async (client) => {
    const { rows } = await client.query<{ done: string[] }>(`select ${CHANGES[what]}($1) as done`, [ids]);
    return rows[0]?.done ?? [];
  });
  for (const id of done) print(`${id}: ${what === 'retry' ? 'runs again' : 'removed'}`);
  const left = ids.filter((id) => !done.includes(id));
  if (left.length > 0) throw new StartupError(`no job that waits: ${left.join(', ')}`);
}

const asOwner: <T>(access: DatabaseAccess, work: Parameters<typeof withClient<T>>[1]) => Promise<T> = (access, work) =>
  withClient(retarget(access.admin, access.database, OWNER_OPTIONS), work);
