// Migrations of a database in use: they wait for locks a moment only, say for whom, and what fails leaves no trace.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest';
import { retarget, withClient } from '../../src/platform/connection.ts';
import { withMigrationsFolder } from '../../src/platform/migrate/db-commit.ts';
import { takeLock } from '../../src/platform/migrate/lock.ts';
import type { Patience } from '../../src/platform/migrate/patience.ts';
import { databaseStatus } from '../../src/platform/migrate/status.ts';
import { accessTo } from '../support/access.ts';
import { dumpPrivileges, dumpSchema } from '../support/catalog.ts';
import { handleOf, type TestDatabase } from '../support/database.ts';
import { addMigration, build } from './chains.ts';

const SHOP = `
create schema shop;
create table shop.items (id int primary key, name text not null);
insert into shop.items select n, 'item ' || n % 50 from generate_series(1, 100) n;`;

let db: TestDatabase;

beforeEach(async () => {
  // Only what comes before the migrations: these are about how they run.
  const access = accessTo(inject('cluster'), `t_${randomBytes(8).toString('hex')}`);
  db = handleOf(access.database, access);
});
afterEach(() => db.drop());

/** A chain of its own whose first migration makes the shop. */
async function shop<T>(work: (folder: string) => Promise<T>): Promise<T> {
  return withMigrationsFolder({}, async (folder) => {
    await addMigration(folder, 'shop', SHOP);
    await build(db.access, folder);
    return work(folder);
  });
}

const shapeOf = () =>
  withClient(retarget(db.access.admin, db.name), async (client) => ({
    schema: await dumpSchema(client),
    privileges: await dumpPrivileges(client),
    invalid: (await client.query('select indexrelid::regclass::text from pg_index where not indisvalid')).rows,
    ran: (await client.query('select filename, hash from graphile_migrate.migrations order by 1')).rows,
  }));

/** Somebody reads in a transaction that he does not end. */
async function reader() {
  const client = await db.connect('admin');
  await client.query("set application_name = 'monthly report'");
  await client.query('begin');
  await client.query("select * from shop.items where name <> 'canary of the report'");
  return client;
}

/** Reads the table again and again until told to end; the longest that it had to wait, in milliseconds. */
function bystander() {
  let going = true;
  const longest = withClient(retarget(db.access.admin, db.name), async (client) => {
    let most = 0;
    while (going) {
      const began = Date.now();
      await client.query('select count(*) from shop.items');
      most = Math.max(most, Date.now() - began);
      await sleep(5);
    }
    return most;
  });
  return async () => {
    going = false;
    return await longest;
  };
}

/** A migration of the table while somebody reads; he ends two seconds after the migration met him. */
async function alterBesideReader(patience: Patience): Promise<{ waited: number; said: string[] }> {
  return shop(async (folder) => {
    await addMigration(folder, 'colour', 'alter table shop.items add column colour text;');
    const holder = await reader();
    const stop = bystander();
    const said: string[] = [];
    const done = build(db.access, folder, { patience, say: (line) => said.push(line) });
    const queued = "select from pg_locks where relation = 'shop.items'::regclass and not granted";
    while ((await holder.query(queued)).rowCount === 0) await sleep(20);
    await sleep(2_000);
    await holder.query('rollback');
    await done;
    return { waited: await stop(), said };
  });
}

describe('a table that somebody reads in a long transaction', () => {
  test('is changed when he is done; meanwhile nobody waits longer than lock_timeout', async () => {
    const { waited, said } = await alterBesideReader({ lock: 400, total: 60_000 });
    expect(waited).toBeLessThan(1_500);
    expect(said[0]).toMatch(
      /^migrations\/committed\/000002-colour\.sql waits for a lock held by process \d+ \(monthly report, postgres, idle in transaction, for \d s, on shop\.items\); tries again in 0\.\d s$/,
    );
    expect(said.join()).not.toContain('canary');
    expect(said.at(-1)).toContain('1 migration run');
  });

  test('the attack: a migration that waits without end stops everybody', async () => {
    const { waited } = await alterBesideReader({ lock: 60_000, total: 60_000 });
    expect(waited).toBeGreaterThan(1_600);
  });

  test('and who never ends: it gives up with one line, and the database is as it was', async () => {
    await shop(async (folder) => {
      await addMigration(
        folder,
        'colour',
        'create table shop.colours ();\nalter table shop.items add column colour text;',
      );
      const before = await shapeOf();
      const holder = await reader();
      await expect(build(db.access, folder, { patience: { lock: 200, total: 1_000 } })).rejects.toThrow(
        /^migrations\/committed\/000002-colour\.sql gave up after 1 s of waiting for a lock held by process \d+ \(monthly report, [^\n]*: end that, or run it at a quieter time; the database is as it was$/,
      );
      await holder.query('rollback');
      expect(await shapeOf()).toEqual(before);
      await build(db.access, folder);
      expect((await databaseStatus(db.access, folder)).map(({ state }) => state)).toEqual(['run', 'run']);
    });
  });
});

describe('a migration that fails', () => {
  test('in a transaction: nothing of it is there, and file, line and statement are named', async () => {
    await shop(async (folder) => {
      const before = await shapeOf();
      await addMigration(
        folder,
        'bad',
        "create table shop.half (id int);\ninsert into shop.items values (500, 'x');\nalter table shop.items\n  add constraint positive check (id > 5);\n",
      );
      // Three headers and an empty line stand above the text.
      await expect(build(db.access, folder)).rejects.toThrow(
        /^ERROR 23514: [^\n]*\n {2}migrations\/committed\/000002-bad\.sql, line 7:\n {2}7 \| alter table shop\.items$/m,
      );
      expect(await shapeOf()).toEqual(before);
    });
  });

  test('outside of one: an index that could not be finished is not left behind', async () => {
    await shop(async (folder) => {
      const before = await shapeOf();
      const sql =
        '--! no-transaction\n-- Names are unique, we believed.\ncreate unique index concurrently items_name_key on shop.items (name);';
      await addMigration(folder, 'unique', sql);
      await expect(build(db.access, folder)).rejects.toThrow(
        /^ERROR 23505: could not create unique index[^\n]*\n {2}migrations\/committed\/000002-unique\.sql, line 7:\n {2}7 \| create unique index concurrently/,
      );
      expect(await shapeOf()).toEqual(before);
      // PostgreSQL itself leaves it, and `if not exists` would then take it for the real one.
      const owner = await db.connect('owner');
      await expect(owner.query(sql)).rejects.toThrow('could not create unique index');
      expect((await shapeOf()).invalid).toEqual([{ indexrelid: 'shop.items_name_key' }]);
      await owner.query('update shop.items set name = id::text');
      await build(db.access, folder);
      expect(await shapeOf()).toMatchObject({ invalid: [], ran: [{}, { filename: '000002.sql' }] });
    });
  });
});

describe('two migrators', () => {
  test('the second says for whom it waits, and gives up when that one does not end', async () => {
    await shop(async (folder) => {
      const first = await db.connect('admin');
      await first.query("set application_name = 'the first'");
      await takeLock(first, 'contents', { lock: 1_000, total: 1_000 }, () => {});
      const said: string[] = [];
      const patience = { lock: 100, total: 600 };
      await expect(build(db.access, folder, { patience, say: (line) => said.push(line) })).rejects.toThrow(
        /^another migration has not finished within 1 s \(process \d+: the first, postgres, since \d\d:\d\d:\d\d UTC\): look after that one; nothing was changed$/,
      );
      // Another file may be at the server's own lock for a moment.
      const ours = said.filter((line) => line.includes('the first'));
      expect(ours).toEqual([
        expect.stringMatching(/^waiting for another migration to finish \(process \d+: the first/),
      ]);
      await first.end();
      await build(db.access, folder);
    });
  });
});
