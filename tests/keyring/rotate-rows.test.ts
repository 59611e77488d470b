// CR-08: data keys and index keys are replaced while people read, write and look up; and erased (DESIGN 5).
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { refusal, withoutGuard } from '../support/actors.ts';
import { type Clinic, clinicWith, traffic } from './clinic-rows.ts';

const ROWS = Math.max(100, Math.round(1_000 * loadConfig().testScale));

let clinic: Clinic;
const rows = <T extends object>(sql: string, values: unknown[] = []) =>
  clinic.app.rows<T & Record<string, unknown>>(clinic.ada.credential, sql, values);
const one = async <T>(sql: string) => (await clinic.hand.admin.query(sql)).rows[0] as T;
const find = async (ssn: string) =>
  (await rows<{ name: string }>('select name from clinic.patients_by_ssn($1)', [ssn])).map(({ name }) => name);
const due = () => clinic.hand.admin.query('update keyring_private.works set run_at = now() where finished_at is null');
const open = async () => (await clinic.hand.works()).filter(({ finished_at }) => finished_at === null).length;

/** Batches until nothing is left, every fourth of them broken off before its commit. */
async function workBrokenly(size: number): Promise<number> {
  let broken = 0;
  for (let batch = 0; batch < 2_000; batch += 1) {
    let done = 0;
    if (batch % 4 === 2) {
      const killed = clinic.hand.batch(size, 'keyring__work', () => Promise.reject(new Error('killed')));
      await expect(killed).rejects.toThrow('killed');
      broken += 1;
    } else done = await clinic.hand.batch(size);
    if (done > 0 || batch % 4 === 2) continue;
    if ((await open()) === 0) return broken;
    await due();
  }
  throw new Error(`without end: ${JSON.stringify(await clinic.hand.works())}`);
}

/** As far as it comes while somebody is in its way. */
async function workSome(): Promise<void> {
  for (let round = 0; round < 4; round += 1) {
    await clinic.hand.all();
    await due();
  }
}

/** Somebody who began before, and saw things as they were then; writes late. */
async function early() {
  const client = await clinic.app.pool.connect();
  await client.query('begin isolation level repeatable read');
  await clinic.app.open(client, clinic.ada.credential);
  await client.query('select count(*) from clinic.patients');
  return {
    async write(name: string, ssn: string, born: string | null = null) {
      try {
        await client.query('insert into clinic.patients (name, ssn, born) values ($1, $2, $3)', [name, ssn, born]);
        await client.query('commit');
      } catch (error) {
        await client.query('rollback');
        throw error;
      } finally {
        client.release();
      }
    },
  };
}

beforeAll(async () => {
  clinic = await clinicWith(ROWS);
  await clinic.owner.query(`
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true, options => '{"unique": true}');
    select keyring.seal_column('clinic.patients', 'born')`);
  await clinic.hand.finish();
  await clinic.owner.query(
    "select keyring.finish('clinic.patients', 'ssn'), keyring.finish('clinic.patients', 'born')",
  );
});

beforeEach(() => clinic.hand.admin.query("delete from clinic.patients where name not like 'p%'"));

const WAIT = [
  'keyring_private.has_waited(keyring_private.works)',
  /return not exists/,
  'return true or not exists',
] as const;

describe('CR-08 a rotation of data keys', () => {
  const keys = () =>
    one(`select
      (select count(*) from clinic.patients where keyring.is_stale(ssn_sealed) or keyring.is_stale(born_sealed))::int as patients,
      (select count(*) from identity_private.emails where keyring.is_stale(address))::int as emails,
      (select count(*) from identity_private.profiles where keyring.is_stale(display_name))::int as names,
      (select count(*) from access_private.invitation_addresses where keyring.is_stale(address))::int as invitations,
      (select count(*) from identity_private.passwords where keyring.is_stale(verifier))::int as passwords`);
  const none = { patients: 0, emails: 0, names: 0, invitations: 0, passwords: 0 };

  it('seals every value anew while people read and write, and is broken off at any row', async () => {
    await rows("select api.invite_member('guest@example.com', 'member')");
    await clinic.owner.query('select keyring.rotate_data_keys()');
    expect(await refusal(clinic.owner.query('select keyring.rotate_data_keys()'))).toBe('CNFLT');
    const people = traffic(clinic, ROWS);
    expect(await workBrokenly(30)).toBeGreaterThan(2);
    const { wrong, rounds } = await people.stop();
    expect(wrong).toEqual([]);
    expect(rounds).toBeGreaterThan(1);
    expect(await keys()).toEqual(none);
    expect(await rows('select api.invitations_email(i) as email from access.invitations i')).toEqual([
      { email: 'guest@example.com' },
    ]);
    expect((await clinic.app.signIn(clinic.ada.email, clinic.ada.tag)).outcome).toBe('SIGNED_IN');
    expect(
      await one(
        `select count(*)::int as n from audit.events where action = 'row.update' and details ->> 'changed' like '%_sealed%' and request_id is null`,
      ),
    ).toEqual({ n: 0 });
  }, 120_000);

  it('leaves old rows readable under the old key, and that key deleted makes exactly those unreadable', async () => {
    const read = async () =>
      (await rows<{ ssn: string | null }>('select clinic.patients_ssn(p) as ssn from clinic.patients p')).filter(
        ({ ssn }) => ssn !== null,
      ).length;
    const all = await read();
    const current = () =>
      one<{ n: number }>('select count(*)::int as n from clinic.patients where not keyring.is_stale(ssn_sealed)');
    await clinic.owner.query('select keyring.rotate_data_keys()');
    // Until a part of the rows is done.
    while ((await current()).n === 0 || (await current()).n === all) {
      if ((await clinic.hand.batch(20)) === 0) await due();
    }
    const { n } = await current();
    expect(await read()).toBe(all);
    await clinic.hand.admin.query('begin');
    await clinic.hand.admin.query('delete from keyring_private.data_keys where retired_at is not null');
    await clinic.hand.admin.query('commit');
    expect(n).toBeGreaterThan(0);
    expect(await read()).toBe(n);
    await workBrokenly(500);
    await clinic.hand.admin.query(
      'delete from clinic.patients p where not exists (select from keyring_private.data_keys k where k.id = encode(substr(p.ssn_sealed, 18, 16), $1)::uuid)',
      ['hex'],
    );
    expect(await read()).toBe(n);
  });

  it('waits for who began before it, and would lose what they write without that', async () => {
    const late = await early();
    await clinic.owner.query('select keyring.rotate_data_keys(destroy => true)');
    await workSome();
    expect(await open()).toBeGreaterThan(0);
    await late.write('late', 'canary-late');
    await workBrokenly(500);
    expect(await find('canary-late')).toEqual(['late']);
    const ssn = "select clinic.patients_ssn(p) as ssn from clinic.patients p where name like 'late%' order by name";
    expect(await rows(ssn)).toEqual([{ ssn: 'canary-late' }]);
    expect(await one('select count(*)::int as n from keyring_private.data_keys where retired_at is not null')).toEqual({
      n: 0,
    });
    await withoutGuard(clinic.db, ...WAIT, async () => {
      const later = await early();
      await clinic.owner.query('select keyring.rotate_data_keys(destroy => true)');
      await workSome();
      expect(await open()).toBe(0);
      await later.write('later', 'canary-later', '1970-01-01');
      // Sealed under the organization's key as it saw it, which is gone.
      expect(
        await rows(
          "select clinic.patients_ssn(p) as ssn, clinic.patients_born(p) as born from clinic.patients p where name = 'later'",
        ),
      ).toEqual([{ ssn: 'canary-later', born: null }]);
    });
  });

  it('destroys no key while somebody reads who began before the values stood under new ones', async () => {
    await clinic.owner.query('select keyring.rotate_data_keys(destroy => true)');
    const phase = async () =>
      (
        await one<{ phase: string }>(
          "select position ->> 'phase' as phase from keyring_private.works where column_id is null order by id desc limit 1",
        )
      ).phase;
    // One that waits lets the others pass until it is due again.
    for (let i = 0; i < 200 && (await phase()) !== 'values'; i += 1)
      if ((await clinic.hand.batch(500)) === 0) await due();
    expect(await phase()).toBe('values');
    const slow = await clinic.app.pool.connect();
    await slow.query('begin');
    await clinic.app.open(slow, clinic.ada.credential);
    await slow.query(
      'declare c cursor for select clinic.patients_ssn(p) as ssn, ssn_sealed is null as none from clinic.patients p',
    );
    const read = (await slow.query('fetch 1 from c')).rows;
    await workSome();
    expect(await open()).toBeGreaterThan(0);
    read.push(...(await slow.query('fetch all from c')).rows);
    await slow.query('commit');
    slow.release();
    expect(read.length).toBeGreaterThan(10);
    expect(read.filter(({ ssn, none }) => (ssn === null) !== none)).toEqual([]);
    await workBrokenly(500);
  });
});

describe('a rotation of an index key', () => {
  const ROTATE = "select keyring.rotate_index_key('clinic.patients', 'ssn')";
  const slots = () =>
    one(`select count(ssn_index_a)::int as a, count(ssn_index_b)::int as b, (select string_agg(slot, '') from keyring_private.index_keys k
      join keyring_private.sealed_columns c on c.id = k.column_id where c.relation = 'clinic.patients'::regclass) as keys from clinic.patients`);

  it('finds every value and refuses every double all the time; there and back', async () => {
    const fill = () =>
      rows(
        "insert into clinic.patients (name, ssn) select 'q' || n, 'canary-' || lpad(n::text, 5, '0') || '-new' from generate_series(1, $1::integer) n",
        [ROWS],
      );
    for (const [from, to] of ['ab', 'ba']) {
      await clinic.hand.admin.query('delete from clinic.patients');
      await fill();
      expect(await slots()).toEqual({ a: 0, b: 0, [from as string]: ROWS, keys: from });
      await clinic.owner.query(ROTATE);
      expect(await refusal(clinic.owner.query(ROTATE))).toBe('CNFLT');
      const people = traffic(clinic, 0, from === 'a' ? 0 : 5_000);
      for (let n = 1; n <= ROWS; n += 1) people.expected.set(`q${n}`, `canary-${String(n).padStart(5, '0')}-new`);
      await workBrokenly(30);
      const { wrong } = await people.stop();
      expect(wrong).toEqual([]);
      expect(await slots()).toEqual({ a: 0, b: 0, [to as string]: expect.any(Number), keys: to });
    }
  }, 120_000);

  it('waits for who began before it, and would miss what they write without that', async () => {
    const run = async (value: string) => {
      const late = await early();
      await clinic.owner.query(ROTATE);
      await workSome();
      await late.write(value, value);
      await workBrokenly(500);
      return {
        found: await find(value),
        double: await refusal(rows("insert into clinic.patients (name, ssn) values ('twin', $1)", [value])),
      };
    };
    expect(await run('canary-waited')).toEqual({ found: ['canary-waited'], double: '23505' });
    await withoutGuard(clinic.db, ...WAIT, async () => {
      expect(await run('canary-missed')).toEqual({ found: [], double: 'no refusal' });
    });
  });
});

describe('CR-10 erasing', () => {
  it('is done by a job with the subject: keys and blind indexes go, and no copy of before opens again', async () => {
    await clinic.hand.admin.query(`
      insert into platform.tasks (name, payload, description) values ('test__erase', '{subject}', 'For a test.') on conflict do nothing;
      grant execute on function keyring.erase(uuid) to safetypin_jobs`);
    await clinic.hand.admin.query('delete from clinic.patients');
    await rows(
      "insert into clinic.patients (name, ssn, born) values ('grace', 'canary-grace', '1970-01-01'), ('mary', 'canary-mary', '1970-01-02')",
    );
    const { id } = await one<{ id: string }>("select id from clinic.patients where name = 'grace'");
    await clinic.hand.admin.query('create table clinic.copy as select * from clinic.patients');
    const jobs = await clinic.db.connect('jobs');
    const { rows: made } = await clinic.hand.admin.query(
      `with job as (select graphile_worker.safetypin_add_job('test__erase', json_build_object('subject', $1::uuid), 1::smallint, 0) as id)
       insert into platform_private.job_contexts (job_id, task, permissions, lane, payload)
         select id, 'test__erase', '{}', platform.no_organization(), jsonb_build_object('subject', $1::uuid) from job returning job_id`,
      [id],
    );
    await clinic.hand.admin.query(
      "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1",
      [made[0].job_id],
    );
    await jobs.query('begin');
    await jobs.query("select set_config('role', platform.open_job($1, $2), true)", [
      made[0].job_id,
      await clinic.app.envelopes.seal(null),
    ]);
    await jobs.query('savepoint other');
    expect(await refusal(jobs.query('select keyring.erase(gen_random_uuid())'))).toBe('DENYD');
    await jobs.query('rollback to other');
    expect(await refusal(jobs.query('select keyring.erase(null)'))).toBe('DENYD');
    await jobs.query('rollback to other');
    expect((await jobs.query('select keyring.erase($1) as n', [id])).rows).toEqual([{ n: 1 }]);
    await jobs.query('commit');
    expect(
      await rows(
        'select name, clinic.patients_ssn(p) as ssn, clinic.patients_born(p)::text as born from clinic.patients p order by name',
      ),
    ).toEqual([
      { name: 'grace', ssn: null, born: '1970-01-01' },
      { name: 'mary', ssn: 'canary-mary', born: '1970-01-02' },
    ]);
    expect([await find('canary-grace'), await find('canary-mary')]).toEqual([[], ['mary']]);
    // Put back from the copy: the ciphertext is as it was, and stays shut.
    await clinic.hand.admin.query('delete from clinic.patients; insert into clinic.patients select * from clinic.copy');
    expect(await rows('select name, clinic.patients_ssn(p) as ssn from clinic.patients p order by name')).toEqual([
      { name: 'grace', ssn: null },
      { name: 'mary', ssn: 'canary-mary' },
    ]);
    const door = await one<{ id: string }>("select id from keyring.doors() where door = 'ssn'");
    expect(
      await rows(
        "select o.problem from clinic.patients p, keyring.open_values($1, array[p.id], array[p.ssn_sealed]) o where name = 'grace'",
        [door.id],
      ),
    ).toEqual([{ problem: 'KEYER' }]);
    expect(
      await one("select details ->> 'subject' as subject from audit.events where action = 'subject.erase'"),
    ).toEqual({ subject: id });
  });
});
