// What goes in by a door comes out as a plain column of the same type would have it, whatever the client has set (F13);
// and what no column takes is refused without its value being named.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

/** Type of the column; what is written; what is refused, and as what. */
const TYPES: [type: string, good: string[], bad: [string, string][]][] = [
  ['text', ['', ' ', 'a', 'Grüße \u{1F600}', 'it\'s \\ "q"', 'x'.repeat(5000)], []],
  [
    'character varying(5)',
    ['', 'abc', 'abcde', 'ab   ', 'abcde  ', 'äöüßé'],
    [
      ['canary', '22001'],
      ['äöüßé canary', '22001'],
    ],
  ],
  ['character(4)', ['', 'ab', 'ab  ', 'abcd', 'abcd   '], [['canary', '22001']]],
  ['character varying', ['any'], []],
  [
    'smallint',
    ['0', '-32768', ' 12 '],
    [
      ['32768', '22023'],
      ['canary', '22023'],
    ],
  ],
  ['integer', ['2147483647', '-5'], [['99999999999', '22023']]],
  ['bigint', ['-9223372036854775808'], [['9223372036854775808', '22023']]],
  [
    'numeric(12,2)',
    ['1', '1.005', '-9999999999.99', 'NaN'],
    [
      ['10000000000', '22023'],
      ['canary', '22023'],
    ],
  ],
  ['numeric', ['1.00', '1e40', '0.000000000000000000000001', 'Infinity'], [['1,5 canary', '22023']]],
  ['real', ['0.1', '1e-30', '-0', 'Infinity', '16777217'], [['1e400', '22023']]],
  ['double precision', ['0.1', '1e-300', '3.141592653589793238', 'NaN'], [['1e4000', '22023']]],
  ['boolean', ['t', 'yes', 'off', '0'], [['canary', '22023']]],
  [
    'date',
    ['2024-02-29', '01/02/03', '1/2/2024', 'infinity', '0044-03-15 BC', '12024-05-06', 'July 4, 1976'],
    [['31.02.1970 canary', '22023']],
  ],
  ['time without time zone', ['04:05:06.789', '24:00', '04:05 PM'], [['25:00 canary', '22023']]],
  ['time(0) without time zone', ['23:59:59.6'], []],
  [
    'timestamp without time zone',
    ['2024-06-01 12:00', '03/04/2024 5:06', '-infinity', '2024-06-01 12:00:00.123456'],
    [],
  ],
  ['timestamp(2) without time zone', ['2024-06-01 12:00:00.129'], []],
  [
    'timestamp with time zone',
    [
      '2024-06-01 12:00',
      '2024-06-01 12:00+05:30',
      '03/04/2024 5:06',
      '2024-11-03 01:30:00 America/New_York',
      '0001-01-01 BC',
    ],
    [['canary tomorrow', '22023']],
  ],
  [
    'interval',
    [
      '1 day',
      '-1 year -2 mons +3 days',
      '1-2 3 4:05:06',
      '-1 3:00',
      'P1Y2M3DT4H5M6.7S',
      '24:00:00',
      '-0.5 s',
      '1 mon -1 day 1:00',
    ],
    [['canary days', '22023']],
  ],
  ['uuid', ['{A0EEBC99-9C0B4EF8-BB6D6BB9-BD380A11}'], [['canary', '22023']]],
  ['json', ['{"a" :  1.0, "a": 2}', 'null', '"x"'], [['{canary', '22023']]],
  ['jsonb', ['{"b":1,  "a":[1.0,null]}', 'null', '"x"'], [['{"canary"', '22023']]],
  ['inet', ['10.0.0.1', '10.1/16', '::ffff:1.2.3.4/96'], [['300.canary', '22023']]],
];

const SETTINGS: Record<string, string>[] = [
  {},
  { datestyle: 'German', timezone: 'America/New_York', intervalstyle: 'sql_standard', extra_float_digits: '-15' },
  { datestyle: 'SQL, DMY', timezone: 'Asia/Kathmandu', intervalstyle: 'postgres_verbose', bytea_output: 'escape' },
  {
    datestyle: 'Postgres, MDY',
    timezone: '<+14>-14',
    intervalstyle: 'iso_8601',
    standard_conforming_strings: 'off',
    escape_string_warning: 'off',
    lc_numeric: 'C',
    lc_monetary: 'C',
  },
];

let db: TestDatabase;
let app: Application;
let ada: Person;
let owner: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  ada = await app.person('ada');
  owner = await db.connect('owner');
  // Sealed under settings that would spoil what is written from now on.
  await owner.query(
    "set datestyle = 'SQL, DMY'; set intervalstyle = sql_standard; set standard_conforming_strings = off",
  );
  await owner.query('create schema twins; grant usage on schema twins to safetypin_member');
  for (const [number, [type]] of TYPES.entries()) {
    const columns = 'organization_id uuid not null default request.organization_id(), id bigserial primary key';
    await owner.query(`create table twins.plain_${number} (${columns}, value ${type})`);
    await owner.query(`create table twins.sealed_${number} (${columns}, value ${type})`);
    await owner.query(`select keyring.seal_column('twins.sealed_${number}', 'value')`);
  }
  await owner.query(`
    grant select, insert, update on all tables in schema twins to safetypin_member;
    grant usage on all sequences in schema twins to safetypin_member`);
});

const under = (settings: Record<string, string>) =>
  Object.entries(settings)
    .map(([name, value]) => `set local ${name} = '${value}';`)
    .join('');

describe.each(TYPES.map(([type, good, bad], number) => ({ type, good, bad, number })))(
  'a sealed $type',
  ({ type, good, bad, number }) => {
    it('reads like a plain one, whatever the clients that write and read it have set', async () => {
      const values = good.map((_, at) => `($${at + 1})`).join(', ');
      const text = `select p.value::text as plain, twins.sealed_${number}_value(s)::text as sealed, s.value as door
        from twins.plain_${number} p join twins.sealed_${number} s using (id) order by id`;
      for (const settings of SETTINGS) {
        await app.as(ada.credential, async (client) => {
          await client.query(under(settings));
          for (const name of [`plain_${number}`, `sealed_${number}`]) {
            await client.query(`insert into twins.${name} (value) values ${values}`, good);
          }
        });
      }
      for (const settings of SETTINGS.slice(0, 3)) {
        const rows = await app.as(ada.credential, async (client) => {
          await client.query(under(settings));
          return (await client.query(text)).rows;
        });
        expect(rows.length).toBe(good.length * SETTINGS.length);
        expect(rows.map(({ sealed }) => sealed)).toEqual(rows.map(({ plain }) => plain));
        expect(rows.every(({ door }) => door === null)).toBe(true);
      }
    });

    it('is of its type again when it is read', async () => {
      const { rows } = await owner.query('select pg_get_function_result($1::regprocedure) as type', [
        `twins.sealed_${number}_value(twins.sealed_${number})`,
      ]);
      // A function's result has no length.
      expect(rows[0].type).toBe(type.replace(/\([0-9,]+\)/, ''));
    });

    it.runIf(bad.length > 0)('PG-38 refuses what is not of it, and names no value anywhere', async () => {
      for (const [value, code] of bad) {
        for (const settings of SETTINGS) {
          const marked = value.replace('canary', `canary${number}`);
          const error = await app
            .as(ada.credential, async (client) => {
              await client.query(under(settings));
              await client.query(`insert into twins.sealed_${number} (value) values ($1)`, [marked]);
            })
            .catch((refused) => refused);
          expect(error).toMatchObject({ code });
          expect(JSON.stringify({ ...error, message: error.message })).not.toContain(marked);
        }
      }
    });
  },
);

it('PG-61 none of the refused values stands in the log of the server', async () => {
  const admin = await db.connect('admin');
  const { rows } = await admin.query("select current_setting('data_directory') as path");
  const log = readFileSync(join(rows[0].path, '..', 'postgres.log'), 'utf8');
  expect(log).toContain('the value is not a');
  // Other files use this server too, and words of their own.
  const ours = log.split('\n').filter((line) => line.includes(db.name));
  expect(ours.filter((line) => /canary\d/.test(line))).toEqual([]);
  // It would have been there.
  await admin.query("select 'canaryA'::date").catch(() => {});
  expect(readFileSync(join(rows[0].path, '..', 'postgres.log'), 'utf8')).toContain('canaryA');
});
