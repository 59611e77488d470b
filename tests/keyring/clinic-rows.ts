// A table with rows in clear, in a database of its own, and who reads and writes it while something is done with it.
import type pg from 'pg';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

export const SSN = (n: number) => `canary-${String(n).padStart(5, '0')}-ssn`;

export interface Clinic {
  readonly db: TestDatabase;
  readonly app: Application;
  readonly hand: WorkHand;
  readonly owner: pg.Client;
  readonly ada: Person;
}

/** `rows` patients of one organization, under rules and audited. */
export async function clinicWith(rows: number, more = ''): Promise<Clinic> {
  const db = await cloneDatabase();
  const app = await Application.beside(db);
  const hand = await WorkHand.of(app);
  const owner = await db.connect('owner');
  const ada = await app.person('ada');
  await owner.query(`
    create schema clinic;
    create table clinic.patients (
      organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, born date,
      primary key (organization_id, id));
    ${more};
    select access.protect('clinic.patients');`);
  await app.rows(
    ada.credential,
    `insert into clinic.patients (name, ssn, born)
       select 'p' || n, 'canary-' || lpad(n::text, 5, '0') || '-ssn', date '1970-01-01' + n from generate_series(1, $1::integer) n`,
    [rows],
  );
  return { db, app, hand, owner, ada };
}

/** Reads everything, finds one, changes one, adds one and tries a double, again and again, until told to stop. `first`: number of the first round. */
export function traffic({ app, ada }: Clinic, rows: number, first = 0) {
  const expected = new Map(Array.from({ length: rows }, (_, n) => [`p${n + 1}`, SSN(n + 1)]));
  const wrong: unknown[] = [];
  let rounds = first;
  let over = false;
  const note = (what: string, got: unknown) => wrong.push({ round: rounds, what, got });
  const round = async () => {
    const read = await app.rows<{ name: string; ssn: string }>(
      ada.credential,
      'select name, clinic.patients_ssn(p) as ssn from clinic.patients p',
    );
    const bad = read.filter(({ name, ssn }) => expected.get(name) !== ssn);
    if (bad.length > 0 || read.length !== expected.size) note('read', [read.length, expected.size, bad.slice(0, 3)]);
    const names = [...expected.keys()];
    const name = names[(rounds * 7919) % names.length] as string;
    const ssn = expected.get(name) as string;
    const find = async (value: string) =>
      (await app.rows<{ name: string }>(ada.credential, 'select name from clinic.patients_by_ssn($1)', [value])).map(
        (row) => row.name,
      );
    const found = await find(ssn);
    if (`${found}` !== name) note('find', [name, found]);
    try {
      await app.rows(ada.credential, 'insert into clinic.patients (name, ssn) values ($1, $2)', ['twin', ssn]);
      note('a double was taken', name);
    } catch (error) {
      if ((error as { code: string }).code !== '23505') note('double', error);
    }
    const changed = SSN(50_000 + rounds);
    const made = SSN(70_000 + rounds);
    await app.rows(ada.credential, 'update clinic.patients set ssn = $1 where name = $2', [changed, name]);
    expected.set(name, changed);
    await app.rows(ada.credential, 'insert into clinic.patients (name, ssn) values ($1, $2)', [`n${rounds}`, made]);
    expected.set(`n${rounds}`, made);
    // What was given up is free, and what was taken is not.
    if ((await find(ssn)).length > 0) note('found under the old value', name);
    if (`${await find(changed)}` !== name) note('not found under the new value', name);
  };
  const going = (async () => {
    while (!over && wrong.length < 100) {
      await round().catch((error) => note('failed', error));
      rounds += 1;
    }
  })();
  return {
    expected,
    async stop() {
      over = true;
      await going;
      return { rounds: rounds - first, wrong };
    },
  };
}
