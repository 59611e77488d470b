// The envelope of a request in SQL: begin, open, a query under row-level security, commit; against an empty transaction.
// Twice: each statement awaited, as most clients and pgbench do it, and all sent without waiting, as our server does.
// Without the waits an empty transaction costs next to nothing, so the ratio is harder on the same work.
import pg from 'pg';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../../src/platform/connection.ts';
import { accessTo } from '../support/access.ts';
import { alternate, type Bench } from './bench.ts';
import { makeMember } from './members.ts';
import type { Place } from './place.ts';

const CLIENTS = 8;
const ROWS = 300;
const MAKE_ITEMS = `
  create schema shop;
  create table shop.items (
    organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, primary key (organization_id, id));
  select access.protect('shop.items');`;

const statement = (name: string, text: string, values: unknown[] = []) => ({ name, text, values });
const BEGIN = statement('begin', 'begin');
const COMMIT = statement('commit', 'commit');
const EMPTY = [BEGIN, statement('nothing', 'select 1'), COMMIT];
const LIST = statement('list', 'select id, name from shop.items order by id limit 20');

/** Transactions a second over all clients; every statement named. */
async function transactions(
  pipelined: boolean,
  clients: pg.Client[],
  statements: () => pg.QueryConfig[],
  seconds: number,
): Promise<number> {
  const until = performance.now() + seconds * 1000;
  let done = 0;
  const started = performance.now();
  await Promise.all(
    clients.map(async (client) => {
      while (performance.now() < until) {
        if (pipelined) await Promise.all(statements().map((query) => client.query(query)));
        else for (const query of statements()) await client.query(query);
        done += 1;
      }
    }),
  );
  return (done * 1000) / (performance.now() - started);
}

/** Open request, list 20 rows, commit; against begin, select 1, commit, in the same mode. */
const envelopeOf = (name: string, pipelined: boolean): Bench => ({
  name,
  async run(place: Place, isFull: boolean) {
    const { cluster, database, dataDirectory } = place.order;
    const access = accessTo(cluster, database);
    const { accessToken } = await makeMember(await place.serve('api-process.ts'), 'opener');
    const claims = JSON.parse(Buffer.from(accessToken.split('.')[1] ?? '', 'base64url').toString());
    const credential = Buffer.from(claims.cred, 'base64url');
    await withClient(retarget(access.admin, database, OWNER_OPTIONS), (owner) => owner.query(MAKE_ITEMS));
    await withClient(retarget(access.admin, database), (admin) =>
      admin.query(
        "insert into shop.items (organization_id, name) select o.id, 'item ' || n from access.organizations o, generate_series(1, $1) n",
        [ROWS],
      ),
    );
    const pool = new pg.Pool({ ...access.authenticator, max: 1 });
    const sealer = new EnvelopeSealer(pool, await loadApplicationKeys(dataDirectory));
    const clients = Array.from({ length: CLIENTS }, () => new pg.Client({ ...access.authenticator, pipeline: true }));
    try {
      for (const client of clients) await client.connect();
      await sealer.seal(credential);
      const open = () =>
        statement('open', "select set_config('role', sessions.open_request($1, $2, $3), true)", [
          credential,
          sealed,
          { ip: '192.0.2.7', userAgent: 'bench', requestId: crypto.randomUUID() },
        ]);
      // The server makes a new envelope every twenty seconds; here each round has its own.
      let sealed = await sealer.seal(credential);
      const seconds = isFull ? 5 : 2;
      const opened = async (time: number): Promise<number> => {
        sealed = await sealer.seal(credential);
        return transactions(pipelined, clients, () => [BEGIN, open(), LIST, COMMIT], time);
      };
      const empty = (time: number) => transactions(pipelined, clients, () => EMPTY, time);
      const [client] = clients;
      await client?.query(BEGIN);
      await client?.query(open());
      if ((await client?.query(LIST))?.rowCount !== 20) throw new Error('the list is not what it should be');
      await client?.query(COMMIT);
      await opened(1);
      await empty(1);
      const { value, baseline } = await alternate(
        isFull ? 9 : 7,
        () => opened(seconds),
        () => empty(seconds),
      );
      const target = 0.35;
      const met = value / baseline >= target;
      return {
        name,
        value,
        unit: 'transactions/s',
        baseline,
        target,
        met,
        size: `20 of ${ROWS} rows, ${CLIENTS} clients`,
      };
    } finally {
      await Promise.all(clients.map((client) => client.end()));
      await pool.end();
    }
  },
});

export const envelope = envelopeOf('envelope', false);
export const envelopePipelined = envelopeOf('envelope_pipelined', true);
