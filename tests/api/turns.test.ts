// Organizations take turns at the database (AZ-13): a flood of one does not make the others wait for it.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createRequests, type Places, type RequestSource } from '../../src/graphql/adaptor.ts';
import { networkOf, Turns, type TurnsOptions } from '../../src/http/turns.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase } from '../support/database.ts';

/** Who got a place, in order. Each leaves when `leave` is called with his name. */
function watched(options: TurnsOptions) {
  const turns = new Turns(options);
  const order: string[] = [];
  const enter = async (name: string, signal?: AbortSignal): Promise<void> => {
    await turns.enter(name, signal);
    order.push(name);
  };
  return { turns, order, enter };
}

const tick = () => sleep(0);

test('a place that is left goes to the next organization, however many others wait of one', async () => {
  const { turns, order, enter } = watched({ places: 2, share: 2 });
  for (let n = 0; n < 10; n += 1) void enter('a');
  void enter('b');
  void enter('c');
  void enter('b');
  await tick();
  expect(order).toEqual(['a', 'a']);
  for (let n = 0; n < 6; n += 1) {
    turns.leave(order[n] ?? '');
    await tick();
  }
  expect(order.join('')).toBe('aaabcaba');
});

test('nobody has all places: who comes later finds one', async () => {
  const { turns, order, enter } = watched({ places: 10 });
  for (let n = 0; n < 30; n += 1) void enter('a');
  await tick();
  expect(order).toHaveLength(8);
  void enter('b');
  void enter('c');
  await tick();
  expect(order.slice(8)).toEqual(['b', 'c']);
  // What is free is not kept back from whoever may have it.
  turns.leave('b');
  turns.leave('a');
  await tick();
  expect(order.slice(10)).toEqual(['a']);
});

test('too many who wait are turned away, and others are not', async () => {
  let refused = 0;
  const turns = new Turns({
    places: 1,
    waiting: 3,
    waitingInAll: 5,
    milliseconds: 60_000,
    onOverload: () => (refused += 1),
  });
  const gone = new AbortController();
  const waiting: Promise<unknown>[] = [];
  const enter = (name: string) => {
    const turn = turns.enter(name, gone.signal);
    if (turn !== undefined) waiting.push(turn.catch(({ code }) => code));
  };
  for (let n = 0; n < 4; n += 1) enter('a');
  expect(() => enter('a')).toThrow(expect.objectContaining({ code: '55P03' }));
  for (let n = 0; n < 2; n += 1) enter('b');
  expect(() => enter('c')).toThrow(expect.objectContaining({ code: '55P03' }));
  expect(refused).toBe(2);
  // Who goes away leaves his place in the queue, and takes none when his turn would have come.
  gone.abort();
  expect(await Promise.all(waiting)).toEqual(Array(5).fill('57014'));
  turns.leave('a');
  expect(turns.enter('c')).toBe(undefined);
});

test('nobody waits for ever', async () => {
  const turns = new Turns({ places: 1, milliseconds: 20 });
  expect(turns.enter('a')).toBe(undefined);
  await expect(turns.enter('b')).rejects.toMatchObject({ code: '53300' });
  turns.leave('a');
  expect(turns.enter('c')).toBe(undefined);
});

test('a key has a turn of its own once it was found good, so made-up keys have none', () => {
  const turns = new Turns({ places: 1 });
  const turn = { name: 'address 192.0.2.1', once: 'key' };
  expect(turns.nameOf(turn)).toBe('address 192.0.2.1');
  turns.proved(turn);
  expect(turns.nameOf(turn)).toBe('key');
});

test('one network is one asker', () => {
  expect(new Set(['2001:db8:1:2::1', '2001:db8:1:2:3:4:5:6', '2001:db8:1:2:ffff::'].map(networkOf)).size).toBe(1);
  expect(networkOf('2001:db8::1')).toBe('address 2001:db8:0:0');
  expect(networkOf('2001:db8::1')).toBe(networkOf('2001:db8::ffff:1:2'));
  expect(networkOf('192.0.2.1')).not.toBe(networkOf('192.0.2.2'));
});

test('a request of another organization comes between those of a flood (AZ-13)', async () => {
  const db = await cloneDatabase();
  const application = await Application.beside(db);
  const [ada, bob] = [await application.person('ada'), await application.person('bob')];
  const pool = db.pool('authenticator', { max: 2, pipeline: true });
  const source = (person: Person): RequestSource => ({
    requestId: randomUUID(),
    credential: person.credential,
    ip: null,
    userAgent: null,
    turn: { name: person.organization },
  });
  const flood = async (places: Places | undefined) => {
    const requests = createRequests({ pool, sealer: application.envelopes, ...(places && { places }) });
    const done: string[] = [];
    const ask = (person: Person) =>
      requests
        .inRequest(source(person), (client) => client.query({ text: 'select pg_sleep(0.01)' }))
        .then(() => done.push(person.name));
    await Promise.all([...Array.from({ length: 40 }, () => ask(ada)), ask(bob)]);
    return done.indexOf('bob');
  };
  expect(await flood(new Turns({ places: 2 }))).toBeLessThan(6);
  // Without turns whoever comes last is served last.
  expect(await flood(undefined)).toBeGreaterThan(30);
});
