// A connection of the API's login with a request open on it, for benchmarks of SQL.
import pg from 'pg';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../../src/platform/connection.ts';
import { accessTo } from '../support/access.ts';
import { makeMember } from './members.ts';
import type { Place } from './place.ts';

export interface Opened extends AsyncDisposable {
  readonly access: DatabaseAccess;
  /** Of the API, and what the member shows there. */
  readonly port: number;
  readonly accessToken: string;
  /** The organization of the member who asks. */
  readonly organization: string;
  /** Runs a script as the administrator, or as the owner of the tables. */
  as(who: 'admin' | 'owner', sql: string): Promise<void>;
  /** Runs work in a transaction in which the member's request is open, and commits. */
  inRequest<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result>;
}

/** Makes a member through the API of the place, and a connection for them. `host`: tables that the API serves, in `shop`. */
export async function openMember(place: Place, host?: string): Promise<Opened> {
  const { cluster, database, dataDirectory } = place.order;
  const access = accessTo(cluster, database);
  const as: Opened['as'] = (who, text) =>
    withClient(retarget(access.admin, database, who === 'owner' ? OWNER_OPTIONS : undefined), async (admin) => {
      await admin.query(text);
    });
  if (host !== undefined) await as('owner', host);
  const port = await place.serve('api-process.ts', host === undefined ? {} : { schemas: 'shop' });
  const { accessToken } = await makeMember(port, 'member');
  const claims = JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString());
  const credential = Buffer.from(claims.cred, 'base64url');
  const pool = new pg.Pool({ ...access.authenticator, max: 1 });
  const sealer = new EnvelopeSealer(pool, await loadApplicationKeys(dataDirectory));
  const client = new pg.Client({ ...access.authenticator, statement_timeout: 0 });
  await client.connect();

  async function inRequest<Result>(work: (client: pg.Client) => Promise<Result>): Promise<Result> {
    const sealed = await sealer.seal(credential);
    await client.query('begin');
    const text = "select set_config('role', sessions.open_request($1, $2, $3), true)";
    await client.query({ name: 'open', text, values: [credential, sealed, {}] });
    try {
      const result = await work(client);
      await client.query('commit');
      return result;
    } catch (error) {
      await client.query('rollback');
      throw error;
    }
  }

  const organization = await inRequest(async () => {
    const { rows } = await client.query('select request.organization_id() as id');
    return rows[0].id as string;
  });
  return {
    access,
    port,
    accessToken,
    organization,
    as,
    inRequest,
    async [Symbol.asyncDispose]() {
      await client.end();
      await pool.end();
    },
  };
}
