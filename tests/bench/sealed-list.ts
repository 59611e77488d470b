import { alternate, type Bench } from './bench.ts';
import { openMember } from './opened.ts';
import type { Place } from './place.ts';
import { fillTables, TABLES } from './sealing.ts';

const CONNECTIONS = 8;
const PAGE = 20;

/** Authenticated GraphQL list of 20 rows with one sealed column, each value under a key of its own, against a plain column. */
export const sealedList: Bench = {
  name: 'sealed_list',
  async run(place: Place, isFull: boolean) {
    await using member = await openMember(place, TABLES);
    await fillTables(member);
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${member.accessToken}` };
    const queryOf = (list: string) => JSON.stringify({ query: `{ ${list}(first: ${PAGE}) { nodes { id n ssn } } }` });
    for (const list of ['patients', 'guests']) {
      const url = `http://127.0.0.1:${member.port}/graphql`;
      const text = await (await fetch(url, { method: 'POST', headers, body: queryOf(list) })).text();
      if (text.match(/078-05-1\d{3}/g)?.length !== PAGE) throw new Error(`not the list it should be: ${text}`);
    }
    const of = (list: string, seconds: number) =>
      place.load({
        port: member.port,
        path: '/graphql',
        headers,
        bodies: Array.from({ length: CONNECTIONS }, () => queryOf(list)),
        seconds,
      });
    const seconds = isFull ? 10 : 4;
    for (const list of ['patients', 'guests']) await of(list, 2);
    // Time for each request, of all connections together: the target is a ratio of times.
    const { value, baseline } = await alternate(
      isFull ? 7 : 5,
      async () => 1e6 / (await of('patients', seconds)),
      async () => 1e6 / (await of('guests', seconds)),
    );
    const target = 1.3;
    const size = `${PAGE} rows, a data key for each, ${CONNECTIONS} connections`;
    return { name: 'sealed_list', value, unit: 'µs/request', baseline, target, met: value / baseline <= target, size };
  },
};
