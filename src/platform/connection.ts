// Connections of the installer and of the command line: direct ones, never through a pooler.
import pg from 'pg';

/** Takes one line for people. */
export type Say = (line: string) => void;

/** The startup options under which migrations and `safetypin sql` run: as owner, and a backfill fails aloud. */
export const OWNER_OPTIONS = '-c role=safetypin_owner -c row_security=off';

/** Another database and other startup options on the same server. */
export function retarget(config: pg.ClientConfig, database: string, options?: string): pg.ClientConfig {
  const all = [config.options, options].filter(Boolean).join(' ');
  return { ...config, database, ...(all && { options: all }) };
}

/** A connection as one URL, for psql and other tools. Spaces are %20: libpq does not know `+`. */
export function connectionUrl(config: pg.ClientConfig): string {
  const part = encodeURIComponent;
  const password = typeof config.password === 'string' ? `:${part(config.password)}` : '';
  const settings = Object.entries({
    host: config.host,
    port: config.port,
    options: config.options,
    sslmode: sslMode(config),
  })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${part(String(value))}`);
  return `postgresql://${part(config.user ?? '')}${password}@/${part(config.database ?? '')}?${settings.join('&')}`;
}

function sslMode({ ssl }: pg.ClientConfig): string | undefined {
  if (!ssl) return undefined;
  return ssl !== true && ssl.rejectUnauthorized === false ? 'require' : 'verify-full';
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
