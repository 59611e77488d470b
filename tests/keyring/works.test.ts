// Long work in batches: goes on from where it was, whoever is killed, and never does the work of another job.
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { Application, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

let db: TestDatabase;
let app: Application;
let hand: WorkHand;

// A kind whose rows are numbers, in this test's own database: counts up to `until`, with whatever happens on the way.
const KIND = (instead = '') => `
  create or replace function keyring_private.work_reseal(work keyring_private.works, batch integer) returns integer
    language plpgsql set search_path = pg_catalog, pg_temp as $$
  declare
    v_at integer := coalesce((work.position ->> 'at')::integer, 0);
    v_count integer := least(batch, (work.position ->> 'until')::integer - v_at);
  begin
    ${instead}
    update keyring_private.works w
      set position = w.position || jsonb_build_object('at', v_at + v_count) where w.id = work.id;
    return v_count;
  end $$;
  alter function keyring_private.work_reseal(keyring_private.works, integer) owner to safetypin_keeper`;

const add = (until: number, kind = 'reseal', column: string | null = null) =>
  hand.admin.query(`select keyring_private.add_work($1, $2, $3::integer, jsonb_build_object('until', $3::integer))`, [
    kind,
    column,
    until,
  ]);
const due = () => hand.admin.query('update keyring_private.works set run_at = now()');

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  hand = await WorkHand.of(app);
});

beforeEach(async () => {
  await hand.admin.query('delete from keyring_private.works');
  await hand.admin.query(KIND());
});

test('a work goes on in batches until nothing is left, and says how far it is', async () => {
  expect(await hand.batch()).toBe(0);
  await add(25);
  expect(await hand.batch(10)).toBe(10);
  expect(await hand.works()).toMatchObject([{ kind: 'reseal', done: '10', total: '25', percent: 40, problem: null }]);
  expect(await hand.all(10)).toBe(3);
  expect(await hand.works()).toMatchObject([{ done: '25', percent: 100, finished_at: expect.any(Date) }]);
  expect(await hand.batch()).toBe(0);
});

test('CR-08 a batch that is broken off before its commit is done again, from the same place', async () => {
  await add(30);
  await hand.batch(10);
  for (let time = 0; time < 3; time += 1) {
    const killed = hand.batch(10, 'keyring__work', () => Promise.reject(new Error('killed')));
    await expect(killed).rejects.toThrow('killed');
  }
  expect(await hand.works()).toMatchObject([{ done: '10' }]);
  await hand.all(10);
  expect(await hand.works()).toMatchObject([{ done: '30', percent: 100 }]);
});

describe('a batch that fails', () => {
  test('leaves a code and no value, keeps its place, lets others pass, and is tried again', async () => {
    await hand.admin.query(KIND(`raise exception 'canary' using errcode = 'KEYBD';`));
    await add(10);
    expect(await hand.batch()).toBe(1);
    expect(await hand.works()).toMatchObject([{ problem: 'KEYBD', done: '0', finished_at: null }]);
    expect(await hand.batch()).toBe(0);
    await hand.admin.query(KIND());
    await due();
    await hand.all();
    expect(await hand.works()).toMatchObject([{ problem: null, done: '10', percent: 100 }]);
  });

  test('for want of a key is the job’s own failure: it must make another envelope', async () => {
    await hand.admin.query(KIND(`raise exception 'no key' using errcode = 'KEYNO';`));
    await add(10);
    expect(await refusal(hand.batch())).toBe('KEYNO');
    expect(await hand.works()).toMatchObject([{ problem: null, done: '0' }]);
  });

  test('for a kind that has no function is a code too', async () => {
    await hand.admin.query('drop function keyring_private.work_reseal(keyring_private.works, integer)');
    await add(10);
    await hand.batch();
    expect(await hand.works()).toMatchObject([{ problem: '42883' }]);
  });
});

test('two workers never do one work at once; each takes another', async () => {
  const other = await WorkHand.of(app);
  await add(10);
  await hand.batch(5, 'keyring__work', async () => {
    expect(await other.batch(5)).toBe(0);
    await add(10, 'reseal', '019a9d5c-0000-7000-8000-000000000001');
    expect(await other.batch(5)).toBe(5);
  });
  expect((await hand.works()).map(({ done }) => done)).toEqual(['5', '5']);
});

test('one of a kind and column at a time', async () => {
  await add(10);
  expect(await refusal(add(10))).toBe('CNFLT');
  await add(10, 'reseal', '019a9d5c-0000-7000-8000-000000000001');
  await hand.all();
  await add(10);
});

describe('F18 a work is done', () => {
  test('by the job of its name alone', async () => {
    await add(10);
    expect(await refusal(hand.batch(5, 'keyring__clean_up'))).toBe('DENYD');
    await withoutGuard(
      db,
      'keyring.take_work(integer)',
      /if request\.task\(\) is distinct from 'keyring__work' then/,
      'if false then',
      async () => expect(await hand.batch(5, 'keyring__clean_up')).toBe(5),
    );
  });

  test('by nobody who signs in, and is seen by the owner alone', async () => {
    const ada = await app.person('ada');
    for (const credential of [null, ada.credential]) {
      expect(await refusal(app.call(credential, 'select keyring.work(1)'))).toBe('42501');
      expect(await refusal(app.call(credential, 'select * from keyring.works()'))).toBe('42501');
      expect(await refusal(app.call(credential, 'select * from keyring_private.works'))).toBe('42501');
    }
  });
});
