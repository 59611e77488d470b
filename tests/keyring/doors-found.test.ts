// What sealed values are found by: equal values of a type are found, and their blind indexes say so of one column in one
// organization alone (CR-06, PG-72).
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

const TYPES = [
  'text',
  'varchar(20)',
  'char(6)',
  'bigint',
  'numeric',
  'numeric(9,2)',
  'double precision',
  'boolean',
  'date',
  'timestamptz',
  'uuid',
  'inet',
];

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  [ada, bob] = [await app.person('ada'), await app.person('bob')];
  const owner = await db.connect('owner');
  await owner.query(`create schema s; create table s.t (organization_id uuid not null default request.organization_id(), id bigserial primary key,
    ${TYPES.map((type, at) => `c${at} ${type}`).join(', ')}, d text)`);
  for (const at of TYPES.keys()) {
    await owner.query(`select keyring.seal_column('s.t', 'c${at}', searchable => true, options => '{"unique": true}')`);
  }
  await owner.query(`select keyring.seal_column('s.t', 'd', searchable => true);
    grant usage on schema s to safetypin_member; grant select, insert, update, delete on s.t to safetypin_member;
    grant usage on all sequences in schema s to safetypin_member`);
}, 60_000);

describe('a value', () => {
  it.each([
    ['text', 'Ab', 'Ab', 'ab'],
    ['varchar(20)', 'Ab', 'Ab', 'ab'],
    ['char(6)', 'Ab', 'Ab    ', 'ab'],
    ['bigint', '12', ' 012', '13'],
    ['numeric', '1.0', '1.000', '1.001'],
    ['numeric(9,2)', '1', '1.001', '1.01'],
    ['double precision', '-0', '0', '1'],
    ['boolean', 't', 'yes', 'no'],
    ['date', '2024-02-01', 'Feb 1, 2024', '2024-01-02'],
    ['timestamptz', '2024-02-01 12:00+01', '2024-02-01 11:00+00', '2024-02-01 12:00+00'],
    [
      'uuid',
      'A0EEBC999C0B4EF8BB6D6BB9BD380A11',
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
      'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12',
    ],
    ['inet', '10.0.0.1', '10.0.0.1/32', '10.0.0.1/24'],
  ])('of type %s is found, and unique, however an equal one is written', async (type, written, equal, other) => {
    const column = `c${TYPES.indexOf(type)}`;
    await app.rows(ada.credential, `insert into s.t (${column}) values ($1)`, [written]);
    const found = async (person: Person, value: string) =>
      (await app.rows(person.credential, `select from s.t_by_${column}($1)`, [value])).length;
    expect([
      await found(ada, written),
      await found(ada, equal),
      await found(ada, other),
      await found(bob, written),
    ]).toEqual([1, 1, 0, 0]);
    expect(await refusal(app.rows(ada.credential, `insert into s.t (${column}) values ($1)`, [equal]))).toBe('23505');
    await app.rows(bob.credential, `insert into s.t (${column}) values ($1)`, [equal]);
    expect([await found(ada, written), await found(bob, written)]).toEqual([1, 1]);
    // What a column does not take is not looked for either, and is not named.
    if (!/text|char/.test(type)) {
      const error = await app
        .rows(ada.credential, `select from s.t_by_${column}($1)`, ['canary'])
        .catch((refused) => refused);
      expect(error).toMatchObject({ code: '22023', message: expect.not.stringContaining('canary') });
    }
  });
});

describe('CR-06, PG-72: a blind index', () => {
  const indexes = async (): Promise<string[]> => {
    await admin.query('delete from s.t');
    for (const person of [ada, bob]) {
      await app.rows(person.credential, "insert into s.t (c0, d) values ('same', 'same')");
    }
    const { rows } = await admin.query(
      "select encode(i, 'hex') as i from s.t cross join unnest(array[c0_index_a, c0_index_b, d_index_a, d_index_b]) i where i is not null",
    );
    return rows.map(({ i }) => i);
  };

  it('of equal values differs between organizations, columns and slots', async () => {
    await indexes();
    // Both slots in use, as while a key is replaced.
    await admin.query('begin');
    await admin.query("select sessions.open_request($1, $2, '{}')", [
      ada.credential,
      await app.envelopes.seal(ada.credential),
    ]);
    await admin.query(`insert into keyring_private.index_keys (column_id, slot, root_version, wrapped)
      select d.id, 'b', 1, keyring_private.wrap(keyring_private.key_encryption_key(1), extensions.gen_random_bytes(64), '\\x03'::bytea || uuid_send(d.id))
        from keyring.doors() d where d.door in ('c0', 'd')`);
    await admin.query('commit');
    const found = await indexes();
    expect(found.length).toBe(8);
    expect(new Set(found).size).toBe(8);
    await withoutGuard(
      db,
      'keyring_private.index_value(uuid,text,uuid,text,boolean,bytea)',
      'uuid_send(organization_id) || ',
      '',
      async () => {
        expect(new Set(await indexes()).size).toBe(4);
      },
    );
  });

  it('of equal values in one column is one, and shows nothing of how long they are', async () => {
    await admin.query('delete from s.t');
    await app.rows(ada.credential, "insert into s.t (d) values ('same'), ('same'), ('x'), (repeat('long', 100))");
    const { rows } = await admin.query(
      'select count(distinct d_index_a)::int as kinds, max(length(d_index_a)) as longest, min(length(d_index_a)) as shortest from s.t',
    );
    expect(rows).toEqual([{ kinds: 3, longest: 32, shortest: 32 }]);
  });

  it('PG-73 and the sealed value shows its bucket alone', async () => {
    await admin.query('delete from s.t');
    await app.rows(ada.credential, "insert into s.t (d) select repeat('x', n) from generate_series(0, 60) n");
    const { rows } = await admin.query('select distinct length(d_sealed) as length from s.t order by 1');
    expect(rows.length).toBe(3);
  });
});
