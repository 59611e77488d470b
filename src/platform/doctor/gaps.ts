// Where rules do not hold: for a start that refuses them, `safetypin gaps` in a host's CI, and the doctor. The database
// knows what is a gap; nothing is judged here.
import type { DatabaseAccess } from '../access.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../connection.ts';
import { StartupError } from '../startup-error.ts';
import { type Check, ok, type Verdict, warn, wrong } from './check.ts';

export interface Gap {
  /** Table, view or function. */
  readonly object: string;
  readonly what: string;
  /** The SQL that closes it; null where only people know. */
  readonly line: string | null;
  /** Whether a server refuses to start with it; else it is slow at most. */
  readonly stops: boolean;
}

/** What is not as the rules of tables say, and what in the schemas that the API shows is under none. */
export async function findGaps(access: DatabaseAccess, schemas: readonly string[]): Promise<Gap[]> {
  return withClient(retarget(access.admin, access.database, OWNER_OPTIONS), async (owner) => {
    return (await owner.query<Gap>('select object, what, line, stops from access.gaps($1)', [schemas])).rows;
  });
}

/** One line: what is wrong, and what to run. */
export const gapLine = ({ object, what, line }: Gap): string => `${object}: ${what}${line ? `; run: ${line}` : ''}`;

/** A server does not listen with a table in its schemas that is under no rules, or not as its rules say. */
export async function refuseGaps(access: DatabaseAccess, schemas: readonly string[]): Promise<void> {
  const gaps = (await findGaps(access, schemas)).filter(({ stops }) => stops);
  if (gaps.length > 0) throw new StartupError(gaps.map(gapLine).join('\n'));
}

export const GAPS: Check = {
  name: 'rules',
  async look({ admin, access, schemas }): Promise<readonly Verdict[] | Verdict> {
    const { rows } = await admin.query("select to_regprocedure('access.gaps(name[])') is null as absent");
    if (rows[0]?.absent) return ok('there are none yet');
    const gaps = await findGaps(access, schemas);
    return gaps.length > 0
      ? gaps.map((gap) => (gap.stops ? wrong : warn)(gapLine(gap)))
      : ok('every table is as its rules say');
  },
};
