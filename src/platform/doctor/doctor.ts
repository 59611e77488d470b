// `safetypin doctor`: what is wrong with this installation and what to do about it, one line each. Changes nothing.
import type { DatabaseAccess } from '../access.ts';
import { retarget, withClient } from '../connection.ts';
import { StartupError } from '../startup-error.ts';
import { type Check, type Finding, type Subject, warn } from './check.ts';
import { CLUSTER } from './cluster.ts';
import { DOORS } from './doors.ts';
import { GAPS } from './gaps.ts';
import { OBJECTS } from './objects.ts';
import { PERIMETER } from './perimeter.ts';
import { POOLER } from './pooling.ts';
import { ROLES } from './roles.ts';
import { SERVER } from './server.ts';

export type { Finding, Level } from './check.ts';
export { refuseGaps } from './gaps.ts';

const CHECKS: readonly Check[] = [...SERVER, ...CLUSTER, ...PERIMETER, ...ROLES, ...OBJECTS, GAPS, DOORS, ...POOLER];

export interface ExamineOptions {
  /** DATABASE_POOLED. Defaults to false. */
  readonly pooled?: boolean;
  /** Our clock, in milliseconds. Defaults to the machine's. */
  readonly now?: () => number;
  /** SAFETYPIN_SCHEMAS. Defaults to none. */
  readonly schemas?: readonly string[];
  /** The name of the only check to make. Defaults to all of them. */
  readonly only?: string;
}

/** Looks at the server, its roles, its settings and the way to it. */
export async function examine(access: DatabaseAccess, o: ExamineOptions = {}): Promise<Finding[]> {
  return withClient(retarget(access.admin, access.database), async (admin) => {
    const subject: Subject = {
      admin,
      access,
      pooled: o.pooled ?? false,
      now: o.now ?? Date.now,
      schemas: o.schemas ?? [],
    };
    const findings: Finding[] = [];
    const checks = CHECKS.filter(({ name }) => o.only === undefined || name === o.only);
    for (const check of checks) findings.push(...(await look(check, subject)));
    return findings;
  });
}

async function look({ name, look }: Check, subject: Subject): Promise<Finding[]> {
  try {
    const verdicts = await look(subject);
    return [verdicts].flat().map((verdict) => ({ check: name, ...verdict }));
  } catch (error) {
    // A login that sees less than an administrator is no reason to end; what it cannot see is said.
    const reason = error instanceof Error ? error.message : String(error);
    return [{ check: name, ...warn(`could not be looked at: ${reason}`) }];
  }
}

/** Production does not listen on a database that gives secrets away or whose logins can do more than they need. */
export async function refuseUnsafe(access: DatabaseAccess, pooled: boolean): Promise<void> {
  const unsafe = (await examine(access, { pooled })).filter((finding) => finding.unsafe);
  if (unsafe.length === 0) return;
  throw new StartupError(unsafe.map(({ check, line }) => `${check}: ${line}`).join('\n'));
}
