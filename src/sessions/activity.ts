import type pg from 'pg';

const FLUSH_MILLISECONDS = 60_000;

export interface Activity {
  /** Notes that a credential was used now. `hash` is its SHA-256. */
  note(hash: Buffer): void;
  /** Sends what was gathered and stops. */
  close(): Promise<void>;
}

/**
 * Gathers the last use of credentials and sends it once a minute, in one statement outside any request: a request that
 * wrote its own last use would stand in the way of a revocation (F8).
 */
export function gatherActivity(pool: pg.Pool, onError: (error: unknown) => void): Activity {
  let used = new Map<string, number>();

  async function flush(): Promise<void> {
    if (used.size === 0) return;
    const batch = used;
    used = new Map();
    try {
      const hashes = [...batch.keys()].map((hash) => Buffer.from(hash, 'base64'));
      const times = [...batch.values()].map((time) => new Date(time));
      await pool.query('select sessions.record_activity($1, $2)', [hashes, times]);
    } catch (error) {
      // The next batch brings sessions that are still in use again.
      onError(error);
    }
  }

  const timer = setInterval(() => void flush(), FLUSH_MILLISECONDS);
  timer.unref();
  return {
    note: (hash) => used.set(hash.toString('base64'), Date.now()),
    async close() {
      clearInterval(timer);
      await flush();
    },
  };
}
