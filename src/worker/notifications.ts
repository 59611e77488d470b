// NOTIFY has no access control: whoever may connect can send anything on any channel. graphile-worker takes one message
// at its word, that its schema was migrated to what this version cannot use, and stops. Here the table is asked first.
import type pg from 'pg';

const MIGRATED = 'worker:migrate';

/** Hands notifications of a migration on only where a breaking one was made since the first connection. */
export function believeTheTable(pool: pg.Pool): void {
  const latest = async (): Promise<number> =>
    (await pool.query('select coalesce(max(id), 0) as id from graphile_worker.migrations where breaking')).rows[0].id;
  let known: Promise<number> | undefined;
  let asking = false;
  pool.on('connect', (client) => {
    known ??= latest().catch(() => {
      known = undefined;
      return Number.POSITIVE_INFINITY;
    });
    const emit = client.emit.bind(client);
    client.emit = (event: string, ...args: unknown[]): boolean => {
      const [message] = args as [pg.Notification | undefined];
      if (event !== 'notification' || message?.channel !== MIGRATED) return emit(event, ...args);
      // One question at a time, however many messages come.
      if (asking) return true;
      asking = true;
      void Promise.all([known, latest()])
        .then(([before, now]) => now > (before ?? Number.POSITIVE_INFINITY) && emit(event, ...args))
        .catch(() => {})
        .finally(() => {
          asking = false;
        });
      return true;
    };
  });
}
