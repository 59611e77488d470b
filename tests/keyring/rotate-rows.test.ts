// CR-08: data keys and index keys are replaced while people read, write and look up (DESIGN 5).
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

let db: TestDatabase;
let app: Application;
let hand: WorkHand;
let owner: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  hand = await WorkHand.of(app);
  owner = await db.connect('owner');
  ada = await app.person('ada');
  await owner.query(`
    create schema clinic;
    create table clinic.patients (
      organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, born date,
      primary key (organization_id, id));
    select access.protect('clinic.patients');
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true, options => '{"unique": true}');
    select keyring.seal_column('clinic.patients', 'born');`);
  await app.rows(
    ada.credential,
    "insert into clinic.patients (name, ssn, born) select 'p' || n, 'canary-' || n, date '1970-01-01' + n from generate_series(1, 25) n",
  );
});

const read = () =>
  app.rows<{ name: string; ssn: string | null; born: string | null }>(
    ada.credential,
    'select name, clinic.patients_ssn(p) as ssn, clinic.patients_born(p)::text as born from clinic.patients p order by length(name), name',
  );

describe('CR-08 a rotation of data keys', () => {
  it('seals every value anew, and loses none', async () => {
    const before = await read();
    await owner.query('select keyring.rotate_data_keys()');
    await hand.finish(10);
    expect(await read()).toEqual(before);
    const { rows } = await hand.admin.query(`select
      (select count(*) from clinic.patients where keyring.is_stale(ssn_sealed) or keyring.is_stale(born_sealed))::int as stale,
      (select count(*) from identity_private.emails where keyring.is_stale(address))::int as own,
      (select count(*) from keyring_private.data_keys where retired_at is not null)::int as retired`);
    expect(rows).toEqual([{ stale: 0, own: 0, retired: expect.any(Number) }]);
    expect(rows[0].retired).toBeGreaterThan(25);
    expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
    await owner.query('select keyring.rotate_data_keys(destroy => true)');
    await hand.finish(10);
    expect(await read()).toEqual(before);
    expect((await app.signIn(ada.email, ada.tag)).outcome).toBe('SIGNED_IN');
  });
});

describe('a rotation of an index key', () => {
  it('finds every value all the time', async () => {
    const index = "select ssn_index_a as a, ssn_index_b as b from clinic.patients where name = 'p1'";
    const before = (await hand.admin.query(index)).rows[0];
    await owner.query("select keyring.rotate_index_key('clinic.patients', 'ssn')");
    await hand.finish(10);
    const after = (await hand.admin.query(index)).rows[0];
    expect([before.b, after.a]).toEqual([null, null]);
    expect(await app.rows(ada.credential, "select name from clinic.patients_by_ssn('canary-7')")).toEqual([
      { name: 'p7' },
    ]);
    await owner.query("select keyring.rotate_index_key('clinic.patients', 'ssn')");
    await hand.finish(10);
    expect((await hand.admin.query(index)).rows[0].b).toBe(null);
    expect(await app.rows(ada.credential, "select name from clinic.patients_by_ssn('canary-7')")).toEqual([
      { name: 'p7' },
    ]);
  });
});
