// Every kind of table is sealed with its rows, has its keys replaced, and is unsealed (DESIGN 5, F13).
import { beforeAll, describe, expect, it } from 'vitest';
import { type Clinic, clinicWith } from './clinic-rows.ts';

let clinic: Clinic;

const TABLES: Record<string, { table: string; value: string; type: string }> = {
  'a number counted by the database': {
    table: 'id bigserial primary key, organization_id uuid not null, value numeric(12,2)',
    value: 'n * 1.5',
    type: 'numeric(12,2)',
  },
  'a key of a time, a text and a number': {
    table: `organization_id uuid not null, at timestamptz default '2025-03-30 01:30+01', part text default 'a "b" ''c''', n bigserial, value timestamptz,
      primary key (organization_id, at, part, n)`,
    value: "timestamptz '2024-02-29 23:59:59.123456+05:45' + n * interval '1 hour'",
    type: 'timestamp with time zone',
  },
  'parts by the hash of the organization': {
    table:
      'organization_id uuid not null, id uuid default platform.uuid_v7(), value jsonb, primary key (organization_id, id)) partition by hash (organization_id',
    value: `jsonb_build_object('b', n, 'a', null)`,
    type: 'jsonb',
  },
  'no organization and no rules': {
    table: 'id uuid default platform.uuid_v7() primary key, value date',
    value: "date '1969-12-31' - n",
    type: 'date',
  },
};

beforeAll(async () => {
  clinic = await clinicWith(1);
});

describe.each(Object.entries(TABLES))('PG-73 a table with %s', (_, { table, value, type }) => {
  it('is sealed with its rows, under new keys, and back', async () => {
    const { owner, hand, app, ada } = clinic;
    await owner.query(`drop table if exists clinic."Odd ""T"""; create table clinic."Odd ""T""" (${table})`);
    const tenant = table.includes('organization_id');
    if (table.includes('partition'))
      await owner.query(`create table clinic.odd_0 partition of clinic."Odd ""T""" for values with (modulus 2, remainder 0);
        create table clinic.odd_1 partition of clinic."Odd ""T""" for values with (modulus 2, remainder 1)`);
    await owner.query(
      `insert into clinic."Odd ""T""" (${tenant ? 'organization_id, ' : ''}value) select ${tenant ? `'${ada.organization}', ` : ''}${value} from generate_series(1, 23) n`,
    );
    // Rules come later than the seal.
    await owner.query(`select keyring.seal_column('clinic."Odd ""T"""', 'value')`);
    if (tenant) await owner.query(`select access.protect('clinic."Odd ""T"""')`);
    else await owner.query('grant select on clinic."Odd ""T""" to safetypin_member');
    await owner.query('grant usage on schema clinic to safetypin_member');
    const read = async (column = '"clinic"."Odd ""T""_value"(t)') =>
      (
        await app.rows<{ v: string }>(
          ada.credential,
          `select (${column})::text as v from clinic."Odd ""T""" t order by 1`,
        )
      ).map(({ v }) => v);
    const plain = (await owner.query(
      `set local timezone = 'UTC'; select (${value})::${type}::text as v from generate_series(1, 23) n order by 1`,
    )) as unknown as { rows: { v: string }[] }[];
    const before = await read();
    expect(before).toHaveLength(23);
    expect(before).toEqual(plain[1]?.rows.map(({ v }) => v));
    await hand.finish(7);
    expect((await hand.works()).filter(({ problem }) => problem !== null)).toEqual([]);
    expect(await read()).toEqual(before);
    expect(await read('t.value')).toEqual(Array(23).fill(null));
    await owner.query(`select keyring.finish('clinic."Odd ""T"""', 'value')`);
    await owner.query('select keyring.rotate_data_keys(destroy => true)');
    await hand.finish(7);
    expect(await read()).toEqual(before);
    await owner.query(`select keyring.unseal_column('clinic."Odd ""T"""', 'value')`);
    await hand.finish(7);
    expect(await read()).toEqual(before);
    await owner.query(`select keyring.unseal_column('clinic."Odd ""T"""', 'value')`);
    expect(await read('t.value')).toEqual(before);
    const { rows } = await owner.query(
      `select format_type(atttypid, atttypmod) as type from pg_attribute where attrelid = 'clinic."Odd ""T"""'::regclass and attname = 'value'`,
    );
    expect(rows).toEqual([{ type }]);
  });
});
