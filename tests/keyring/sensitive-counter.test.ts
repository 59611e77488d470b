// F5: a rollback takes back the record of what was read, never the number it took. The comparison finds it, once, and
// is never wrong about what is under way.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { CLINIC, type Event, type Gap, Openings, PATIENTS } from './openings.ts';

let db: TestDatabase;
let app: Application;
let openings: Openings;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  const owner = await db.connect('owner');
  await owner.query(CLINIC);
  openings = await Openings.of(app);
  ada = await app.person('ada');
  await app.rows(ada.credential, PATIENTS);
  await openings.compare();
});

const READ = "select clinic.patients_ssn(p) as ssn from clinic.patients p where name = 'p01'";
const VALUE = { rows: [{ ssn: '078-05-1101' }] };

/** A transaction of the API's login with Ada's request open, left to its own fate. */
async function begun(): Promise<pg.Client> {
  const client = await db.connect('authenticator');
  await client.query('begin');
  await app.open(client, ada.credential);
  return client;
}

const ended = async (client: pg.Client) => {
  const { rows } = await openings.admin.query(
    "select pid from pg_stat_activity where pid <> pg_backend_pid() and usename = 'safetypin_authenticator' and state <> 'idle'",
  );
  await client.end().catch(() => {});
  for (let i = 0; i < 100; i += 1) {
    const left = await openings.admin.query("select from pg_stat_activity where pid = any ($1) and state <> 'idle'", [
      rows.map(({ pid }) => pid),
    ]);
    if (left.rowCount === 0) return;
    await sleep(20);
  }
};

const pidOf = (client: pg.Client) => (client as unknown as { processID: number }).processID;
const one = (count = 1): Event[] => [
  { action: 'value.mismatch', row_id: null, details: expect.objectContaining({ count, because: 'unrecorded' }) },
];

describe('F5, PG-64 what was read and not recorded raises an alert, once', () => {
  const READINGS: readonly (readonly [string, () => Promise<unknown>])[] = [
    [
      'a rollback',
      async () => {
        const client = await begun();
        expect(await client.query(READ)).toMatchObject(VALUE);
        await client.query('rollback');
      },
    ],
    [
      'a rollback to a savepoint, and a commit of the rest',
      () =>
        app.as(ada.credential, async (client) => {
          await client.query('savepoint before');
          expect(await client.query(READ)).toMatchObject(VALUE);
          await client.query('rollback to savepoint before');
        }),
    ],
    [
      'an error that was caught in a block',
      () =>
        app.as(ada.credential, (client) =>
          client.query(
            `do $$ begin perform 1 / (length(name) - 3) from clinic.patients p where name = 'p01' and clinic.patients_ssn(p) like '0%'; exception when others then null; end $$`,
          ),
        ),
    ],
    [
      'an error whose text is the value',
      async () => {
        const text = READ.replace(' as ssn', '::integer');
        await expect(app.rows(ada.credential, text)).rejects.toThrow('078-05-1101');
      },
    ],
    [
      'a cancelled statement, behind the value',
      async () => {
        const client = await begun();
        expect(await client.query(READ)).toMatchObject(VALUE);
        const sleeping = refusal(client.query('select pg_sleep(60)'));
        await sleep(50);
        await openings.admin.query('select pg_cancel_backend($1)', [pidOf(client)]);
        expect(await sleeping).toBe('57014');
        await ended(client);
      },
    ],
    [
      'a client that goes away with the value',
      async () => {
        const client = await begun();
        expect(await client.query(READ)).toMatchObject(VALUE);
        (client as unknown as { connection: { stream: { destroy(): void } } }).connection.stream.destroy();
        await ended(client);
      },
    ],
    [
      'a backend that is terminated',
      async () => {
        const client = await begun();
        expect(await client.query(READ)).toMatchObject(VALUE);
        await openings.admin.query('select pg_terminate_backend($1, 5000)', [pidOf(client)]);
      },
    ],
  ];

  test.each(READINGS)('%s', async (_name, read) => {
    await read();
    expect(await openings.alerts()).toEqual(one());
    expect(await openings.alerts()).toEqual([]);
  });

  test('says which numbers, and between which moments', async () => {
    await app.rows(ada.credential, READ);
    const number = await openings.counter();
    await refusal(app.rows(ada.credential, `${READ} and 1 / (length(clinic.patients_ssn(p)) - 11) > 0`));
    await app.rows(ada.credential, READ);
    const [alert, ...more] = await openings.alerts();
    expect(more).toEqual([]);
    const [gap] = (alert?.details.numbers ?? []) as Gap[];
    expect(gap?.first).toBe(number + 1);
    expect(gap?.last).toBe((await openings.counter()) - 1);
    expect(Date.parse(gap?.after ?? '')).toBeLessThanOrEqual(Date.parse(gap?.before ?? ''));
    expect(Date.parse(gap?.before ?? '') - Date.parse(gap?.after ?? '')).toBeLessThan(10_000);
    const { rows } = await openings.admin.query(
      "select distinct severity, organization_id::text from audit.events where action = 'value.mismatch'",
    );
    expect(rows).toEqual([{ severity: 'alert', organization_id: '00000000-0000-0000-0000-000000000000' }]);
  });

  test('F5 and would raise none, if the number came from a table', async () => {
    await withoutGuard(
      db,
      'keyring_private.record_reading(text, keyring_private.sealed_columns, uuid[], uuid[])',
      "nextval('keyring_private.opening_numbers')",
      '(select coalesce(max(o.number), 0) + 1000000 from keyring_private.openings o)',
      async () => {
        const client = await begun();
        expect(await client.query(READ)).toMatchObject(VALUE);
        await client.query('rollback');
        await client.end();
        expect(await openings.alerts()).toEqual([]);
      },
    );
  });

  test('what is recorded raises none, and leaves no row behind', async () => {
    for (let i = 0; i < 3; i += 1) await app.rows(ada.credential, READ);
    expect(await openings.alerts()).toEqual([]);
    expect((await openings.admin.query('select from keyring_private.openings')).rowCount).toBe(0);
    const { rows } = await openings.admin.query('select * from keyring.openings_state()');
    expect(rows).toEqual([{ judged_at: expect.any(Date), waiting: '0' }]);
  });
});

describe('what is under way', () => {
  beforeEach(() => openings.alerts());

  test('is waited for, whoever reads beside it, and is no false alarm', async () => {
    const slow = await begun();
    await slow.query(READ);
    await app.rows(ada.credential, READ);
    expect(await openings.alerts()).toEqual([]);
    const behind = await begun();
    await behind.query(READ);
    await slow.query('commit');
    // What began behind the boundary holds nothing up.
    expect(await openings.compare()).toBe(2);
    await behind.query('commit');
    expect(await openings.alerts()).toEqual([]);
    expect(await openings.compare()).toBe(0);
    await slow.end();
    await behind.end();
  });

  test('would be one, if nobody waited', async () => {
    const slow = await begun();
    await slow.query(READ);
    await withoutGuard(db, 'keyring.compare_openings(integer)', /v_held := [^;]*;/, 'v_held := false;', async () => {
      expect(await openings.alerts()).toEqual(one());
    });
    await slow.query('commit');
    await slow.end();
    await openings.compare();
  });

  test('elsewhere holds nothing up: a transaction that writes and reads nothing sensitive', async () => {
    const other = await begun();
    await other.query("update clinic.patients set name = 'p20' where name = 'p20'");
    const client = await begun();
    await client.query(READ);
    await client.query('rollback');
    await client.end();
    expect(await openings.alerts()).toEqual(one());
    await other.query('commit');
    await other.end();
  });

  test('counts as unrecorded when it was held for too long, once, whatever becomes of it', async () => {
    const held = await begun();
    await held.query(READ);
    expect(await openings.alerts()).toEqual([]);
    await openings.admin.query(
      "update keyring_private.opening_checks set bounded_at = now() - interval '3601 seconds'",
    );
    expect(await openings.alerts()).toMatchObject([{ details: { count: 1, because: 'held' } }]);
    await held.query('commit');
    await held.end();
    expect(await openings.alerts()).toEqual([]);
  });

  test('a part of it that was rolled back is found when the rest has ended', async () => {
    const client = await begun();
    await client.query(READ);
    await client.query('savepoint inside');
    await client.query(READ);
    await client.query('rollback to savepoint inside');
    expect(await openings.alerts()).toEqual([]);
    await client.query('commit');
    await client.end();
    expect(await openings.alerts()).toEqual(one());
  });

  test('fifty readers, some of whom roll back, while it is compared all the time: each missing one once', async () => {
    const readings = Math.max(50, Math.round(1000 * loadConfig().testScale));
    let missing = 0;
    let reading = true;
    const read = async (turn: number) => {
      const client = await app.pool.connect();
      try {
        await client.query('begin');
        await app.open(client, ada.credential);
        await client.query(READ);
        if (turn % 3 === 0) await sleep(turn % 20);
        const isMissing = turn % 7 === 0;
        if (isMissing) missing += 1;
        await client.query(isMissing ? 'rollback' : 'commit');
      } finally {
        client.release();
      }
    };
    const found: Event[] = [];
    const comparing = (async () => {
      while (reading) found.push(...(await openings.alerts()));
      found.push(...(await openings.alerts()));
    })();
    const turns = Array.from({ length: readings }, (_, turn) => turn);
    await Promise.all(
      Array.from({ length: 50 }, async () => {
        for (let turn = turns.pop(); turn !== undefined; turn = turns.pop()) await read(turn);
      }),
    );
    reading = false;
    await comparing;
    expect(missing).toBeGreaterThan(5);
    expect(found.map(({ details }) => details.because)).toEqual(found.map(() => 'unrecorded'));
    expect(found.reduce((sum, { details }) => sum + Number(details.count), 0)).toBe(missing);
  });
});

describe('the comparison', () => {
  test('goes in batches, and finds what is on their edges', async () => {
    await openings.compare();
    for (let i = 0; i < 10; i += 1) {
      const client = await begun();
      await client.query(READ);
      await client.query(i % 5 === 4 ? 'rollback' : 'commit');
      await client.end();
    }
    await openings.events();
    expect(await openings.compare(5)).toBe(10);
    const found = (await openings.events()).filter(({ action }) => action === 'value.mismatch');
    expect(found.map(({ details }) => details.count)).toEqual([1, 1]);
  });

  test('F18 is done by the job of its name alone, and never by an old snapshot', async () => {
    expect(await refusal(openings.compare(1, 'keyring__clean_up'))).toBe('DENYD');
    await openings.admin.query(
      `alter role safetypin_jobs in database ${pg.escapeIdentifier(db.name)} set default_transaction_isolation = 'repeatable read'`,
    );
    const again = await Openings.of(app);
    expect(await refusal(again.compare())).toBe('22023');
    await openings.admin.query(
      `alter role safetypin_jobs in database ${pg.escapeIdentifier(db.name)} reset default_transaction_isolation`,
    );
  });
});
