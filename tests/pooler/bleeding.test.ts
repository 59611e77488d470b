// Many organizations, few connections, and whatever can go wrong in between: nobody ever gets a row of somebody else's.
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { createRequests, type RequestClient, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { hasPgbouncer, startPooler } from './pgbouncer.ts';

const REQUESTS = Math.round(100_000 * loadConfig().testScale);
const ORGANIZATIONS = 12;
const CANARIES = 5;
/** Requests under way at a time: far more than connections, so that each connection goes from one to the next. */
const AT_ONCE = 32;

let db: TestDatabase;
let application: Application;
let people: Person[];

const NOTES = `
  create schema ward;
  create table ward.notes (
    organization_id uuid not null default request.organization_id(), id uuid not null default gen_random_uuid(),
    secret text not null, primary key (organization_id, id));
  comment on schema ward is 'Of a test.';
  comment on table ward.notes is 'Of a test.';
  grant usage on schema ward to safetypin_member;
  select access.protect('ward.notes');`;

beforeAll(async () => {
  db = await cloneDatabase();
  const owner = await db.connect('owner');
  await owner.query(NOTES);
  await owner.end();
  application = await Application.beside(db);
  people = [];
  for (let i = 0; i < ORGANIZATIONS; i += 1) people.push(await application.person(`p${i}`));
  for (const { credential, id } of people) {
    await application.rows(
      credential,
      "insert into ward.notes (secret) select format('canary of %s', $1::text) from generate_series(1, $2)",
      [id, CANARIES],
    );
  }
});

/** The same numbers in each run. */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

const READ = { name: 'read', text: 'select secret, organization_id::text as organization from ward.notes' };
const WHO = {
  name: 'who',
  text: 'select (api."current_user"()).id::text as person, current_user::text as role',
};

interface Note {
  readonly secret: string;
  readonly organization: string;
}

interface Tally {
  read: number;
  nobody: number;
  failed: number;
  timedOut: number;
  aborted: number;
  wrong: string[];
}

async function reads(c: RequestClient, person: Person, tally: Tally): Promise<void> {
  // Sent together, as PostGraphile does.
  const [notes, who] = await Promise.all([c.query<Note>(READ), c.query<{ person: string; role: string }>(WHO)]);
  const isRight =
    notes.rows.length === CANARIES &&
    notes.rows.every(
      ({ secret, organization }) => secret === `canary of ${person.id}` && organization === person.organization,
    ) &&
    who.rows[0]?.person === person.id &&
    who.rows[0].role === 'safetypin_member';
  if (!isRight) tally.wrong.push(`${person.id}: ${JSON.stringify([notes.rows, who.rows])}`);
}

/** One request of one kind; everything it is told is looked at. */
async function one(requests: Requests, roll: () => number, tally: Tally): Promise<void> {
  const person = people[Math.floor(roll() * ORGANIZATIONS)] as Person;
  const kind = roll();
  const failing = (sql: string) =>
    requests
      .inRequest(source(person), async (c) => {
        await reads(c, person, tally);
        await c.query({ text: sql });
      })
      .catch((error: { code?: string }) => error.code);
  if (kind < 0.8) {
    await requests.inRequest(source(person), (c) => reads(c, person, tally));
    tally.read += 1;
  } else if (kind < 0.9) {
    const rows = await requests.inRequest(source(null), async (c) => (await c.query(WHO)).rows);
    if (JSON.stringify(rows) !== '[{"person":null,"role":"safetypin_anonymous"}]')
      tally.wrong.push(JSON.stringify(rows));
    tally.nobody += 1;
  } else if (kind < 0.94) {
    if ((await failing('select 1/0')) === '22012') tally.failed += 1;
  } else if (kind < 0.95) {
    if ((await failing("set local statement_timeout = '3ms'; select pg_sleep(1)")) === '57014') tally.timedOut += 1;
  } else {
    const gone = new AbortController();
    setTimeout(() => gone.abort(), roll() * 6);
    await requests
      .inRequest(
        source(person),
        async (c) => {
          await reads(c, person, tally);
          if (roll() < 0.3) await c.query({ text: 'select pg_sleep(2)' });
          await reads(c, person, tally);
        },
        gone.signal,
      )
      .catch((error: { code?: string }) => {
        if (error.code !== '57014') throw error;
        tally.aborted += 1;
      });
  }
}

async function all(requests: Requests, count: number): Promise<Tally> {
  const tally: Tally = { read: 0, nobody: 0, failed: 0, timedOut: 0, aborted: 0, wrong: [] };
  let left = count;
  const lanes = Array.from({ length: AT_ONCE }, async (_, lane) => {
    const roll = dice(lane + 1);
    while (left > 0) {
      left -= 1;
      await one(requests, roll, tally);
    }
  });
  await Promise.all(lanes);
  return tally;
}

function expectWhole(tally: Tally, count: number): void {
  expect(tally.wrong).toEqual([]);
  expect(tally.read).toBeGreaterThan(count * 0.75);
  // Each kind of trouble did happen.
  for (const kind of ['nobody', 'failed', 'timedOut', 'aborted'] as const)
    expect([kind, tally[kind]]).not.toEqual([kind, 0]);
}

describe('interleaved requests of many organizations (PG-50)', () => {
  test(`${REQUESTS} on two connections do not bleed`, { timeout: 900_000 }, async () => {
    const pool = db.pool('authenticator', { max: 2, pipeline: true });
    const began = performance.now();
    const tally = await all(createRequests({ pool, sealer: application.envelopes }), REQUESTS);
    const seconds = (performance.now() - began) / 1000;
    const { wrong, ...counts } = tally;
    process.stderr.write(`bleeding: ${REQUESTS} requests in ${seconds.toFixed(1)} s, ${JSON.stringify(counts)}\n`);
    expectWhole(tally, REQUESTS);
    expect(pool.totalCount).toBeLessThanOrEqual(2);
    // What was made for a moment is gone.
    const admin = await db.connect('admin');
    const { rows } = await admin.query(
      "select count(*)::int as locks from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())",
    );
    expect(rows).toEqual([{ locks: 0 }]);
    await admin.end();
  });

  test('and would be seen if they did', async () => {
    const pool = db.pool('authenticator', { max: 2, pipeline: true });
    const requests = createRequests({ pool, sealer: application.envelopes });
    const [ada, bob] = people as [Person, Person];
    const tally: Tally = { read: 0, nobody: 0, failed: 0, timedOut: 0, aborted: 0, wrong: [] };
    // As if Bob's request had been given Ada's connection.
    await requests.inRequest(source(ada), (c) => reads(c, bob, tally));
    expect(tally.wrong).toHaveLength(1);
  });

  test.runIf(hasPgbouncer)('nor through PgBouncer on two connections (PG-55)', { timeout: 300_000 }, async () => {
    const pooler = await startPooler({ db, size: 2, kind: 'recommended' });
    const count = Math.round(REQUESTS / 10);
    const pool = pooler.pool({ max: 8, pipeline: true });
    expectWhole(await all(createRequests({ pool, sealer: application.envelopes, statementNames: 0 }), count), count);
  });
});
