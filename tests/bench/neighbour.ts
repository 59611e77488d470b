// What the flood of one organization costs another (AZ-13).
import { Agent, request } from 'node:http';
import { alternate, type Bench } from './bench.ts';
import { QUERY } from './graphql-list.ts';
import { makeMember } from './members.ts';
import type { Place } from './place.ts';

const FLOOD = 200;

/** One request after the other on one connection, for some seconds; the time in ms that 99 of 100 stay below. */
async function slowest(port: number, accessToken: string, seconds: number): Promise<number> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const body = JSON.stringify({ query: QUERY });
  const headers = {
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
    authorization: `Bearer ${accessToken}`,
  };
  const times: number[] = [];
  const until = performance.now() + seconds * 1000;
  while (performance.now() < until) {
    const began = performance.now();
    await new Promise<void>((resolve, reject) => {
      const asked = request({ port, path: '/graphql', method: 'POST', agent, headers }, (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => (text.includes('"errors"') ? reject(new Error(text)) : resolve()));
      });
      asked.on('error', reject);
      asked.end(body);
    });
    times.push(performance.now() - began);
  }
  agent.destroy();
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? 0;
}

/** The slowest of a hundred lists of one organization while another asks two hundred times at once, against none asking. */
export const neighbour: Bench = {
  name: 'neighbour',
  async run(place: Place, isFull: boolean) {
    const port = await place.serve('api-process.ts');
    const [flooder, other] = [await makeMember(port, 'flooder'), await makeMember(port, 'other')];
    const seconds = isFull ? 8 : 4;
    const flood = () =>
      place.load({
        port,
        path: '/graphql',
        headers: { 'content-type': 'application/json', authorization: `Bearer ${flooder.accessToken}` },
        bodies: Array.from({ length: FLOOD }, () => JSON.stringify({ query: QUERY })),
        seconds: seconds + 1,
      });
    const alone = () => slowest(port, other.accessToken, seconds);
    const beside = async () => {
      const [latency] = await Promise.all([alone(), flood()]);
      return latency;
    };
    await beside();
    const { value, baseline } = await alternate(isFull ? 5 : 3, beside, alone);
    const size = `99 of 100 lists of 20 rows, beside ${FLOOD} requests at once of another organization`;
    // Requests of both share one thread and two processors: what is kept off is waiting for all of the flood.
    const target = 5;
    return { name: 'neighbour', value, unit: 'ms', baseline, target, met: value / baseline <= target, size };
  },
};
