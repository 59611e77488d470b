// `safetypin organizations`: what an operator does with organizations. The rules are access.list_organizations(),
// suspend_organization(), resume_organization() and give_plan().
import type { DatabaseAccess } from '../platform/access.ts';
import { OWNER_OPTIONS, retarget, type Say, withClient } from '../platform/connection.ts';
import { formatResult } from '../platform/sql/table.ts';
import { StartupError } from '../platform/startup-error.ts';

const LIST = `select slug, name, status, plan, members,
    to_char(created_at at time zone 'UTC', 'YYYY-MM-DD') as founded,
    to_char(closes_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as "closes (UTC)"
  from access.list_organizations()`;

const CHANGES = {
  suspend: {
    call: 'access.suspend_organization($1)',
    takes: 1,
    done: 'suspended; its sessions are over',
    not: 'not active',
  },
  resume: { call: 'access.resume_organization($1)', takes: 1, done: 'resumed', not: 'not suspended' },
  plan: { call: 'access.give_plan($1, $2)', takes: 2, done: 'has that plan', not: 'had that plan already' },
} as const;

/** Shows all organizations, oldest first. */
export async function listOrganizations(access: DatabaseAccess, print: Say): Promise<void> {
  await asOwner(access, async (client) => {
    const text = await client.query({ text: LIST, rowMode: 'array', types: { getTypeParser: () => String } });
    print(formatResult(text, LIST));
  });
}

/** Suspends or resumes an organization, or gives it a plan. Throws a StartupError when there is none, or nothing to do. */
export async function changeOrganization(
  access: DatabaseAccess,
  what: keyof typeof CHANGES,
  values: readonly string[],
  print: Say,
): Promise<void> {
  const { call, takes, done, not } = CHANGES[what];
  if (values.length !== takes) {
    throw new StartupError(
      `organizations ${what} needs the slug of an organization, as organizations list shows it${takes > 1 ? ', and the name of a plan' : ''}`,
    );
  }
  const isDone = await asOwner(access, async (client) => {
    try {
      return (await client.query<{ done: boolean }>(`select ${call} as done`, [...values])).rows[0]?.done;
    } catch (error) {
      if (!(error instanceof Error && (error as { code?: string }).code === 'P0002')) throw error;
      throw new StartupError(error.message, { cause: error });
    }
  });
  if (!isDone) throw new StartupError(`${values[0]}: ${not}`);
  print(`${values[0]}: ${done}`);
}

const asOwner: <T>(access: DatabaseAccess, work: Parameters<typeof withClient<T>>[1]) => Promise<T> = (access, work) =>
  withClient(retarget(access.admin, access.database, OWNER_OPTIONS), work);
