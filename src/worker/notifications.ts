// NOTIFY has no access control: whoever may connect can send anything on any channel. graphile-worker takes one message
// at its word, that its schema was migrated to what this version cannot use, and stops. Here the table is asked first.
import type pg from 'pg';

const MIGRATED = 'worker:migrate';

/** Hands notifications of a migration on only where a breaking one was made since this call. */
export async function believeTheTable(pool: pg.Pool): Promise<void> {
  const latest = async (): Promise<number> =>
    (await pool.query('select coalesce(max(id), 0) as id from graphile_worker.migrations where breaking')).rows[0].id;
  let asking = false;
  pool.on('connect', (client) => {
    const emit = client.emit.bind(client);
    client.emit = (event: string, ...args: unknown[]): boolean => {
      const [message] = args as [pg.Notification | undefined];
      if (event !== 'notification' || message?.channel !== MIGRATED) return emit(event, ...args);
      // One question at a time, however many messages come.
      if (asking) return true;
      asking = true;
      void latest()
        .then((now) => now > known && emit(event, ...args))
        .catch(() => {})
        .finally(() => {
          asking = false;
        });
      return true;
    };
  });
  // graphile-worker checks at its start that it can use what is there now.
  const known = await latest();
}
