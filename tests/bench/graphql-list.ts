import { alternate, type Bench } from './bench.ts';
import { makeMember } from './members.ts';
import type { Place } from './place.ts';

export const QUERY = '{ auditEvents(first: 20) { nodes { id action occurredAt actorId } } }';
const CONNECTIONS = 8;

/** Authenticated GraphQL list of 20 rows, against a hand-written sequential handler with the same SQL and token check. */
export const graphqlList: Bench = {
  name: 'graphql_list',
  async run(place: Place, isFull: boolean) {
    const api = await place.serve('api-process.ts');
    const handler = await place.serve('handler-process.ts');
    const { accessToken } = await makeMember(api, 'lister');
    const headers = { 'content-type': 'application/json', authorization: `Bearer ${accessToken}` };
    const seconds = isFull ? 10 : 4;
    const measure = (port: number, path: string, body: string, time: number): Promise<number> =>
      place.load({ port, path, headers, bodies: Array.from({ length: CONNECTIONS }, () => body), seconds: time });
    const graphql = (time: number) => measure(api, '/graphql', JSON.stringify({ query: QUERY }), time);
    const byHand = (time: number) => measure(handler, '/', JSON.stringify({ first: 20 }), time);
    await graphql(2);
    await byHand(2);
    const { value, baseline } = await alternate(
      isFull ? 7 : 5,
      () => graphql(seconds),
      () => byHand(seconds),
    );
    const target = 0.7;
    const size = `20 rows, ${CONNECTIONS} connections`;
    return { name: 'graphql_list', value, unit: 'requests/s', baseline, target, met: value / baseline >= target, size };
  },
};
