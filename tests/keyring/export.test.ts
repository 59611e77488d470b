// CR-09: wrapped keys in a file apart from the data. It opens nothing by itself, is taken by the database that made it
// or a copy of it alone, and never brings anybody back.
import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { afterEach, beforeAll, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { exportTo } from '../../src/keyring/command.ts';
import { exportKeys } from '../../src/keyring/export.ts';
import { importKeys } from '../../src/keyring/import.ts';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

let db: TestDatabase;
let app: Application;
let hand: WorkHand;
let ada: Person;
let grace: Person;
let folder: string;
let path: string;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  hand = await WorkHand.of(app);
  ada = await app.person('ada');
  grace = await app.person('grace');
});
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'safetypin-export-'));
  path = join(folder, 'keys.jsonl');
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

async function asKeeper<T>(work: (keeper: pg.Client) => Promise<T>, of = db): Promise<T> {
  const keeper = await of.connect('admin');
  await keeper.query('set role safetypin_keeper');
  return work(keeper).finally(() => keeper.end());
}
const save = () => asKeeper((keeper) => exportKeys(keeper, path));
const load = (erase = false, of = db) => asKeeper((keeper) => importKeys(keeper, path, erase), of);
const nameOf = async (person: Person) =>
  (await app.call<{ name: string }>(person.credential, 'select u.display_name as name from api."current_user"() u'))
    .name;
const sql = async (text: string, values: unknown[] = []) => (await hand.admin.query(text, values)).rows;
const nothingElse = { unknown: 0, reindex: 0, missing: 0, younger: 0 };
const lines = () => readFileSync(path, 'utf8').trimEnd().split('\n');
const rotate = async () => {
  await sql('select keyring.rotate_root()');
  await hand.all();
};

test('keys that were lost come back from the file, whatever was rotated between', async () => {
  const count = await save();
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(readdirSync(folder)).toEqual(['keys.jsonl']);
  expect(await load()).toEqual({ added: 0, renewed: 0, ...nothingElse });
  await sql('delete from keyring_private.data_keys where subject = $1', [ada.id]);
  expect(await refusal(nameOf(ada))).toBe('KEYER');
  expect(await load()).toEqual({ added: 1, renewed: 0, ...nothingElse });
  expect(await nameOf(ada)).toBe('ada');
  await rotate();
  await sql('delete from keyring_private.data_keys where subject = $1', [ada.id]);
  // The root that the file names is back with it, and one rotation brings all under one.
  expect(await load()).toMatchObject({ added: 1, renewed: 0 });
  expect(await nameOf(ada)).toBe('ada');
  await rotate();
  expect(await sql('select count(*)::int as n from keyring_private.roots')).toEqual([{ n: 1 }]);
  expect(await nameOf(ada)).toBe('ada');
  expect(await sql('select count(*)::int as n from keyring_private.data_keys')).toEqual([{ n: count }]);
});

test('a backup that is restored takes today’s keys, and who was erased since stays erased', async () => {
  // The backup.
  const tables = ['roots', 'data_keys', 'index_keys'];
  for (const table of tables) await sql(`create table public.old_${table} as table keyring_private.${table}`);
  const mary = await app.person('mary');
  // Life goes on: grace is erased, the root is replaced. Then today's file.
  await sql('delete from keyring_private.data_keys where subject = $1', [grace.id]);
  await rotate();
  await save();
  // The disaster, and the restore.
  await sql('delete from keyring_private.data_keys');
  await sql('delete from keyring_private.index_keys');
  await sql('delete from keyring_private.roots');
  for (const table of tables) await sql(`insert into keyring_private.${table} table public.old_${table}`);
  expect(await nameOf(grace)).toBe('grace');
  const told = await load();
  expect(told).toMatchObject({ missing: 1, younger: 0, reindex: 0 });
  expect(told.renewed).toBeGreaterThan(5);
  expect(told.added).toBeGreaterThan(0);
  expect(await nameOf(grace)).toBe('grace');
  expect(await load(true)).toMatchObject({ missing: 1 });
  expect(await refusal(nameOf(grace))).toBe('KEYER');
  expect(await nameOf(ada)).toBe('ada');
  expect(await nameOf(mary)).toBe('mary');
  await rotate();
  expect(await nameOf(mary)).toBe('mary');
  await sql(`drop table ${tables.map((table) => `public.old_${table}`).join()}`);
  const events = await sql(
    "select action, severity from audit.events where action ~ '^key.(ex|im)port' group by 1, 2 order by 1",
  );
  expect(events).toEqual([
    { action: 'key.export', severity: 'warning' },
    { action: 'key.import', severity: 'alert' },
  ]);
});

test('a file of yesterday erases nobody who came since', async () => {
  await save();
  const late = await app.person('late');
  expect(await load()).toMatchObject({ missing: 0, younger: expect.any(Number) });
  await expect(load(true)).rejects.toThrow(/nothing was taken: this database has made keys since/);
  expect(await nameOf(late)).toBe('late');
});

test('a file of another database is refused', async () => {
  await save();
  const other = await cloneDatabase();
  await Application.beside(other);
  // Made from one template they have one signing key, as a copy has; a new database has one of its own.
  const fresh = await other.connect('admin');
  await fresh.query(
    "update keyring_private.seal_keys set inner_pad = outer_pad, outer_pad = inner_pad where purpose = 'export'",
  );
  await expect(load(false, other)).rejects.toThrow(/of another database/);
  // A copy that has gone its own way: its roots are others.
  await fresh.query(
    "update keyring_private.seal_keys set inner_pad = outer_pad, outer_pad = inner_pad where purpose = 'export'",
  );
  const [root] = lines()
    .filter((line) => line.includes('"half"'))
    .map((line) => JSON.parse(line));
  await fresh.query(
    "insert into keyring_private.roots (version, half, check_value, application_id) values ($1, decode(repeat('ab', 32), 'hex'), '\\x00', '\\x0000000000000000') on conflict (version) do update set half = excluded.half",
    [root.root],
  );
  await expect(load(false, other)).rejects.toThrow(/nothing was taken: this database has made other roots/);
});

test.each([
  ['a line less', (all: string[]) => all.filter((_, at) => at !== all.length - 2)],
  ['a line twice', (all: string[]) => [...all.slice(0, 3), all[2] as string, ...all.slice(3)]],
  ['a subject changed', (all: string[]) => all.map((line) => line.replace(/"subject": "./, '"subject": "f'))],
  ['the time changed', (all: string[]) => all.map((line) => line.replace(/"made":"20/, '"made":"21'))],
  ['the end missing', (all: string[]) => all.slice(0, -1)],
  ['half of it', (all: string[]) => [all.join('\n').slice(0, 900)]],
  [
    'another check',
    (all: string[]) => [...all.slice(0, -1), JSON.stringify({ check: createHash('sha256').digest('hex') })],
  ],
  ['more behind the end', (all: string[]) => [...all, all[3] as string]],
])('a file with %s is refused, and nothing is taken from it', async (_what, change) => {
  await save();
  await sql('delete from keyring_private.data_keys where subject = $1', [ada.id]);
  const whole = lines();
  const changed = change(whole);
  expect(changed).not.toEqual(whole);
  writeFileSync(path, `${changed.join('\n')}\n`);
  await expect(load()).rejects.toThrow(/is damaged, or was changed/);
  expect(await refusal(nameOf(ada))).toBe('KEYER');
  writeFileSync(path, `${whole.join('\n')}\n`);
  expect(await load()).toMatchObject({ added: 1 });
});

test('a file of another kind or format, one that others can read, and one that is there are refused', async () => {
  await save();
  await expect(save()).rejects.toThrow(/is there already/);
  expect(readdirSync(folder)).toEqual(['keys.jsonl']);
  chmodSync(path, 0o640);
  await expect(load()).rejects.toThrow(/can be read by others/);
  chmodSync(path, 0o600);
  const [header = '', ...rest] = lines();
  const rewrite = (first: object) => writeFileSync(path, `${[JSON.stringify(first), ...rest].join('\n')}\n`);
  rewrite({ ...JSON.parse(header), version: 2 });
  await expect(load()).rejects.toThrow(/of format 2; this is 1/);
  rewrite({ hello: 'world' });
  await expect(load()).rejects.toThrow(/no file of keys/);
});

test('the file holds no key in clear and not the application’s half, and lies not beside it', async () => {
  await save();
  const text = readFileSync(path, 'utf8');
  const opened = await sql("select encode(half, 'hex') as half from keyring_private.roots");
  // The database's half is in it: without that, wrapped keys are of no use to a restore.
  expect(text).toContain(opened[0]?.half);
  for (const encoding of ['hex', 'base64'] as const) expect(text).not.toContain(app.keys.half.toString(encoding));
  const config = loadConfig({ NODE_ENV: 'test', SAFETYPIN_DATA_DIR: app.keysDirectory });
  const tools = { access: db.access, config, print: () => {}, say: () => {} };
  await expect(exportTo(join(app.keysDirectory, 'keys', 'wrapped'), tools)).rejects.toThrow(
    /beside the application's half/,
  );
});

test('nobody else exports or imports', async () => {
  for (const call of [
    "export_data_keys('00000000-0000-0000-0000-000000000000', 1)",
    'export_roots()',
    "keys_without('{}', now(), true)",
  ]) {
    for (const login of ['owner', 'jobs', 'authenticator', 'auditor'] as const) {
      const client = await db.connect(login);
      expect(await refusal(client.query(`select * from keyring_private.${call}`)), `${login} ${call}`).toBe('42501');
      await client.end();
    }
    expect(await refusal(app.call(ada.credential, `select * from keyring_private.${call}`)), call).toBe('42501');
  }
});
