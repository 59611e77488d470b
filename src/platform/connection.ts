// Connections of the installer and of the command line: direct ones, never through a pooler.
import pg from 'pg';

/** Takes one line for people. */
export type Say = (line: string) => void;

/** The startup options under which migrations and `safetypin sql` run: as owner, and a backfill fails aloud. */
export const OWNER_OPTIONS = '-c role=safetypin_owner -c row_security=off';

/** Another database and other startup options on the same server, for a config with or without a URL. */
export function retarget(config: pg.ClientConfig, database: string, options?: string): pg.ClientConfig {
  const { connectionString, ...rest } = config;
  if (connectionString === undefined) return { ...rest, database, ...(options ? { options } : {}) };
  // node-postgres lets the URL win over every field, so the change must be made inside it.
  const url = new URL(connectionString);
  url.pathname = `/${encodeURIComponent(database)}`;
  if (options) url.searchParams.set('options', [url.searchParams.get('options'), options].filter(Boolean).join(' '));
  return { ...rest, connectionString: url.href };
}

/** The same connection as one URL, for graphile-migrate and psql. Spaces are %20: libpq does not know `+`. */
export function connectionUrl(config: pg.ClientConfig): string {
  if (config.connectionString !== undefined) return config.connectionString.replaceAll('+', '%20');
  const part = encodeURIComponent;
  const password = typeof config.password === 'string' ? `:${part(config.password)}` : '';
  const settings = Object.entries({ host: config.host, port: config.port, options: config.options })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${part(String(value))}`);
  return `postgresql://${part(config.user ?? '')}${password}@/${part(config.database ?? '')}?${settings.join('&')}`;
}

/** Connects, runs, and closes whatever happens. */
export async function withClient<T>(config: pg.ClientConfig, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(config);
  // Without a listener a server that goes away between two statements ends the whole process.
  client.on('error', () => {});
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end().catch(() => {});
  }
}
