import pg from 'pg';
import { parseIntoClientConfig } from 'pg-connection-string';
import { codeOf, StartupError } from './startup-error.ts';

const OLDEST = 15;
const DATABASE_MISSING = '3D000';
const CONNECT_LIMIT_MS = 10_000;

/** Where a server is, without its password. */
function placeOf({ host, port }: pg.ClientConfig): string {
  return host?.startsWith('/') ? host : `${host ?? 'localhost'}:${port ?? 5432}`;
}

/** What Node or PostgreSQL says of a failed connection. Several addresses tried make one error without a message. */
function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message || codeOf(error) || 'no answer';
}

/**
 * The administrator's access to a server of your own. Connects once, so that a wrong address, password or version is
 * one clear line at the start.
 */
export async function meetServer(databaseUrl: string): Promise<pg.ClientConfig> {
  const admin = parseIntoClientConfig(databaseUrl);
  const client = new pg.Client({ ...admin, connectionTimeoutMillis: CONNECT_LIMIT_MS });
  client.on('error', () => {});
  let version: number;
  try {
    await client.connect();
    const { rows } = await client.query("select current_setting('server_version_num')::int / 10000 as major");
    version = Number(rows[0]?.major);
  } catch (error) {
    // The database itself may have to be created yet.
    if (codeOf(error) === DATABASE_MISSING) return admin;
    const cure = 'check DATABASE_URL, and that the server runs';
    throw new StartupError(`cannot use the PostgreSQL at ${placeOf(admin)}: ${reasonOf(error)}: ${cure}`, {
      cause: error,
    });
  } finally {
    await client.end().catch(() => {});
  }
  if (version < OLDEST) {
    throw new StartupError(`the PostgreSQL at ${placeOf(admin)} is version ${version}: it must be ${OLDEST} or newer`);
  }
  return admin;
}

/** The database that a URL names; without one the name that the embedded server uses. */
export function databaseNamed(url: string | undefined): string {
  return (url === undefined ? undefined : parseIntoClientConfig(url).database) ?? 'safetypin';
}

/** What a server or a network that fails in the middle means; anything else is passed on as it is. */
export function explainServerError(error: unknown): unknown {
  if (error instanceof StartupError) return error;
  const code = codeOf(error) ?? '';
  const message = reasonOf(error);
  const lost =
    /^(080|57P0)/.test(code) ||
    ['ECONNREFUSED', 'ECONNRESET', 'EPIPE', 'ETIMEDOUT', 'EHOSTUNREACH', 'ENOTFOUND'].includes(code) ||
    /^(Connection terminated|Client has encountered a connection error)/.test(message);
  const meaning = lost
    ? `the server went away (${message}): what was not finished was taken back; run the same command again`
    : ({
        '08P01': `what answers at DATABASE_URL refuses (${message}): check it, and that no pooler is in between`,
        '53100': `the server's disk is full (${message}): make room; what was not finished was taken back`,
        '53200': `the server has no memory left (${message}): what was not finished was taken back`,
        '53300': `the server has no connection left (${message}): raise max_connections or end some`,
        '28P01': `the server refuses the password (${message}): check DATABASE_URL`,
        '28000': `the server refuses the login (${message}): check DATABASE_URL and pg_hba.conf`,
        '25006': `the server takes no changes now (${message}): give DATABASE_URL the primary`,
      }[code] ?? undefined);
  return meaning === undefined ? error : new StartupError(meaning, { cause: error });
}
