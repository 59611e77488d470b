// Values opened one by one and as a set: two ways that stand written out apart, held against each other.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

const OPEN_VALUES = 'keyring.open_values(uuid, uuid[], bytea[])';
const NAMES = ['good', 'tag', 'ciphertext', 'short', 'long', 'swapped', 'erased'];

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  await (await db.connect('owner')).query(`
    create schema clinic;
    create table clinic.patients (
      organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, primary key (organization_id, id));
    select access.protect('clinic.patients');
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'id');`);
  await app.rows(
    ada.credential,
    "insert into clinic.patients (name, ssn) select n, 'number of ' || n from unnest($1::text[]) n",
    [NAMES],
  );
  const wrapped = (name: string, text: string) =>
    admin.query(
      `update keyring_private.data_keys k set wrapped = ${text} from clinic.patients p where k.subject = p.id and p.name = $1`,
      [name],
    );
  await wrapped('tag', 'set_byte(k.wrapped, 127, get_byte(k.wrapped, 127) # 1)');
  await wrapped('ciphertext', 'set_byte(k.wrapped, 20, get_byte(k.wrapped, 20) # 1)');
  await wrapped('short', 'substr(k.wrapped, 1, 112)');
  await wrapped('long', String.raw`k.wrapped || '\x00'::bytea`);
  await wrapped(
    'swapped',
    "(select g.wrapped from keyring_private.data_keys g join clinic.patients q on q.id = g.subject where q.name = 'good')",
  );
  await admin.query(
    "delete from keyring_private.data_keys k using clinic.patients p where k.subject = p.id and p.name = 'erased'",
  );
});

const asSet = () =>
  app.rows<{ name: string; value: string | null; problem: string | null }>(
    ada.credential,
    `select a.names[o.number] as name, o.value, o.problem
     from (select array_agg(name order by id) as names, array_agg(id order by id) as ids, array_agg(ssn_sealed order by id) as sealed
           from clinic.patients) a,
       keyring.open_values((select substr(tgname, 7)::uuid from pg_trigger where tgrelid = 'clinic.patients'::regclass and tgname like '~seal%'), a.ids, a.sealed) o
     order by o.number`,
  );

describe('CR-02 wrapped keys that were changed', () => {
  it('spoil their own values alone in a set, and each by itself too', async () => {
    const bad = { value: null, problem: 'KEYBD' };
    expect(await asSet()).toEqual([
      { name: 'good', value: 'number of good', problem: null },
      ...['tag', 'ciphertext', 'short', 'long', 'swapped'].map((name) => ({ name, ...bad })),
      { name: 'erased', value: null, problem: 'KEYER' },
    ]);
    const one = (name: string) =>
      app.call<{ ssn: string | null }>(
        ada.credential,
        'select clinic.patients_ssn(p) as ssn from clinic.patients p where name = $1',
        [name],
      );
    expect(await one('good')).toEqual({ ssn: 'number of good' });
    expect(await one('erased')).toEqual({ ssn: null });
    for (const name of ['tag', 'ciphertext', 'short', 'long', 'swapped'])
      expect(await refusal(one(name))).toBe('KEYBD');
  });

  it('would open if the tag of the key were not compared', async () => {
    await withoutGuard(
      db,
      OPEN_VALUES,
      /= extensions\.hmac\(substr\(w\.wrapped, 97\), r\.mac_key, 'sha512'\)/,
      'is not null',
      async () => {
        expect((await asSet()).find(({ name }) => name === 'tag')).toMatchObject({ value: 'number of tag' });
      },
    );
  });
});
