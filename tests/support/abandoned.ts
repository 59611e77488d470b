// A run that was killed leaves its PostgreSQL and its folder behind: the next one clears both away.
import { readdirSync, realpathSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { claim } from '../../src/platform/claim.ts';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import { clearLeftovers } from '../../src/platform/embedded/leftover.ts';

/** How the folder of a test run begins. */
export const DATA_PREFIX = 'safetypin-test-';

/** How long a folder may be without a claim since it was made: a test copies a whole cluster before it starts it. */
const YOUNG_MS = 60_000;

/** Removes the folders of runs that nobody runs any more. A live run holds the claim on its own. */
export async function removeAbandoned(): Promise<void> {
  for (const name of readdirSync(tmpdir()).filter((entry) => entry.startsWith(DATA_PREFIX))) {
    const folder = olderThanYoung(join(tmpdir(), name));
    if (folder === undefined) continue;
    const mine = await claim(folder);
    if (!mine) continue;
    try {
      await clearLeftovers(folder, clusterDirectory(folder), () => {});
      removeRun(folder);
    } catch {
      // Another user's, or being removed by another run at this moment: not ours to insist on.
    } finally {
      mine.release();
    }
  }
}

/** Its real path, unless it is young or another run removed it just now. */
function olderThanYoung(path: string): string | undefined {
  try {
    const folder = realpathSync(path);
    return Date.now() - statSync(folder).mtimeMs < YOUNG_MS ? undefined : folder;
  } catch {
    return undefined;
  }
}

/** Deletes what a run kept. The cluster is elsewhere when PostgreSQL's account cannot enter the folder. */
export function removeRun(folder: string): void {
  rmSync(clusterDirectory(folder), { recursive: true, force: true });
  rmSync(folder, { recursive: true, force: true });
}
