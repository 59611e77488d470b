import { fork } from 'node:child_process';
import { join } from 'node:path';
import type { HashOrder } from './argon-process.ts';
import { alternate, type Bench } from './bench.ts';
import { LOGIN, makeMember } from './members.ts';
import type { Place } from './place.ts';

const PEOPLE = 16;
const PARAMETERS = { memory: 19456, passes: 2, parallelism: 1, length: 32 };

/** Password sign-ins a second through GraphQL, against pure Argon2id at the same parameters. */
export const signIn: Bench = {
  name: 'sign_in',
  async run(place: Place, isFull: boolean) {
    const api = await place.serve('api-process.ts');
    // Each connection signs in its own person: attempts on one account at once would lock it.
    const people = [];
    for (let i = 0; i < PEOPLE; i += 1) people.push(await makeMember(api, `signer${i}`));
    const bodies = people.map(({ email, password }) =>
      JSON.stringify({ query: LOGIN, variables: { i: { email, password } } }),
    );
    const seconds = isFull ? 10 : 5;
    const argon = fork(join(import.meta.dirname, 'argon-process.ts'));
    try {
      const hashes = (time: number): Promise<number> =>
        new Promise((resolve) => {
          argon.once('message', (perSecond) => resolve(perSecond as number));
          argon.send({ parameters: PARAMETERS, seconds: time } satisfies HashOrder);
        });
      const headers = { 'content-type': 'application/json' };
      const signIns = (time: number) => place.load({ port: api, path: '/graphql', headers, bodies, seconds: time });
      await signIns(2);
      await hashes(1);
      const { value, baseline } = await alternate(
        isFull ? 7 : 5,
        () => signIns(seconds),
        () => hashes(seconds),
      );
      const target = 0.9;
      return {
        name: 'sign_in',
        value,
        unit: 'sign-ins/s',
        baseline,
        target,
        met: value / baseline >= target,
        size: `${PEOPLE} people`,
      };
    } finally {
      argon.kill();
    }
  },
};
