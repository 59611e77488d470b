import { describeFault, log } from './log.ts';

const QUIET_MILLISECONDS = 10_000;

/**
 * Tells operators that the database cannot be used, and why: at once, and then at most every ten seconds with the number
 * of requests it has cost. Each of them would be a line otherwise, when lines are least wanted. `where` says who noticed.
 */
export function outageNotes(where: string): (error: unknown, requestId?: string) => void {
  const kinds = new Map<string, { told: number; times: number }>();
  return (error, requestId = 'none') => {
    const { sqlstate, kind, frames } = describeFault(error, requestId, where);
    const key = sqlstate ?? kind;
    const known = kinds.get(key) ?? { told: Number.NEGATIVE_INFINITY, times: 0 };
    kinds.set(key, known);
    known.times += 1;
    if (performance.now() - known.told < QUIET_MILLISECONDS) return;
    log('error', 'database_unavailable', { requestId, where, sqlstate, kind, frames, times: known.times });
    known.told = performance.now();
    known.times = 0;
  };
}
