// CR-08: who rotates is killed, as the kernel kills, at random moments of it; people read and sign up all the while.
// Nobody's reading fails, no key is lost, and the old root is gone at the end.
import { randomInt, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { createRequests } from '../../src/graphql/adaptor.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { killHard, until, workerApart } from '../worker/workplace.ts';

const SCALE = loadConfig().testScale;
/** Keys to wrap anew: a rotation takes longer than it takes to kill it. */
const KEYS = Math.max(10_000, Math.round(100_000 * SCALE));
const KILLS = Math.max(4, Math.round(40 * SCALE));

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let people: Person[];

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  people = [await app.person('ada'), await app.person('grace'), await app.person('mary')];
  // Keys as ensure_data_key() makes them, many in one statement.
  await admin.query('begin');
  await admin.query("select sessions.open_request(null, $1, '{}')", [await app.envelopes.seal(null)]);
  await admin.query(
    `insert into keyring_private.data_keys (id, subject, root_version, wrapped)
       select s.id, s.subject, 1, keyring_private.wrap(k.key, extensions.gen_random_bytes(64), '\\x02'::bytea || uuid_send(s.id) || uuid_send(s.subject))
         from (select platform.uuid_v7() as id, gen_random_uuid() as subject from generate_series(1, $1::integer)) s
         cross join (select keyring_private.key_encryption_key(1) as key offset 0) k`,
    [KEYS],
  );
  await admin.query('commit');
});

const one = async <T>(sql: string) => (await admin.query(sql)).rows[0] as T;
const count = async (from: string) => (await one<{ n: number }>(`select count(*)::int as n from ${from}`)).n;
const open = () => count('keyring_private.works where finished_at is null');
const under = async () =>
  (
    await one<{ n: string }>(
      "select string_agg(n::text, '+') as n from (select count(*) as n from keyring_private.data_keys group by root_version order by root_version) k",
    )
  ).n;

test(`CR-08 ${KILLS} kills in rotations of ${KEYS} keys: nobody’s reading fails, and nothing is left under an old root`, {
  timeout: 600_000,
}, async () => {
  const failures: unknown[] = [];
  let reads = 0;
  let over = false;
  const readers = people.map(async (person) => {
    const pool = db.pool('authenticator', { max: 2, pipeline: true });
    const server = createRequests({ pool, sealer: app.envelopes });
    const source = { requestId: randomUUID(), credential: person.credential, ip: '192.0.2.1', userAgent: 'test' };
    while (!over) {
      try {
        const { rows } = await server.inRequest(source, (client) =>
          client.query<{ name: string }>({ text: 'select u.display_name as name from api."current_user"() u' }),
        );
        if (rows[0]?.name !== person.name) failures.push(rows);
      } catch (error) {
        failures.push(error);
      }
      reads += 1;
      await sleep(2);
    }
  });
  let rotations = 0;
  let inTheMiddle = 0;
  /** Sees to it that there is a rotation to be done, and a job that does it. */
  const begin = async () => {
    if ((await open()) === 0) {
      await admin.query('select keyring.rotate_root()');
      rotations += 1;
    }
    await admin.query('update keyring_private.works set run_at = now() where finished_at is null');
    await admin.query("select graphile_worker.add_job('keyring__work')");
  };
  /** From where a worker has taken the job. */
  const taken = () =>
    until(
      'it works',
      async () => (await open()) === 0 || (await count('graphile_worker.jobs where locked_at is not null')) > 0,
    );
  await begin();
  const first = await workerApart(db, app.keysDirectory, {});
  await taken();
  const began = performance.now();
  await until('the first rotation is over', async () => (await open()) === 0);
  const whole = performance.now() - began;
  await killHard(first);
  for (let kills = 0; kills < KILLS; kills += 1) {
    await begin();
    const worker = await workerApart(db, app.keysDirectory, {});
    await taken();
    await sleep(randomInt(0, Math.ceil(whole)));
    await killHard(worker);
    if ((await under()).includes('+')) inTheMiddle += 1;
  }
  const last = await workerApart(db, app.keysDirectory, {});
  await until(
    'the last rotation is over',
    async () => {
      await admin.query('update keyring_private.works set run_at = now() where finished_at is null');
      await admin.query("select graphile_worker.add_job('keyring__work', job_key => 'test')");
      return (await open()) === 0;
    },
    120,
  );
  await killHard(last);
  over = true;
  await Promise.all(readers);
  if (process.env.SAFETYPIN_FIGURES)
    console.log({ reads, rotations, inTheMiddle, keysPerSecond: Math.round((KEYS / whole) * 1000) });
  expect(failures).toEqual([]);
  expect(reads).toBeGreaterThan(50 * KILLS);
  expect(await one('select count(*)::int as roots, max(version) as version from keyring_private.roots')).toEqual({
    roots: 1,
    version: 1 + rotations,
  });
  expect(await under()).toBe(`${KEYS + (await others())}`);
  // Every key still is what it was: the tag of each is checked.
  await admin.query('begin');
  await admin.query("select sessions.open_request(null, $1, '{}')", [await app.envelopes.seal(null)]);
  const opened = await one<{ n: number }>(
    `select count(keyring_private.unwrap(key, d.wrapped, '\\x02'::bytea || uuid_send(d.id) || uuid_send(d.subject)))::int as n
       from keyring_private.data_keys d cross join (select keyring_private.key_encryption_key(max(version)) as key from keyring_private.roots offset 0) k`,
  );
  await admin.query('rollback');
  expect(opened.n).toBe(KEYS + (await others()));
});

/** Keys of people, organizations and registrations. */
const others = () =>
  count(
    'keyring_private.data_keys where subject in (select id from identity.people union select id from access.organizations union select id from identity_private.registrations)',
  );
