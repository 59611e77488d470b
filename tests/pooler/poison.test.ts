// Whoever has the API's database password, and nothing else, shares a pooler's connections with its requests.
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { createRequests, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { hasPgbouncer, type Pooler, startPooler } from './pgbouncer.ts';

let db: TestDatabase;
let application: Application;
let ada: Person;
let naive: Pooler;
let recommended: Pooler;

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

const LOOK = { name: 'look', text: 'select current_user::text as role, (api."current_user"()).id::text as person' };

const requestsThrough = (pooler: Pooler, statementNames: number): Requests =>
  createRequests({
    pool: pooler.pool({ max: 1, pipeline: true, idleTimeoutMillis: 0 }),
    sealer: application.envelopes,
    statementNames,
  });

/** What somebody else with the same login does, on whatever connection he is given. */
async function attack(pooler: Pooler, sql: string): Promise<string> {
  const attacker = await pooler.connect();
  try {
    return await refusal(attacker.query(sql));
  } finally {
    await attacker.end();
  }
}

describe.runIf(hasPgbouncer)('a hostile client behind the same pooler (F10, PG-55)', () => {
  beforeAll(async () => {
    db = await cloneDatabase();
    application = await Application.beside(db);
    ada = await application.person('ada');
    naive = await startPooler({ db, size: 1, kind: 'naive' });
    recommended = await startPooler({ db, size: 1, kind: 'recommended' });
  });

  /** What a request of Ada's sees, or how it is refused. */
  const asked = async (requests: Requests, text: string): Promise<unknown> =>
    requests
      .inRequest(source(ada), (c) => c.query<Record<string, unknown>>({ text }))
      .then(
        ({ rows }) => rows[0]?.seen,
        (error: { code?: string }) => `refused ${error.code}`,
      );

  describe('a prepared statement under the name of another', () => {
    // The login itself may not even name what it forges; as a member without a session it may, and the name outlives that.
    const FORGED = `begin; set local role safetypin_member; prepare look as
      select 'forged' as role, (api."current_user"()).id::text as person; commit`;
    const look = (requests: Requests) => requests.inRequest(source(ada), async (c) => (await c.query(LOOK)).rows[0]);
    const truth = () => ({ role: 'safetypin_member', person: ada.id });
    const names = "select count(*)::int as seen from pg_prepared_statements where name = 'look'";

    test('runs with the session of the victim when statements have names', async () => {
      const requests = requestsThrough(naive, 100);
      expect(await look(requests)).toEqual(truth());
      expect(await attack(naive, `deallocate look; ${FORGED}`)).toBe('no refusal');
      expect(await look(requests)).toEqual({ role: 'forged', person: ada.id });
      await attack(naive, 'deallocate all');
    });

    test('is never asked for when statements have none, whatever the pooler does', async () => {
      for (const [pooler, left] of [
        [naive, 1],
        [recommended, 0],
      ] as const) {
        const requests = requestsThrough(pooler, 0);
        expect(await look(requests)).toEqual(truth());
        expect(await attack(pooler, FORGED)).toBe('no refusal');
        expect(await look(requests)).toEqual(truth());
        expect(await asked(requests, names)).toBe(left);
      }
      await attack(naive, 'deallocate all');
    });
  });

  // What the attacker runs, what a request looks at, what it sees through a pooler as one finds it, and what it should see.
  const POISONS: readonly (readonly [string, string, string, unknown, unknown])[] = [
    ['a timeout', "set statement_timeout = '1ms'", 'select pg_sleep(0.05)::text as seen', 'refused 57014', ''],
    [
      'a role',
      'set role safetypin_anonymous',
      'select current_user::text as seen',
      'refused 42501',
      'safetypin_member',
    ],
    ['a context', "set safetypin.context = 'mine'", 'select 1 as seen', 'refused CTXAG', 1],
    ['an envelope', "set safetypin.envelope = 'mine'", 'select 1 as seen', 1, 1],
    [
      'a search path',
      'set search_path = access',
      "select current_setting('search_path') as seen",
      'access',
      '"$user", public',
    ],
    [
      'a session that reads only',
      'set session characteristics as transaction read only',
      "select current_setting('transaction_read_only') as seen",
      'on',
      'off',
    ],
    [
      'default_transaction_read_only',
      'set default_transaction_read_only = on',
      "select current_setting('transaction_read_only') as seen",
      'on',
      'off',
    ],
    [
      'another isolation',
      "set default_transaction_isolation = 'serializable'",
      "select current_setting('transaction_isolation') as seen",
      'serializable',
      'read committed',
    ],
    [
      'row security off',
      'set row_security = off',
      'select count(*)::int as seen from access.organizations',
      'refused 42501',
      1,
    ],
    [
      'asserts off',
      'set plpgsql.check_asserts = off',
      "select current_setting('plpgsql.check_asserts') as seen",
      'off',
      'on',
    ],
    ['bytea as escapes', "set bytea_output = 'escape'", "select '\\x00'::bytea::text as seen", '\\000', '\\x00'],
    ['intervals in ISO', "set intervalstyle = 'iso_8601'", "select interval '1 day'::text as seen", 'P1D', '1 day'],
    [
      'plans',
      "set plan_cache_mode = 'force_generic_plan'",
      "select current_setting('plan_cache_mode') as seen",
      'force_generic_plan',
      'auto',
    ],
    [
      'an advisory lock',
      'select pg_advisory_lock(42)',
      "select count(*)::int as seen from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
      1,
      0,
    ],
    ['a channel', 'listen gossip', 'select count(*)::int as seen from pg_listening_channels()', 1, 0],
    [
      'a cursor',
      'begin; declare spy cursor with hold for select 1; commit',
      "select count(*)::int as seen from pg_cursors where name = 'spy'",
      1,
      0,
    ],
    // These four PgBouncer itself gives each client its own of.
    ['a time zone', "set timezone = 'Pacific/Apia'", "select current_setting('timezone') as seen", 'UTC', 'UTC'],
    ['dates', "set datestyle = 'German'", "select date '2020-12-31'::text as seen", '2020-12-31', '2020-12-31'],
    [
      'strings with escapes',
      'set standard_conforming_strings = off',
      "select current_setting('standard_conforming_strings') as seen",
      'on',
      'on',
    ],
    [
      'an encoding',
      "set client_encoding = 'LATIN1'",
      "select current_setting('client_encoding') as seen",
      'UTF8',
      'UTF8',
    ],
  ];

  test.each(POISONS)(
    '%s stays for the next request, and does not behind the recommended pooler',
    async (_name, sql, look, naively, right) => {
      for (const [pooler, seen] of [
        [naive, naively],
        [recommended, right],
      ] as const) {
        expect(await attack(pooler, sql)).toBe('no refusal');
        expect(await asked(requestsThrough(pooler, 0), look)).toEqual(seen);
        // Both have one connection, on which the next test starts from nothing.
        await attack(pooler, 'reset role');
        await attack(pooler, 'discard all');
      }
    },
  );

  test('what PostgreSQL refuses this login needs no pooler', async () => {
    for (const sql of [
      'set session_replication_role = replica',
      "set lc_messages = 'C'",
      'create temp table organizations (id int)',
      'set role safetypin_owner',
      'set session authorization safetypin_owner',
      'select id from access.organizations',
    ]) {
      expect([sql, await attack(recommended, sql)]).toEqual([sql, expect.stringMatching(/^(42501|0A000|22023)$/)]);
    }
  });

  test('a transaction that its client left is not continued by the next one', async () => {
    for (const pooler of [naive, recommended]) {
      const attacker = await pooler.connect();
      await attacker.query("begin; set local statement_timeout = '1ms'");
      (attacker as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
      expect(await asked(requestsThrough(pooler, 0), 'select pg_sleep(0.02)::text as seen')).toBe('');
    }
  });
});
