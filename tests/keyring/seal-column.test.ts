// keyring.seal_column against every kind of table, column and name: sealed, or TABLE with what is to be done (F13).
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { examine } from '../../src/platform/doctor/doctor.ts';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  [admin, owner] = [await db.connect('admin'), await db.connect('owner')];
  ada = await app.person('ada');
});

beforeEach(async () => {
  await admin.query('reset session authorization; reset role; reset search_path; drop schema if exists s cascade');
  await owner.query('create schema s; grant usage on schema s to safetypin_member');
});

/** What the owner of tables needs who seals them without an administrator. */
const NEEDED = [
  'seal_column',
  'register_column',
  'part_name',
  'doors',
  'seal_door',
  'guard_door',
  'leave_door',
  'door',
  'seal_value',
  'is_stamped',
  'row_of',
  'row_key',
  'open_value',
  'blind_index',
  'let_work',
  'hide_from_audit',
  'begin_work',
  'plain_index',
].map((name) => `keyring.${name}`);

const ORGANIZATION = 'organization_id uuid not null default request.organization_id()';
const seal = (call: string) => owner.query(`select keyring.seal_column(${call})`);
const grant = () =>
  admin.query(`grant select, insert, update, delete on all tables in schema s to safetypin_member;
    grant usage on all sequences in schema s to safetypin_member`);
const run = (text: string, values: unknown[] = []) => app.rows(ada.credential, text, values);

/** Writes two values and reads them again; the table has columns n (text) and v (sealed). */
async function works(table = 's.t', reader = 's.t_v'): Promise<void> {
  await grant();
  await run(`insert into ${table} (n, v) values ('a', '1'), ('b', '2')`);
  await run(`update ${table} set v = '3' where n = 'b'`);
  await run(`update ${table} set n = 'c' where n = 'a'`);
  expect(await run(`select n, v, ${reader}(t)::text as read from ${table} t order by n`)).toEqual([
    { n: 'b', v: null, read: '3' },
    { n: 'c', v: null, read: '1' },
  ]);
}

describe('a key', () => {
  it.each([
    [
      'organization and id',
      `${ORGANIZATION}, id uuid default gen_random_uuid(), n text, v text, primary key (organization_id, id)`,
    ],
    ['one uuid', 'id uuid primary key default gen_random_uuid(), n text, v text'],
    ['a number', `${ORGANIZATION}, id bigserial primary key, n text, v text`],
    ['an identity', 'id integer generated always as identity primary key, n text, v text'],
    [
      'several columns',
      `${ORGANIZATION}, at timestamptz default clock_timestamp(), id uuid default gen_random_uuid(), day date default now(), primary key (organization_id, at, id, day), n text, v text`,
    ],
    [
      'two uuids',
      'a uuid default gen_random_uuid(), b uuid default gen_random_uuid(), primary key (b, a), n text, v text',
    ],
    [
      'a text, and a boolean',
      'a text default md5(random()::text), b boolean default true, primary key (a, b), n text, v text',
    ],
  ])('of %s names the row', async (_name, columns) => {
    await owner.query(`create table s.t (${columns})`);
    await seal("'s.t', 'v'");
    await works();
  });

  it.each([
    ['there is none', 'id uuid, v text', 'needs a primary key'],
    ['equal ones may be written differently', 'id numeric primary key, v text', 'may be written differently'],
    ['intervals', 'id interval primary key, v text', 'may be written differently'],
    ['padded, of any length', 'id bpchar primary key, v text', 'may be written differently'],
    [
      'a collation that takes different ones as equal',
      'id text collate s.loose primary key, v text',
      'may be written differently',
    ],
    ['a generated one', 'a integer, id integer generated always as (a) stored primary key, v text', 'is generated'],
    ['the column itself', 'v text primary key', 'is a key'],
    ['a unique column', 'id uuid primary key, v text unique', 'used by constraint'],
  ])('is refused: %s', async (_name, columns, message) => {
    await owner.query("create collation s.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
    await owner.query(`create table s.t (${columns})`);
    await expect(seal("'s.t', 'v'")).rejects.toMatchObject({
      code: 'TABLE',
      message: expect.stringContaining(message),
    });
  });
});

describe('a column is refused', () => {
  it.each([
    ['generated', "id uuid primary key, n text, v text generated always as ('x') stored", '', 'is generated'],
    ['an identity', 'id uuid primary key, v integer generated always as identity', '', 'is generated'],
    [
      'used by a generated one',
      'id uuid primary key, v text, w text generated always as (upper(v)) stored',
      '',
      'is used by',
    ],
    ['a foreign key', 'id uuid primary key, v uuid references s.other', '', 'is used by'],
    ['checked', "id uuid primary key, v text check (v <> '')", '', 'is used by'],
    ['checked with others', 'id uuid primary key, w text, v text, check (w <> v)', '', 'is used by'],
    ['in an index', 'id uuid primary key, v text', 'create index on s.t (v)', 'is used by'],
    ['in an index of an expression', 'id uuid primary key, v text', 'create index on s.t (lower(v))', 'is used by'],
    [
      'in the condition of an index',
      'id uuid primary key, v text',
      'create index on s.t (id) where v is null',
      'is used by',
    ],
    ['in a view', 'id uuid primary key, v text', 'create view s.w as select v from s.t', 'is used by'],
    ['in a policy', 'id uuid primary key, v text', "create policy p on s.t using (v = 'a')", 'is used by'],
    [
      'in the condition of a trigger',
      'id uuid primary key, v text',
      "create function s.f() returns trigger language plpgsql as 'begin return new; end'; create trigger x after update on s.t for each row when (old.v <> new.v) execute function s.f()",
      'is used by',
    ],
    ['in statistics', 'id uuid primary key, v text, w text', 'create statistics s.x on v, w from s.t', 'is used by'],
    [
      'in a function of SQL',
      'id uuid primary key, v text',
      'create function s.f() returns setof text begin atomic select v from s.t; end',
      'is used by',
    ],
    [
      'in the columns of a publication',
      'id uuid primary key, v text',
      'create publication sealed_test for table s.t (id, v)',
      'is used by',
    ],
    [
      'in the condition of a publication',
      'id uuid primary key, v text',
      "create publication sealed_test for table s.t where (v = 'a') with (publish = 'insert')",
      'is used by',
    ],
    ['of a domain', 'id uuid primary key, v s.d', '', 'cannot be sealed'],
    ['of an enum', 'id uuid primary key, v s.e', '', 'cannot be sealed'],
    ['an array', 'id uuid primary key, v text[]', '', 'cannot be sealed'],
    ['a row', 'id uuid primary key, v s.c', '', 'cannot be sealed'],
    ['bytes', 'id uuid primary key, v bytea', '', 'cannot be sealed'],
    ['a range', 'id uuid primary key, v int4range', '', 'cannot be sealed'],
    ['of a type that took a name of PostgreSQL’s', 'id uuid primary key, v s.inet', '', 'cannot be sealed'],
    ['absent', 'id uuid primary key', '', 'has no column'],
    ['a system column', 'id uuid primary key', "select 1; select keyring.seal_column('s.t', 'ctid')", 'has no column'],
  ])('%s', async (_name, columns, more, message) => {
    await owner.query(`create table s.other (id uuid primary key);
      create domain s.d as text; create type s.e as enum ('a'); create type s.c as (a int); create domain s.inet as text;
      create table s.t (${columns})`);
    const attempt = async () => {
      if (more) await admin.query(more);
      await seal("'s.t', 'v'");
    };
    await expect(attempt()).rejects.toMatchObject({ code: 'TABLE', message: expect.stringContaining(message) });
    await admin.query('drop publication if exists sealed_test');
    // Nothing was left half done.
    expect((await owner.query("select from keyring.doors() where relation::text like 's.%'")).rowCount).toBe(0);
  });
});

describe('a table is refused', () => {
  it.each([
    ['a view', 'create view s.t as select 1 as v'],
    ['a materialized view', "create materialized view s.t as select 'x'::text as v"],
    ['a sequence', 'create sequence s.t'],
    [
      'one that inherits',
      'create table s.p (id uuid primary key, v text); create table s.t (primary key (id)) inherits (s.p)',
    ],
    [
      'one from which others inherit',
      'create table s.t (id uuid primary key, v text); create table s.u () inherits (s.t)',
    ],
    [
      'a partition',
      'create table s.p (id uuid primary key, v text) partition by hash (id); create table s.t partition of s.p for values with (modulus 1, remainder 0)',
    ],
    ['of a type', 'create type s.c as (id uuid, v text); create table s.t of s.c (primary key (id))'],
    [
      'with rules',
      'create table s.log (v text); create table s.t (id uuid primary key, v text); create rule r as on insert to s.t do also insert into s.log values (1)',
    ],
    [
      'with a trigger before all',
      'create function s.f() returns trigger language plpgsql as \'begin return new; end\'; create table s.t (id uuid primary key, v text); create trigger " a" before insert on s.t for each row execute function s.f()',
    ],
    [
      'with a trigger behind all',
      'create function s.f() returns trigger language plpgsql as \'begin return new; end\'; create table s.t (id uuid primary key, v text); create trigger "é" before update on s.t for each row execute function s.f()',
    ],
  ])('%s', async (_name, text) => {
    await admin.query('set role safetypin_owner');
    await admin.query(text).finally(() => admin.query('reset role'));
    expect(await refusal(seal("'s.t', 'v'"))).toBe('TABLE');
  });

  it('a temporary one, also where it hides another of its name', async () => {
    await owner.query('create table s.t (id uuid primary key, n text, v text)');
    await admin.query('create temporary table t (id uuid primary key, n text, v text)');
    await admin.query('set search_path = s');
    expect(await refusal(admin.query("select keyring.seal_column('t', 'v')"))).toBe('TABLE');
    await admin.query('drop table pg_temp.t');
    await admin.query(
      "create temporary table sealed_columns (id uuid); select keyring.seal_column('t', 'v'); reset search_path",
    );
    await owner.query('alter table s.t alter id set default gen_random_uuid()');
    await works();
  });

  it.each([
    ['an option there is not', `options => '{"uniqe": true}'`, '22023'],
    ['a permission there is not', "permission => 'no.such'", 'TABLE'],
    ['a class there is not', "class => 'public'", '22023'],
    ['a subject there is not', "subject => 'n'", 'TABLE'],
    ['an organization there is not', `options => '{"organization": "n"}'`, 'TABLE'],
    ['a format that is none', `options => '{"format": "("}'`, '2201B'],
    ['twice', '', 'TABLE'],
  ])('with %s', async (_name, more, code) => {
    await owner.query('create table s.t (id uuid primary key, n text, v text)');
    if (!more) await seal("'s.t', 'v'");
    expect(await refusal(seal(["'s.t'", "'v'", more].filter(Boolean).join(', ')))).toBe(code);
  });

  it.each(['json', 'jsonb', 'interval'])('a searchable %s', async (type) => {
    await owner.query(`create table s.t (id uuid primary key, v ${type})`);
    expect(await refusal(seal("'s.t', 'v', searchable => true"))).toBe('TABLE');
  });

  it('42501 of somebody else, who may seal one of her own with the rights it takes', async () => {
    await owner.query('create table s.t (id uuid primary key, n text, v text)');
    await admin.query(
      `drop role if exists sealing_stranger; create role sealing_stranger; grant create, usage on schema s to sealing_stranger`,
    );
    await admin.query('set session authorization sealing_stranger');
    expect(await refusal(admin.query("select keyring.seal_column('s.t', 'v')"))).toBe('42501');
    await admin.query('reset session authorization');
    await admin.query(`grant usage on schema keyring, access to sealing_stranger; grant select on access.permissions to sealing_stranger;
      grant execute on function ${NEEDED.join(', ')} to sealing_stranger`);
    await admin.query('set session authorization sealing_stranger');
    expect(await refusal(admin.query("select keyring.seal_column('s.t', 'v')"))).toBe('42501');
    expect(
      await refusal(
        admin.query(
          "select keyring.register_column('s.t', null, 'personal', 'text', false, null, null, false, false, null, 'exact', 'null', false, 'sealed')",
        ),
      ),
    ).toBe('42501');
    await admin.query(
      "create table s.own (id uuid primary key default gen_random_uuid(), n text, v text); select keyring.seal_column('s.own', 'v')",
    );
    await admin.query('grant select, insert, update on s.own to safetypin_member; reset session authorization');
    await works('s.own', 's.own_v');
    await admin.query('drop owned by sealing_stranger cascade; drop role sealing_stranger');
  });
});

describe('a table of another owner', () => {
  it('sealed by an administrator belongs to its owner as before, whose foreign keys go on', async () => {
    await admin.query(`drop role if exists sealing_host; create role sealing_host; grant create, usage on schema s to sealing_host;
      grant usage on schema request to sealing_host; set role sealing_host;
      create table s.parent (id uuid primary key);
      create table s.t (id uuid primary key default gen_random_uuid(), parent uuid references s.parent on update cascade, n text, v text);
      reset role; select keyring.seal_column('s.t', 'v', searchable => true)`);
    const { rows } = await admin.query(
      "select distinct proowner::regrole::text as owner from pg_proc where pronamespace = 's'::regnamespace",
    );
    expect(rows).toEqual([{ owner: 'sealing_host' }]);
    await admin.query('grant select, insert, update, delete on all tables in schema s to safetypin_member');
    await works();
    await admin.query(
      'insert into s.parent values (gen_random_uuid()); update s.t set parent = (select id from s.parent)',
    );
    await admin.query('update s.parent set id = gen_random_uuid()');
    expect(await run("select s.t_v(t) as v from s.t_by_v('3') t")).toEqual([{ v: '3' }]);
    await admin.query('drop owned by sealing_host cascade; drop role sealing_host');
  });
});

describe('names', () => {
  it('of any kind: hostile, long, long and alike', async () => {
    const names = [
      'a "b" \'c\'; --',
      '%I %L $1',
      'Ünïcode\\',
      'x'.repeat(63),
      `${'y'.repeat(60)}1`,
      `${'y'.repeat(60)}2`,
      `${'é'.repeat(31)}`,
    ];
    for (const name of names) {
      const table = `s."${name.replaceAll('"', '""')}"`;
      await owner.query(`create table ${table} (${ORGANIZATION}, id uuid default gen_random_uuid(), n text,
        ${names.map((column) => `"${column.replaceAll('"', '""')}" text`).join(', ')}, primary key (organization_id, id))`);
      for (const column of names) {
        await owner.query('select keyring.seal_column($1, $2, searchable => true)', [table, column]);
      }
      await grant();
      const [first, ...others] = names.map((column) => `"${column.replaceAll('"', '""')}"`);
      await run(
        `insert into ${table} (${[first, ...others].join(', ')}) values (${names.map((_, at) => `'value ${at}'`)})`,
      );
      for (const [at, column] of names.entries()) {
        const { rows } = await owner.query(
          "select format('s.%I', keyring.part_name($1, '_' || $2)) as reader, format('s.%I', keyring.part_name($1, '_by_' || $2)) as finder",
          [name, column],
        );
        expect(await run(`select ${rows[0].reader}(t) as read from ${rows[0].finder}($1) t`, [`value ${at}`])).toEqual([
          { read: `value ${at}` },
        ]);
      }
    }
  });

  it('that are cut differ still, and are cut between characters', async () => {
    const part = async (base: string, suffix: string) =>
      (await owner.query('select keyring.part_name($1, $2) as name', [base, suffix])).rows[0].name;
    expect(await part('ssn', '_sealed')).toBe('ssn_sealed');
    expect(await part('a'.repeat(56), '_sealed')).toBe(`${'a'.repeat(56)}_sealed`);
    const cut = [await part('é'.repeat(31), '_index_a'), await part('é'.repeat(31), '_index_b')];
    expect(new Set(cut).size).toBe(2);
    for (const name of cut) expect(Buffer.byteLength(name)).toBeLessThan(64);
    expect(cut[0]).toMatch(/^é{27}_[0-9a-f]{8}$/);
  });
});

describe('what a column had', () => {
  it('its default is kept, and sealed when it is used', async () => {
    await owner.query(`create table s.t (id uuid primary key default gen_random_uuid(), n text, v text default 'word', d date not null default '2024-01-31',
      i interval default '1 day 2 hours', num numeric(6,2) default 1.5)`);
    for (const column of ['v', 'd', 'i', 'num']) await seal(`'s.t', '${column}'`);
    await grant();
    await run('set local datestyle to German; insert into s.t default values');
    expect(
      await run('select s.t_v(t), s.t_d(t)::text, s.t_i(t)::text, s.t_num(t)::text, v, d, i, num from s.t t'),
    ).toEqual([
      { t_v: 'word', t_d: '2024-01-31', t_i: '1 day 02:00:00', t_num: '1.50', v: null, d: null, i: null, num: null },
    ]);
    expect(await refusal(run('update s.t set d = null'))).toBe('23502');
    expect(await refusal(run('insert into s.t (d) values (null)'))).toBe('23502');
  });

  it('PG-73 samples of its values are thrown away, and no more are taken', async () => {
    await owner.query('create table s.t (id uuid primary key default gen_random_uuid(), n text, v text)');
    await admin.query("insert into s.t (v) select 'canary' from generate_series(1, 100); analyze s.t");
    const samples = async () =>
      (
        await admin.query(
          "select most_common_vals::text from pg_stats where schemaname = 's' and attname = 'v' and most_common_vals is not null",
        )
      ).rowCount;
    expect(await samples()).toBe(1);
    await seal("'s.t', 'v'");
    expect(await samples()).toBe(0);
    await admin.query('analyze s.t');
    expect(await samples()).toBe(0);
  });

  it('a table that hides rows from its own owner is asked all the same', async () => {
    await owner.query(
      'create table s.t (id uuid primary key default gen_random_uuid(), n text, v text); alter table s.t enable row level security, force row level security',
    );
    await admin.query("insert into s.t (v) values ('x')");
    await seal("'s.t', 'v'");
    const { rows } = await admin.query(
      "select state, relforcerowsecurity as forced from keyring.doors() d join pg_class c on c.oid = d.relation where d.relation = 's.t'::regclass",
    );
    expect(rows).toEqual([{ state: 'sealing', forced: true }]);
  });

  it('access.protect before or after: no client may write what is hidden', async () => {
    await owner.query(`create table s.t (${ORGANIZATION}, id uuid default gen_random_uuid(), n text, v text, primary key (organization_id, id));
      select access.protect('s.t')`);
    await seal("'s.t', 'v', searchable => true");
    const writable = async () =>
      (
        await admin.query(`select attname from pg_attribute where attrelid = 's.t'::regclass and attnum > 0
          and (has_column_privilege('safetypin_member', attrelid, attnum, 'insert') or has_column_privilege('safetypin_member', attrelid, attnum, 'update'))`)
      ).rows.map(({ attname }) => attname);
    expect(await writable()).toEqual(['n', 'v']);
    await owner.query("select access.protect('s.t')");
    expect(await writable()).toEqual(['n', 'v']);
    await run("insert into s.t (n, v) values ('a', '1')");
    expect(await refusal(run('update s.t set v_sealed = null'))).toBe('42501');
  });

  it('CR-06 blind indexes are written with their value alone, whoever may write their columns', async () => {
    await owner.query(
      `create table s.t (${ORGANIZATION}, id uuid primary key default gen_random_uuid(), n text, v text)`,
    );
    await seal("'s.t', 'v', searchable => true");
    await grant();
    await run("insert into s.t (n, v) values ('a', '1'), ('b', '2'), ('c', null)");
    for (const attack of [
      "update s.t set v_index_a = (select v_index_a from s.t where n = 'b') where n = 'a'",
      "update s.t set v_index_a = null where n = 'a'",
      "update s.t set v_index_b = v_index_a where n = 'a'",
      "update s.t set v_index_a = 'x' where n = 'c'",
      "insert into s.t (n, v_index_a) select 'd', v_index_a from s.t where n = 'a'",
      "update s.t set v_sealed = null where n = 'a'",
      "update s.t set v_sealed = (select v_sealed from s.t where n = 'b') where n = 'a'",
    ]) {
      expect(`${attack}: ${await refusal(run(attack))}`).toBe(`${attack}: KEYFG`);
    }
  });
});

describe('a table in parts', () => {
  const PARTED = {
    range: [
      'at timestamptz not null default now()',
      '(organization_id, id, at)',
      "for values from ('2000-01-01') to ('2100-01-01')",
    ],
    list: ["region text not null default 'eu'", '(organization_id, id, region)', "for values in ('eu', 'us')"],
    hash: ['x int', '(organization_id, id)', 'for values with (modulus 1, remainder 0)'],
  } as const;

  it.each(Object.entries(PARTED))(
    'by %s: written by the whole and by its parts, those that came later too',
    async (how, [column, key, values]) => {
      const by = how === 'hash' ? 'id' : column.split(' ')[0];
      await owner.query(
        `create table s.t (${ORGANIZATION}, id uuid default gen_random_uuid(), n text, v text, ${column}, primary key ${key}) partition by ${how} (${by})`,
      );
      if (how !== 'range') await owner.query(`create table s.t1 partition of s.t ${values}`);
      await seal("'s.t', 'v'");
      if (how === 'range') {
        // Attached afterwards, with other columns at other places.
        await owner.query(`create table s.t1 (gone int, v_sealed bytea, ${column}, v text, n text, id uuid not null default gen_random_uuid(), ${ORGANIZATION},
        primary key ${key}, constraint v_is_sealed check (v is null)); alter table s.t1 drop gone; alter table s.t attach partition s.t1 ${values}`);
      }
      await works();
      await run("insert into s.t1 (n, v) values ('d', '4')");
      await run("update s.t1 set v = '5' where n = 'd'");
      expect(await run("select s.t_v(t) as v from s.t t where n = 'd'")).toEqual([{ v: '5' }]);
      const { rows } = await owner.query(
        "select distinct tgenabled from pg_trigger where tgrelid in ('s.t'::regclass, 's.t1'::regclass) and tgname like '%seal_%'",
      );
      expect(rows).toEqual([{ tgenabled: 'A' }]);
    },
  );

  it('a uuid that is not the row’s own does not name it: values do not move between the visits of one patient (CR-03)', async () => {
    await owner.query(
      `create table s.t (${ORGANIZATION}, patient_id uuid, number int, n text, v text, primary key (organization_id, patient_id, number))`,
    );
    await seal("'s.t', 'v'");
    await grant();
    const patient = crypto.randomUUID();
    await run(
      `insert into s.t (patient_id, number, n, v) values ('${patient}', 1, 'a', 'one'), ('${patient}', 2, 'b', 'two')`,
    );
    const swap = "update s.t x set v_sealed = y.v_sealed from s.t y where x.n = 'a' and y.n = 'b'";
    expect(await refusal(admin.query(swap))).toBe('KEYFG');
    await admin.query(`alter table s.t disable trigger user; ${swap}; alter table s.t enable trigger user`);
    expect(await refusal(run("select s.t_v(t) from s.t t where n = 'a'"))).toBe('KEYBD');
    expect(await run("select s.t_v(t) as v from s.t t where n = 'b'")).toEqual([{ v: 'two' }]);
  });

  it('refuses options and classes that there are not', async () => {
    await owner.query(
      `create table s.t (${ORGANIZATION}, id uuid default gen_random_uuid(), v text, primary key (organization_id, id))`,
    );
    for (const wrong of ['options => \'{"uniq": true}\'', "class => 'secret'", "class => 'Personal'"])
      expect(await refusal(owner.query(`select keyring.seal_column('s.t', 'v', ${wrong})`)), wrong).toBe('22023');
  });

  it('on two levels: rows move between them; what is named by the part moves with its value written again', async () => {
    await owner.query(`create table s.t (${ORGANIZATION}, id uuid default gen_random_uuid(), region text not null, year int not null default 2024, n text, v text,
        primary key (organization_id, id, region, year)) partition by list (region);
      create table s.t_eu partition of s.t for values in ('eu') partition by range (year);
      create table s.t_eu_2024 partition of s.t_eu for values from (2024) to (2025);
      create table s.t_us partition of s.t for values in ('us');
      create table s.u (${ORGANIZATION}, id bigserial, region text not null, n text, v text, primary key (organization_id, id, region)) partition by list (region);
      create table s.u_eu partition of s.u for values in ('eu'); create table s.u_us partition of s.u for values in ('us')`);
    await seal("'s.t', 'v'");
    await seal("'s.u', 'v'");
    await grant();
    for (const table of ['t', 'u'])
      await run(`insert into s.${table} (region, n, v) values ('eu', 'a', '1'), ('us', 'b', '2')`);
    // A uuid in the key names the row, wherever it lies.
    await run("update s.t set region = 'us' where n = 'a'");
    expect(await run("select tableoid::regclass::text as part, s.t_v(t) as v from s.t t where n = 'a'")).toEqual([
      { part: 's.t_us', v: '1' },
    ]);
    expect(await refusal(run("update s.u set region = 'us' where n = 'a'"))).toBe('KEYIM');
    for (const table of ['t', 'u']) {
      await run(`update s.${table} set region = 'us', v = '3' where n = 'a'`);
      expect(
        await run(`select n, tableoid::regclass::text as part, s.${table}_v(t) as v from s.${table} t order by n`),
      ).toEqual([
        { n: 'a', part: `s.${table}_us`, v: '3' },
        { n: 'b', part: `s.${table}_us`, v: '2' },
      ]);
    }
  });

  it('a part taken off keeps what was sealed, takes nothing plain, and opens again where it is put back', async () => {
    await owner.query(`create table s.t (${ORGANIZATION}, id uuid default gen_random_uuid(), n text, v text, primary key (organization_id, id)) partition by hash (id);
      create table s.t1 partition of s.t for values with (modulus 1, remainder 0)`);
    await seal("'s.t', 'v'");
    await works();
    await owner.query('alter table s.t detach partition s.t1');
    expect(await refusal(run("insert into s.t1 (n, v) values ('x', '1')"))).toBe('23514');
    await owner.query('alter table s.t attach partition s.t1 for values with (modulus 1, remainder 0)');
    expect(await run('select n, s.t_v(t) as v from s.t t order by n')).toEqual([
      { n: 'b', v: '3' },
      { n: 'c', v: '1' },
    ]);
    await run("update s.t set v = '7'");
  });

  it('unique only where the organization alone divides it', async () => {
    await owner.query(`create table s.t (${ORGANIZATION}, id uuid default gen_random_uuid(), n text, v text, primary key (organization_id, id)) partition by hash (id);
      create table s.u (${ORGANIZATION}, id uuid default gen_random_uuid(), n text, v text, primary key (organization_id, id)) partition by hash (organization_id);
      create table s.u1 partition of s.u for values with (modulus 1, remainder 0)`);
    expect(await refusal(seal(`'s.t', 'v', options => '{"unique": true}'`))).toBe('TABLE');
    await seal(`'s.u', 'v', options => '{"unique": true}'`);
    await works('s.u', 's.u_v');
    expect(await refusal(run("insert into s.u (n, v) values ('z', '1')"))).toBe('23505');
  });

  it('an unlogged one as any other', async () => {
    await owner.query('create unlogged table s.t (id uuid primary key default gen_random_uuid(), n text, v text)');
    await seal("'s.t', 'v'");
    await works();
  });
});

describe('the doctor', () => {
  const says = async (only = 'sealed columns') =>
    (await examine(db.access, { only })).map((one) => `${one.level}: ${one.line}`).join();
  const host = "create function s.f() returns trigger language plpgsql as 'begin return new; end'; create trigger";
  const first = "(select tgname from pg_trigger where tgrelid = 's.t'::regclass and tgname like";

  it.each([
    [
      'a trigger before all',
      `${host} "! a" before insert on s.t for each row execute function s.f()`,
      'runs before values are sealed or after they are checked: "! a" on s.t',
    ],
    ['a trigger behind all', `${host} "é" before update on s.t1 for each row execute function s.f()`, 'é'],
    ['a rule', 'create rule r as on insert to s.t1 do also nothing', 'rules see values before they are sealed: s.t1'],
    [
      'a guard that is gone',
      `do $$ begin execute format('drop trigger %I on s.t', ${first} '~~%' limit 1)); end $$`,
      'triggers of sealed columns are gone or renamed: s.t',
    ],
    [
      'the trigger that says which column is which, renamed',
      `do $$ begin execute format('alter trigger %I on s.t rename to x', ${first} '~seal%')); end $$`,
      'gone or renamed: s.t',
    ],
    [
      'a table that inherits',
      'create table s.u (id uuid primary key, v text); select keyring.seal_column($$s.u$$, $$v$$); create table s.heir () inherits (s.u)',
      'without its triggers, and takes no values: s.heir',
    ],
    [
      'PG-60 a trigger that is off for replication',
      `do $$ begin execute format('alter table s.t1 enable trigger %I', ${first} '!!seal%')); end $$`,
      'switched off: !!seal_',
    ],
  ])('sees %s', async (name, breaking, said) => {
    await owner.query(`create table s.t (id uuid default gen_random_uuid() primary key, n text, v text) partition by hash (id);
      create table s.t1 partition of s.t for values with (modulus 1, remainder 0)`);
    await seal("'s.t', 'v'");
    const check = name.startsWith('PG-60') ? 'triggers' : 'sealed columns';
    expect(await says(check)).toMatch(/^ok: /);
    await admin.query(breaking);
    expect(await says(check)).toContain(said);
  });
});
