// Sealed columns of a host application's table (DESIGN 5, F13, LW-04, CR-03).
import { execFileSync } from 'node:child_process';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  owner = await db.connect('owner');
  ada = await app.person('ada');
  bob = await app.person('bob');
  await owner.query(`
    create schema clinic;
    create table clinic.patients (
      organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, born date,
      primary key (organization_id, id), unique (organization_id, name));
    select access.protect('clinic.patients');
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', permission => 'row.read', searchable => true,
      options => '{"unique": true, "format": "^[0-9]{3}-[0-9]{2}-[0-9]{4}$", "lookup": "alphanumeric"}');
    select keyring.seal_column('clinic.patients', 'born', subject => 'id');`);
});

describe('a sealed column', () => {
  it('is written and read as plain text, and stands as ciphertext in the table file', async () => {
    const { id } = await app.call<{ id: string }>(
      ada.credential,
      "insert into clinic.patients (name, ssn, born) values ('Grace', '078-05-1120', '1970-12-31') returning id",
    );
    expect(
      await app.call(
        ada.credential,
        'select ssn, born, clinic.patients_ssn(p) as read, clinic.patients_born(p)::text as day from clinic.patients p where id = $1',
        [id],
      ),
    ).toEqual({ ssn: null, born: null, read: '078-05-1120', day: '1970-12-31' });
    expect(await app.rows(ada.credential, "select name from clinic.patients_by_ssn('078051120')")).toEqual([
      { name: 'Grace' },
    ]);
    expect(await app.rows(bob.credential, "select name from clinic.patients_by_ssn('078051120')")).toEqual([]);
    await admin.query('checkpoint');
    const { rows } = await admin.query(
      "select current_setting('data_directory') || '/' || pg_relation_filepath('clinic.patients') as path",
    );
    const found = (text: string) => {
      try {
        return execFileSync('grep', ['-c', '-a', text, rows[0].path]).toString().trim();
      } catch {
        return '0';
      }
    };
    expect([found('Grace'), found('078-05-1120'), found('1970-12-31')]).toEqual(['1', '0', '0']);
  });

  it('takes an update, keeps what is not named, and is emptied by an explicit null', async () => {
    const read = async () =>
      (
        await app.call<{ ssn: string }>(
          ada.credential,
          "select clinic.patients_ssn(p) as ssn from clinic.patients p where name like 'Grace%'",
        )
      ).ssn;
    await app.rows(ada.credential, "update clinic.patients set name = 'Grace H' where name = 'Grace'");
    expect(await read()).toBe('078-05-1120');
    await app.rows(ada.credential, "update clinic.patients set ssn = '078-05-1121'");
    expect(await read()).toBe('078-05-1121');
    await app.rows(ada.credential, 'update clinic.patients set ssn = null');
    expect(await read()).toBe(null);
  });

  it('refuses excluded instead of losing the value', async () => {
    const upsert = (set: string) =>
      app.rows(
        ada.credential,
        `insert into clinic.patients (name, ssn) values ('Grace H', '078-05-1122') on conflict (organization_id, name) do update set ssn = ${set} returning clinic.patients_ssn(patients)`,
      );
    expect(await refusal(upsert('excluded.ssn'))).toBe('KEYEX');
    expect(await upsert("'078-05-1123'")).toEqual([{ patients_ssn: '078-05-1123' }]);
  });

  it('refuses a wrong form, and a second row with the same', async () => {
    expect(await refusal(app.rows(ada.credential, "update clinic.patients set ssn = 'secret'"))).toBe('23514');
    expect(
      await refusal(app.rows(ada.credential, "insert into clinic.patients (name, ssn) values ('Twin', '078-05-1123')")),
    ).toBe('23505');
    expect(await refusal(app.rows(ada.credential, "update clinic.patients set born = '31.31.1970'"))).toBe('22023');
  });
});
