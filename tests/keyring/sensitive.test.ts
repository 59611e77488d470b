// Columns of class sensitive: who reads a value leaves an event, whichever way he takes (DESIGN 5, F5, GQ-07, AU-01).
import type { EventEmitter } from 'node:events';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { takeRoles } from '../support/owners.ts';
import { CLINIC, Openings, PATIENTS } from './openings.ts';

let db: TestDatabase;
let app: Application;
let openings: Openings;
let owner: pg.Client;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  owner = await db.connect('owner');
  await owner.query(CLINIC);
  openings = await Openings.of(app);
  ada = await app.person('ada');
  bob = await app.person('bob');
  await app.rows(ada.credential, PATIENTS);
});

const rows = (text: string, values: unknown[] = []) => app.rows(ada.credential, text, values);
const READ = 'select clinic.patients_ssn(p) as ssn from clinic.patients p';

describe('AU-01 a value that is opened', () => {
  test('leaves an event in the same transaction: who, which row, which column, whose; never the value', async () => {
    await openings.events();
    expect(await rows(`${READ} where name = 'p01'`)).toEqual([{ ssn: '078-05-1101' }]);
    const { rows: found } = await openings.admin.query(
      `select e.organization_id, e.actor_id, e.session_id, e.action, e.category, e.relation, e.row_id = p.id::text as is_row,
          e.details - 'number' - 'column' as details, e.details ->> 'subject' = p.id::text as is_subject, e.entry, p.id
        from audit.events e, clinic.patients p where e.action = 'value.open' and p.name = 'p01'`,
    );
    expect(found).toMatchObject([
      {
        organization_id: ada.organization,
        actor_id: ada.id,
        session_id: ada.session,
        category: 'access',
        relation: 'clinic.patients',
        is_row: true,
        is_subject: true,
        details: { name: 'ssn', subject: found[0].id },
      },
    ]);
    expect(found[0].entry.toString('latin1')).not.toContain('078-05-');
    expect(found[0].entry.toString('latin1')).toContain(found[0].id);
  });

  test('is one of as many events as there were values', async () => {
    expect(await openings.during(() => rows(READ))).toEqual({ numbers: 20, events: 20 });
    expect(await openings.during(() => rows(`${READ} where name = 'nobody'`))).toEqual({ numbers: 0, events: 0 });
    const twice = "select clinic.patients_ssn(p), clinic.patients_ssn(p) from clinic.patients p where name = 'p01'";
    expect(await openings.during(() => rows(twice))).toEqual({ numbers: 2, events: 2 });
    const { rows: doors } = await openings.admin.query("select id from keyring_private.doors where door = 'ssn'");
    const set = `select o.value from (select array_agg(id) as ids, array_agg(ssn_sealed) as sealed from clinic.patients) p,
      keyring.open_values('${doors[0].id}', p.ids, p.sealed) o`;
    expect(await openings.during(() => rows(set))).toEqual({ numbers: 20, events: 20 });
  });

  test('keeps the name that the column has now, and tells row and subject by id', async () => {
    await owner.query('alter table clinic.patients rename column ssn to social');
    await openings.events();
    await rows("select clinic.patients_ssn(p) from clinic.patients p where name = 'p02'");
    expect(await openings.events()).toMatchObject([{ action: 'value.open', details: { name: 'social' } }]);
    await owner.query('alter table clinic.patients rename column social to ssn');
  });

  test('of another class leaves none, nor does null, nor what was not opened', async () => {
    await rows("insert into clinic.patients (name) values ('empty')");
    const nothing = { numbers: 0, events: 0 };
    expect(await openings.during(() => rows('select clinic.patients_phone(p) from clinic.patients p'))).toEqual(
      nothing,
    );
    expect(await openings.during(() => rows(`${READ} where name = 'empty'`))).toEqual(nothing);
    await rows("delete from clinic.patients where name = 'empty'");
    await takeRoles(openings.admin, bob.organization);
    expect(await openings.during(() => app.rows(bob.credential, READ))).toEqual(nothing);
    expect(
      await openings.during(() =>
        app
          .rows(bob.credential, 'select keyring.open_value($1, $2, $3)', [
            '019a9d5c-0000-7000-8000-000000000001',
            ada.id,
            '\\x00',
          ])
          .catch(() => {}),
      ),
    ).toEqual(nothing);
  });

  test('is told to who may read the trail of the organization, and to nobody else', async () => {
    const told = 'select count(*)::int as told from audit.events where action = $1';
    expect((await app.call<{ told: number }>(ada.credential, told, ['value.open'])).told).toBeGreaterThan(20);
    expect(await app.call(bob.credential, told, ['value.open'])).toEqual({ told: 0 });
  });

  test('nobody who signs in reaches the counter, its rows or the functions behind them', async () => {
    for (const text of [
      'select last_value from keyring_private.opening_numbers',
      "select nextval('keyring_private.opening_numbers')",
      "select setval('keyring_private.opening_numbers', 1)",
      'select * from keyring_private.openings',
      'lock table keyring_private.openings in row exclusive mode',
      'select * from keyring.openings_state()',
      'select keyring.compare_openings(1)',
      `with r as (${READ} limit 1) select lastval() from r`,
    ]) {
      expect(await refusal(rows(text)), text).toMatch(/^(42501|DENYD|55000)$/);
    }
  });
});

describe('whoever finds a row by a guess', () => {
  test('leaves an event too, hit or not, without the guess', async () => {
    await openings.events();
    expect(await rows("select name from clinic.patients_by_ssn('078-05-1101')")).toEqual([{ name: 'p01' }]);
    expect(await rows("select name from clinic.patients_by_ssn('078-05-9999')")).toEqual([]);
    const events = await openings.events();
    expect(new Set(events.map(({ action }) => action))).toEqual(new Set(['value.find']));
    expect(JSON.stringify(events)).not.toContain('078-05-');
    expect(events.every(({ row_id, details }) => row_id === null && details.name === 'ssn')).toBe(true);
  });

  test('F5 would go through every number unseen without it', async () => {
    const guess = () => rows("select name from clinic.patients_by_ssn('078-05-1101')");
    await withoutGuard(
      db,
      'keyring.blind_index(uuid, text, text)',
      /perform keyring_private\.record_reading[^;]*;/,
      '',
      async () => {
        const seen = await openings.during(guess);
        expect(seen).toEqual({ numbers: 0, events: 0 });
      },
    );
    expect((await openings.during(guess)).events).toBeGreaterThan(0);
  });
});

describe('GQ-07 a read-only transaction', () => {
  const readOnly = (how: string) =>
    app.as(ada.credential, async (client) => {
      await client.query(how);
      return (await client.query(`${READ} where name = 'p01'`)).rows;
    });
  const MODES = ['set transaction read only', 'set local transaction_read_only = on'];

  test.each(MODES)('is refused with a reason of its own: %s', async (mode) => {
    const seen = await openings.during(async () => expect(await refusal(readOnly(mode))).toBe('KEYRO'));
    expect(seen).toEqual({ numbers: 0, events: 0 });
  });

  test('is refused from the start of a session, and reads what is not sensitive', async () => {
    const client = await db.connect('authenticator');
    const read = async (column: string) => {
      await client.query('begin');
      try {
        await app.open(client, ada.credential);
        return (
          await client.query(`select clinic.patients_${column}(p) as value from clinic.patients p where name = 'p01'`)
        ).rows;
      } finally {
        await client.query('rollback');
      }
    };
    await client.query('set default_transaction_read_only = on');
    expect(await refusal(read('ssn'))).toBe('KEYRO');
    expect(await read('phone')).toEqual([{ value: '555-0101' }]);
    expect(await refusal(readOnly("set transaction read only; select clinic.patients_by_ssn('1')"))).toBe('KEYRO');
  });

  test('F5 would read without an event if nothing were written, and fails without a word why if nobody asked', async () => {
    const open = 'keyring.open_values(uuid, uuid[], bytea[])';
    const guard = /perform keyring_private\.demand_record\(\);/;
    await withoutGuard(db, open, guard, 'null;', async () => {
      expect(await refusal(readOnly('set transaction read only'))).toBe('25006');
      await withoutGuard(db, open, /and v_column\.class = 'sensitive'/, 'and false', async () => {
        expect(await readOnly('set transaction read only')).toEqual([{ ssn: '078-05-1101' }]);
      });
    });
  });
});

describe('F5 a plan', () => {
  const PLANS = [
    `explain ${READ}`,
    `explain (verbose, costs) ${READ} where clinic.patients_ssn(p) = '078-05-1101'`,
    `explain select from clinic.patients_by_ssn('078-05-1101')`,
    `prepare plan as ${READ} where name = $1; set local plan_cache_mode = force_generic_plan; explain execute plan('p01')`,
  ];
  test.each(PLANS)('opens nothing: %s', async (text) => {
    expect(await openings.during(() => app.as(ada.credential, (client) => client.query(text)))).toEqual({
      numbers: 0,
      events: 0,
    });
  });

  test('that is run with explain analyze opens, and is recorded', async () => {
    expect(await openings.during(() => rows(`explain analyze ${READ}`))).toEqual({ numbers: 20, events: 20 });
  });

  test('would open a value to estimate with, if the function were stable', async () => {
    const { rows: found } = await openings.admin.query(
      "select d.id, p.id as row, p.ssn_sealed as sealed from clinic.patients p, keyring_private.doors d where p.name = 'p01' and d.door = 'ssn'",
    );
    const { id, row, sealed } = found[0];
    const text = `explain select from clinic.patients where name < keyring.open_value('${id}', '${row}', '\\x${sealed.toString('hex')}')`;
    expect(await openings.during(() => rows(text))).toEqual({ numbers: 0, events: 0 });
    await openings.admin.query('alter function keyring.open_value(uuid, uuid, bytea) stable');
    try {
      const { numbers, events } = await openings.during(() => rows(text));
      expect(numbers).toBeGreaterThan(0);
      expect(events).toBe(numbers);
    } finally {
      await openings.admin.query('alter function keyring.open_value(uuid, uuid, bytea) volatile');
    }
  });
});

describe('a statement opens what it gives or compares, and no more', () => {
  const WAYS: readonly (readonly [string, number])[] = [
    [`${READ} limit 0`, 0],
    [`select count(*) from (${READ}) x`, 20],
    [`with unused as (${READ}) select 1`, 0],
    [`select exists (${READ})`, 0],
    [`declare c cursor for ${READ}`, 0],
    [`declare c cursor for ${READ}; fetch 3 from c; close c`, 3],
    [`${READ} limit 1`, 1],
    [`select x.name from (select name, clinic.patients_ssn(p) from clinic.patients p offset 0) x`, 20],
    [`select name from clinic.patients p where clinic.patients_ssn(p) = '078-05-1107'`, 20],
    [`select name from clinic.patients p where name = 'p07' and clinic.patients_ssn(p) like '078%'`, 1],
    [`select name from clinic.patients p order by clinic.patients_ssn(p)`, 20],
    [`select max(clinic.patients_ssn(p)) from clinic.patients p`, 20],
    [`select (select clinic.patients_ssn(q) from clinic.patients q where q.id = p.id) from clinic.patients p`, 20],
    [`with c as materialized (${READ}) select * from c limit 2`, 2],
    [`prepare one as ${READ} where name = $1; execute one('p01'); execute one('p02')`, 2],
    [
      `set local debug_parallel_query = on; set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0; ${READ}`,
      20,
    ],
    [`update clinic.patients p set name = name where name = 'p01' returning clinic.patients_ssn(p)`, 1],
    [`do $$ begin perform clinic.patients_ssn(p) from clinic.patients p where name = 'p01'; end $$`, 1],
  ];
  test.each(WAYS)('%s', async (text, count) => {
    const version = Number((await openings.admin.query('show server_version_num')).rows[0].server_version_num);
    const statement = version < 160_000 ? text.replace('debug_parallel_query', 'force_parallel_mode') : text;
    const seen = await openings.during(() =>
      app.as(ada.credential, async (client) => {
        await client.query(statement);
        await client.query('deallocate all');
      }),
    );
    expect(seen).toEqual({ numbers: count, events: count });
  });

  test('copy … to stdout', async () => {
    const chunks: Buffer[] = [];
    const seen = await openings.during(() =>
      app.as(ada.credential, async (client) => {
        const { connection } = client as unknown as { connection: EventEmitter };
        connection.on('copyData', ({ chunk }: { chunk: Buffer }) => chunks.push(Buffer.from(chunk)));
        await client.query(`copy (${READ} where name < 'p04') to stdout`);
      }),
    );
    expect(Buffer.concat(chunks).toString().split('\n').sort()).toEqual([
      '',
      '078-05-1101',
      '078-05-1102',
      '078-05-1103',
    ]);
    expect(seen).toEqual({ numbers: 3, events: 3 });
  });

  test("a view, a default and a function of the table's owner, which others use", async () => {
    await owner.query(`
      create view clinic.open_patients with (security_invoker = true) as
        select p.organization_id, p.name, clinic.patients_ssn(p) as ssn from clinic.patients p;
      create view clinic.owned_patients as select p.name, clinic.patients_ssn(p) as ssn from clinic.patients p;
      create function clinic.first_ssn() returns text language sql
        return (select clinic.patients_ssn(p) from clinic.patients p where name = 'p01');
      create table clinic.notes (organization_id uuid not null, id uuid default platform.uuid_v7(),
        text text default clinic.first_ssn(), primary key (organization_id, id));
      select access.protect('clinic.notes');
      grant select on clinic.open_patients, clinic.owned_patients to safetypin_member;
      grant execute on function clinic.first_ssn() to safetypin_member;`);
    for (const text of [
      "select ssn from clinic.open_patients where name = 'p01'",
      'select clinic.first_ssn() as ssn',
      'insert into clinic.notes default values returning text as ssn',
    ]) {
      const seen = await openings.during(async () => expect(await rows(text)).toEqual([{ ssn: '078-05-1101' }]));
      expect([text, seen]).toEqual([text, { numbers: 1, events: 1 }]);
    }
    // A view that reads as its owner: row-level security is as for him, opening and its record as for who asks.
    expect(await openings.during(() => rows('select ssn from clinic.owned_patients'))).toEqual({
      numbers: 20,
      events: 20,
    });
  });
});

describe('fifty readers at once', () => {
  test('wait for nobody, and every value is recorded once', async () => {
    const clients = await Promise.all(Array.from({ length: 20 }, () => app.pool.connect()));
    for (const client of clients) client.release();
    const seen = await openings.during(() => Promise.all(Array.from({ length: 50 }, () => rows(READ))));
    expect(seen).toEqual({ numbers: 1000, events: 1000 });
  });
});
