// Random statements against a table with sealed columns and a plain twin: what one takes the other takes, and both say
// the same in the end. Whatever a door refuses, it refuses by its own codes, and alone (F13, LW-04).
import { spawnSync } from 'node:child_process';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { random, SEED } from '../support/random.ts';

const STATEMENTS = Math.round(3000 * loadConfig().testScale);
/** In every value that is written, so that it can be looked for. */
const CANARY = '7351946280';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  const owner = await db.connect('owner');
  ada = await app.person('ada');
  for (const schema of ['plain', 'sealed']) {
    await owner.query(`create schema ${schema};
      create table ${schema}.t (organization_id uuid not null default request.organization_id(), id bigint, part int default 0, n int,
        word text, pay numeric(20,2), day timestamptz default '2024-02-29 12:00+00', required varchar(40) not null default '${CANARY}',
        primary key (id, part)) partition by list (part);
      create table ${schema}.t0 partition of ${schema}.t for values in (0) partition by hash (id);
      create table ${schema}.t00 partition of ${schema}.t0 for values with (modulus 2, remainder 0);
      create table ${schema}.t01 partition of ${schema}.t0 for values with (modulus 2, remainder 1);
      create table ${schema}.t1 partition of ${schema}.t for values in (1);
      create table ${schema}.source (id bigint, part int default 0, word text, pay numeric(20,2))`);
  }
  await owner.query(
    `select keyring.seal_column('sealed.t', c, searchable => c = 'pay') from unnest('{required,word,day,pay}'::name[]) c`,
  );
  await owner.query('create view plain.read as select id, part, n, word, pay, day, required from plain.t');
  await owner.query(`create view sealed.read with (security_invoker = true) as select id, part, n, sealed.t_word(t) as word, sealed.t_pay(t) as pay,
    sealed.t_day(t) as day, sealed.t_required(t) as required from sealed.t`);
}, 60_000);

type Below = ReturnType<typeof random>;

/** A statement, with X where the schema stands. */
function statement(next: Below): string {
  const one = <T>(of: readonly T[]): T => of[next(of.length)] as T;
  const id = () => next(12);
  const where = () => one([`id = ${id()}`, `id between ${id()} and ${id()}`, `n = ${next(3)}`, 'true', 'false']);
  const word = () => one(['null', `'${CANARY} ${next(1000)}'`, `'${CANARY}' || id`, "''"]);
  const literal = () => one(['null', `'${CANARY} ${next(1000)}'`]);
  const pay = () => one(['null', `${CANARY}.${next(99)}`, `${CANARY}.00`, `'-${CANARY}.5'`]);
  const day = () => one(['null', 'default', `'2024-0${1 + next(9)}-11 10:00 Europe/Zurich'`, "'infinity'"]);
  const required = () => one([`'${CANARY} ${next(9)}'`, `'${CANARY}'`, 'default', 'null']);
  const set = () =>
    one([`word = ${word()}`, `pay = ${pay()}`, `day = ${day()}`, `required = ${required()}`, `n = ${next(3)}`]);
  const sets = () => {
    const chosen = Array.from({ length: 1 + next(3) }, set);
    return chosen
      .filter((text, at) => chosen.findIndex((other) => other.split(' ')[0] === text.split(' ')[0]) === at)
      .join(', ');
  };
  const row = () => `(${id()}, ${next(2)}, ${next(3)}, ${literal()}, ${pay()}, ${day()}, ${required()})`;
  const rows = () => Array.from({ length: 1 + next(3) }, row).join(', ');
  const columns = '(id, part, n, word, pay, day, required)';
  const refill = `delete from X.source; insert into X.source values (${id()}, 0, ${literal()}, ${pay()}), (${20 + id()}, 1, ${literal()}, ${pay()})`;
  return one<() => string>([
    () => `insert into X.t ${columns} values ${rows()}`,
    () => `insert into X.t ${columns} values ${rows()} on conflict do nothing`,
    () => `insert into X.t (id, n) values (${id()}, 1)`,
    () =>
      `insert into X.t ${columns} values ${rows()} on conflict (id, part) do update set ${sets().replace(/\|\| id/g, '|| 7')}`,
    () => `insert into X.t ${columns} values ${row()} on conflict (id, part) do update set word = excluded.word`,
    () =>
      `insert into X.t ${columns} values ${rows()} on conflict (id, part) do update set pay = excluded.pay, n = excluded.n`,
    () => `update X.t set ${sets()} where ${where()}`,
    () => `update X.t set ${sets()} where ${where()}`,
    () =>
      `update X.t set id = id + 100, word = ${literal()}, pay = ${pay()}, day = ${day()}, required = ${required()} where id = ${id()}`,
    () => `update X.t set part = 1 - part where id = ${id()}`,
    () => `delete from X.t where id = ${id()}`,
    () =>
      `with gone as (delete from X.t where id = ${id()} returning *) insert into X.t (id, part, n, word) select id, part, n + 1, 'x${CANARY}' from gone`,
    () => `${refill}; insert into X.t (id, part, word, pay) select * from X.source on conflict do nothing`,
    () => `${refill}; update X.t set word = s.word from X.source s where s.id = t.id`,
    () => `${refill}; merge into X.t t using X.source s on t.id = s.id when matched and t.n = 1 then delete
      when matched then update set word = s.word, n = 1 when not matched then insert (id, part, word, pay) values (s.id, s.part, s.word, s.pay)`,
    () =>
      `do $$ begin insert into X.t (id, word) values (${id()}, ${literal()}); update X.t set word = ${literal()} where id = ${id()}; exception when unique_violation then update X.t set pay = ${pay()} where id = ${id()}; end $$`,
    () => `truncate X.t${next(2)}`,
  ])();
}

describe('random statements', () => {
  it(`say the same of a table with sealed columns and of a plain one (seed ${SEED})`, async () => {
    const numbers = random(SEED);
    const refused: Record<string, number> = {};
    let count = 0;
    const attempt = async (text: string): Promise<string | null> => {
      await admin.query('savepoint one');
      try {
        await admin.query(text);
        return null;
      } catch (error) {
        await admin.query('rollback to one');
        // A plain column's error shows its row.
        if (text.includes('sealed.'))
          expect(JSON.stringify({ ...(error as Error), message: String(error) })).not.toContain(CANARY);
        return (error as pg.DatabaseError).code ?? null;
      }
    };
    await admin.query('begin');
    await admin.query("select sessions.open_request($1, $2, '{}')", [
      ada.credential,
      await app.envelopes.seal(ada.credential),
    ]);
    for (let at = 0; at < STATEMENTS; at += 1) {
      const text = statement(numbers);
      await admin.query('savepoint before_both');
      const plain = await attempt(text.replaceAll('X.', 'plain.'));
      const sealed = await attempt(text.replaceAll('X.', 'sealed.'));
      if (sealed !== plain) {
        // A door refuses more than a column would, but by codes of its own, and never takes more.
        expect(`${text}: ${plain} ${sealed}`).toMatch(/: (null|23\d{3}|21000) (KEYEX|KEYIM)$/);
        await admin.query('rollback to before_both');
      }
      if (sealed === null) count += 1;
      else refused[sealed] = (refused[sealed] ?? 0) + 1;
      if (at % 50 === 0 || at === STATEMENTS - 1) {
        const read = async (schema: string) =>
          (
            await admin.query(
              `select *, tableoid_ from (select t.id, t.part, tableoid::regclass::text as tableoid_ from ${schema}.t) w join ${schema}.read using (id, part) order by id, part`,
            )
          ).rows;
        const [left, right] = [await read('plain'), await read('sealed')];
        expect(right.map((row) => ({ ...row, tableoid_: row.tableoid_.replace('sealed', 'plain') }))).toEqual(left);
      }
      await admin.query('release before_both');
    }
    await admin.query('commit');
    // Each kind of answer was among them.
    expect(count).toBeGreaterThan(STATEMENTS / 3);
    expect(Object.keys(refused)).toEqual(expect.arrayContaining(['KEYEX', 'KEYIM', '23502', '23505']));
  }, 300_000);

  it('LW-04 leave not one plain value in heap, TOAST or indexes, dead rows and all', async () => {
    await admin.query('checkpoint');
    const holding = async (schema: string) => {
      const { rows } = await admin.query(
        `select current_setting('data_directory') || '/' || pg_relation_filepath(c.oid) as path from pg_class c
          where pg_relation_filepath(c.oid) is not null and (relnamespace = $1::regnamespace and relname ~ '^t'
            or exists (select from pg_class t where t.reltoastrelid = c.oid and t.relnamespace = $1::regnamespace and t.relname ~ '^t'))`,
        [schema],
      );
      expect(rows.length).toBeGreaterThan(6);
      return rows.filter(({ path }) => spawnSync('grep', ['-q', '-a', CANARY, path]).status === 0).length;
    };
    expect(await holding('plain')).toBeGreaterThan(0);
    expect(await holding('sealed')).toBe(0);
  });
});
