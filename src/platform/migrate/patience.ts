// A change of a table in use waits for whoever has it locked, and everybody else queues behind the one who waits. So a
// migration waits for a lock a few seconds only, lets the others pass, and tries again.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Config } from '../../config.ts';
import type { Say } from '../connection.ts';
import { sqlstateOf } from '../errors.ts';
import { StartupError } from '../startup-error.ts';

/** How long a migration waits. */
export interface Patience {
  /** For one lock, in milliseconds: nobody queues behind it for longer. */
  readonly lock: number;
  /** For all tries of one migration, in milliseconds. */
  readonly total: number;
}

export const PATIENCE: Patience = { lock: 5_000, total: 600_000 };

export function patienceOf(config: Config): Patience {
  return { lock: config.migrateLockTimeout * 1000, total: config.migratePatience * 1000 };
}

/** What waits, and who is told. */
export interface Waiting {
  /** Connects as the administrator, who may see what others do; the owner may not. */
  readonly watcher: pg.ClientConfig;
  readonly client: pg.Client;
  /** What to call it: a file's name. */
  readonly what: string;
  readonly patience: Patience;
  readonly say: Say;
}

const LOCK_NOT_AVAILABLE = '55P03';
const DEADLOCK = '40P01';
const LONGEST_PAUSE = 30_000;

/** Tries until the locks can be had. Each try is all or nothing. */
export async function patiently<T>(w: Waiting, attempt: () => Promise<T>): Promise<T> {
  const end = Date.now() + w.patience.total;
  const lock = Math.min(w.patience.lock, w.patience.total);
  for (let pause = 250; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
    await w.client.query(`set lock_timeout = ${Math.max(1, Math.round(lock))}`);
    const watch = watchFor(w, lock / 2);
    let holder: string;
    try {
      return await attempt();
    } catch (error) {
      const code = sqlstateOf(error);
      if (code !== LOCK_NOT_AVAILABLE && code !== DEADLOCK) throw error;
      holder = (await watch.seen()) ?? 'somebody who has let go of it since';
    } finally {
      watch.stop();
    }
    if (Date.now() + pause > end) {
      const waited =
        w.patience.total < 120_000 ? `${w.patience.total / 1000} s` : `${w.patience.total / 60_000} minutes`;
      throw new StartupError(
        `${w.what} gave up after ${waited} of waiting for a lock held by ${holder}: end that, or run it at a quieter time; the database is as it was`,
      );
    }
    w.say(`${w.what} waits for a lock held by ${holder}; tries again in ${(pause / 1000).toFixed(1)} s`);
    // Not all at once, if several wait for each other.
    await sleep(pause * (0.75 + Math.random() / 2));
  }
}

/** Looks at who is in the way while an attempt runs; opens a connection only when it takes long enough. */
function watchFor({ client, watcher: config }: Waiting, after: number) {
  const watcher = new pg.Client({ ...config, application_name: 'safetypin migrate watch' });
  watcher.on('error', () => {});
  const pid = (client as pg.Client & { processID: number | null }).processID;
  let looking: Promise<string | undefined> | undefined;
  const timer = setTimeout(() => {
    looking = (async () => {
      await watcher.connect();
      return await holdersOf(watcher, pid);
    })().catch(() => undefined);
  }, after);
  return {
    seen: async () => await looking,
    stop() {
      clearTimeout(timer);
      void looking?.then(() => watcher.end()).catch(() => {});
    },
  };
}

/** Who holds what a backend waits for: never what they run, which can hold personal data. */
async function holdersOf(watcher: pg.Client, pid: number | null): Promise<string | undefined> {
  const { rows } = await watcher.query<{ line: string }>(
    `select format('%s (%s)',
       case when b.pid = 0 then 'a prepared transaction' else 'process ' || b.pid end,
       concat_ws(', ', nullif(a.application_name, ''), a.usename, a.state,
         'for ' || extract(epoch from date_trunc('second', clock_timestamp() - a.xact_start))::int || ' s',
         (select 'on ' || string_agg(distinct l.relation::regclass::text, ' and ') from pg_catalog.pg_locks l
           where l.pid = $1 and not l.granted))) as line
       from (select distinct unnest(pg_catalog.pg_blocking_pids($1)) as pid) b
       left join pg_catalog.pg_stat_activity a on a.pid = b.pid and b.pid <> 0
      order by a.xact_start nulls last limit 3`,
    [pid],
  );
  return rows.length > 0 ? rows.map(({ line }) => line).join('; ') : undefined;
}
