// Sealing a table that has rows, and having it back (DESIGN 5, F7, F13): while everybody reads and writes.
import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { DOORS } from '../../src/platform/doctor/doors.ts';
import { refusal, withoutGuard } from '../support/actors.ts';
import { type Clinic, clinicWith, SSN, traffic } from './clinic-rows.ts';

const ROWS = Math.max(300, Math.round(3_000 * loadConfig().testScale));

const SEAL = `select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true, options => '{"unique": true}') as said`;
const UNSEAL = "select keyring.unseal_column('clinic.patients', 'ssn') as said";
const FINISH = "select keyring.finish('clinic.patients', 'ssn') as said";
const said = async (clinic: Clinic, sql: string) =>
  (await clinic.owner.query(sql)).rows.map((row) => row.said).join('\n');
const one = async <T>(clinic: Clinic, sql: string) => (await clinic.hand.admin.query(sql)).rows[0] as T;

/** Whether a text stands in the table's file. */
async function inFile(clinic: Clinic, text: string): Promise<boolean> {
  await clinic.hand.admin.query('checkpoint');
  const { path } = await one<{ path: string }>(
    clinic,
    "select current_setting('data_directory') || '/' || pg_relation_filepath('clinic.patients') as path",
  );
  try {
    execFileSync('grep', ['-c', '-a', text, path]);
    return true;
  } catch {
    return false;
  }
}

/** Events of changed rows since a moment, as text: `what` in it was recorded in clear. */
const recorded = async (clinic: Clinic, since: string, what: string) =>
  (
    await one<{ n: number }>(
      clinic,
      `select count(*)::int as n from audit.events where occurred_at > '${since}' and position(convert_to('${what}', 'UTF8') in entry) > 0`,
    )
  ).n;
const now = async (clinic: Clinic) => (await one<{ at: string }>(clinic, 'select clock_timestamp()::text as at')).at;

/** What the doctor says about sealed columns, unless all is well. */
async function doctor(clinic: Clinic): Promise<string[]> {
  const { admin } = clinic.hand;
  const found = await DOORS.look({ admin, access: clinic.db.access, pooled: false, now: Date.now, schemas: [] });
  return [found].flat().flatMap(({ level, line }) => (level === 'ok' ? [] : [line]));
}

describe('CR-08 PG-73 a table with rows', () => {
  let clinic: Clinic;

  beforeAll(async () => {
    clinic = await clinicWith(ROWS);
  });

  it('is sealed, finished, unsealed and finished, while people read, find, write and repeat values', async () => {
    const since = await now(clinic);
    expect(await inFile(clinic, SSN(7))).toBe(true);
    expect(await said(clinic, SEAL)).toContain(`a job seals the ${ROWS} values that are there`);
    const sealing = traffic(clinic, ROWS);
    let broken = 0;
    for (let batch = 0; batch < 1_000; batch += 1) {
      const works = await clinic.hand.works();
      if (works.every(({ finished_at }) => finished_at !== null)) break;
      await clinic.hand.admin.query('update keyring_private.works set run_at = now()');
      if (batch % 4 === 1) {
        await expect(clinic.hand.batch(40, 'keyring__work', () => Promise.reject(new Error('killed')))).rejects.toThrow(
          'killed',
        );
        broken += 1;
      } else await clinic.hand.batch(40);
    }
    expect(await refusal(clinic.owner.query(SEAL))).toBe('TABLE');
    expect(await doctor(clinic)).toEqual(["the job is through: select keyring.finish('clinic.patients', 'ssn')"]);
    expect(await said(clinic, FINISH)).toContain('vacuum full clinic.patients');
    expect(await doctor(clinic)).toEqual([]);
    const first = await sealing.stop();
    expect(first.wrong).toEqual([]);
    expect(first.rounds).toBeGreaterThan(3);
    expect(broken).toBeGreaterThan(1);
    const left = `select count(ssn)::int as plain, count(ssn_index_b)::int as b, count(ssn_sealed)::int as sealed, count(ssn_index_a)::int as a from clinic.patients`;
    const size = sealing.expected.size;
    expect(await one(clinic, left)).toEqual({ plain: 0, b: 0, sealed: size, a: size });
    expect(
      await one(clinic, "select pg_get_constraintdef(oid) as c from pg_constraint where conname = 'ssn_is_sealed'"),
    ).toEqual({
      c: 'CHECK ((ssn IS NULL))',
    });
    // A row that somebody may still see by an old snapshot (autovacuum counting rows, say) is carried over.
    let isLeft = true;
    for (let tries = 0; isLeft && tries < 20; tries += 1) {
      await clinic.hand.admin.query('vacuum full clinic.patients');
      isLeft = await inFile(clinic, 'canary-');
      if (isLeft) await sleep(250);
    }
    expect(isLeft).toBe(false);
    expect(await recorded(clinic, since, 'canary-')).toBe(0);

    expect(await said(clinic, UNSEAL)).toContain('a job opens');
    expect(await refusal(clinic.owner.query(UNSEAL))).toBe('CNFLT');
    const back = traffic(clinic, 0, 10_000);
    for (const [name, ssn] of sealing.expected) back.expected.set(name, ssn);
    await clinic.hand.finish(40);
    expect(await doctor(clinic)).toEqual(["the job is through: select keyring.finish('clinic.patients', 'ssn')"]);
    const second = await back.stop();
    expect(second.wrong).toEqual([]);
    expect(second.rounds).toBeGreaterThan(1);
    expect(await recorded(clinic, since, 'canary-')).toBe(0);
    expect(await said(clinic, UNSEAL)).toContain('clinic.patients.ssn is text again');
    const plain = await clinic.app.rows<{ name: string; ssn: string }>(
      clinic.ada.credential,
      'select name, ssn from clinic.patients',
    );
    expect(new Map(plain.map(({ name, ssn }) => [name, ssn]))).toEqual(back.expected);
  }, 120_000);

  it('has nothing left of it once it is unsealed', async () => {
    expect(
      await one(
        clinic,
        `select
          (select array_agg(attname order by attnum) from pg_attribute where attrelid = 'clinic.patients'::regclass and attnum > 0 and not attisdropped)::text as columns,
          (select count(*) from pg_trigger where tgrelid = 'clinic.patients'::regclass and tgname ~ 'seal')::int as triggers,
          (select count(*) from pg_proc where pronamespace = 'clinic'::regnamespace)::int as functions,
          (select count(*) from pg_constraint where conrelid = 'clinic.patients'::regclass and contype = 'c')::int as checks,
          (select count(*) from pg_policy where polrelid = 'clinic.patients'::regclass and polname ~ 'work')::int as policies,
          (select count(*) from pg_attribute where attrelid = 'clinic.patients'::regclass and not attisdropped and attacl::text ~ 'jobs')::int as grants,
          (select pg_get_triggerdef(oid) ~ '~doors' from pg_trigger where tgname = '_800_audit' and tgrelid = 'clinic.patients'::regclass) as hidden,
          (select count(*) from keyring_private.sealed_columns where relation is not null)::int as register,
          (select count(*) from keyring_private.index_keys k where not exists (select from keyring_private.sealed_columns c where c.id = k.column_id))::int as keys`,
      ),
    ).toEqual({
      columns: '{organization_id,id,name,ssn,born}',
      triggers: 0,
      functions: 0,
      checks: 0,
      policies: 0,
      grants: 0,
      hidden: false,
      register: 0,
      keys: 0,
    });
    expect(await one(clinic, "select count(*)::int as n from audit.events where action = 'column.unseal'")).toEqual({
      n: 2,
    });
  });

  it('is refused at once for values that it would not take, none of which is named', async () => {
    const seal = (options: string) =>
      clinic.owner.query(`select keyring.seal_column('clinic.patients', 'ssn', options => '${options}')`);
    await clinic.app
      .rows(clinic.ada.credential, "update clinic.patients set ssn = 'canary-twin' where name in ('p1', 'p2')")
      .catch(() => {});
    await clinic.hand.admin.query('drop index if exists clinic.patients_organization_id_ssn_idx');
    await clinic.app.rows(
      clinic.ada.credential,
      "update clinic.patients set ssn = 'canary-twin' where name in ('p1', 'p2')",
    );
    for (const options of ['{"unique": true}', '{"format": "^[0-9]+$"}']) {
      const error = await seal(options).catch((thrown) => thrown);
      expect(error.code).toBe('TABLE');
      expect(JSON.stringify(error)).not.toContain('canary');
    }
    await clinic.app.rows(clinic.ada.credential, "update clinic.patients set ssn = null where name = 'p1'");
    expect(await refusal(seal('{"required": true}'))).toBe('TABLE');
  });

  it('keeps its old values out of the audit trail only because its trigger is told to', async () => {
    const since = await now(clinic);
    await clinic.owner.query(`select keyring.seal_column('clinic.patients', 'ssn', subject => 'id')`);
    const definition = await one<{ text: string }>(
      clinic,
      "select pg_get_triggerdef(oid) as text from pg_trigger where tgname = '_800_audit' and tgrelid = 'clinic.patients'::regclass",
    );
    await clinic.owner.query(definition.text.replace(", '~doors'", '').replace('CREATE', 'create or replace'));
    await clinic.hand.batch(10);
    expect(await recorded(clinic, since, 'canary-')).toBeGreaterThan(0);
    await clinic.owner.query(definition.text.replace('CREATE', 'create or replace'));
    const later = await now(clinic);
    await clinic.app.rows(clinic.ada.credential, 'delete from clinic.patients where ssn = $1', [SSN(250)]);
    await clinic.hand.finish();
    expect(await recorded(clinic, later, 'canary-')).toBe(0);
  });
});

describe('F7 PG-73 code of a table’s owner, during a work on its rows', () => {
  let clinic: Clinic;

  beforeAll(async () => {
    clinic = await clinicWith(
      30,
      `create table clinic.visits (organization_id uuid not null, id uuid default platform.uuid_v7(), patient text, note text, primary key (organization_id, id));
       create table clinic.seen (what text, got text);
       select access.protect('clinic.visits')`,
    );
    await clinic.app.rows(
      clinic.ada.credential,
      "insert into clinic.visits (patient, note) values ('p1', 'canary-note')",
    );
    await clinic.owner.query(`select keyring.seal_column('clinic.visits', 'note', class => 'sensitive')`);
    await clinic.hand.finish();
    await clinic.owner.query(`
      create function clinic.spy() returns trigger language plpgsql as $$
      declare
        v record;
        attempts text[] := array[
          'select current_user::text',
          'select clinic.visits_note(v) from clinic.visits v limit 1',
          'select u.value from clinic.visits v, keyring.unseal_values((select id from keyring.doors() where door = ''note''), array[v.organization_id], array[v.id], array[v.note_sealed]) u limit 1',
          'select u.value::text from clinic.visits v, keyring.reseal_values((select id from keyring.doors() where door = ''note''), array[v.organization_id], array[v.id], array[v.id], array[v.note_sealed]) u limit 1',
          'select count(*)::text from clinic.visits',
          'select kind from keyring.take_work(1)',
          'select keyring.work(1)::text',
          'select (keyring.seal_value((select id from keyring.doors() where door = ''note''), new.organization_id, new.id, new.id, ''forged'')).sealed::text',
          'select count(*)::text from keyring_private.data_keys',
          'select keyring.destroy_keys(new.id)::text'];
        a text;
        got text;
      begin
        if session_user = 'safetypin_jobs' then
          foreach a in array attempts loop
            begin
              execute replace(replace(a, 'new.organization_id', quote_literal(new.organization_id)), 'new.id', quote_literal(new.id)) into got;
            exception when others then
              got := sqlstate;
            end;
            insert into clinic.seen values (a, got);
          end loop;
        end if;
        return new;
      end $$;
      create trigger spy before update on clinic.patients for each row execute function clinic.spy();
      grant insert on clinic.seen to safetypin_jobs; grant execute on function clinic.spy() to public;
      grant select on clinic.visits to safetypin_jobs;
      ${SEAL}`);
  });

  it('runs as the worker, never as the keeper, and gets at no other column', async () => {
    await clinic.hand.finish(10);
    expect((await clinic.hand.works()).map(({ problem }) => problem)).toEqual([null, null]);
    const { rows } = await clinic.hand.admin.query('select distinct what, got from clinic.seen order by what');
    const got = Object.fromEntries(rows.map(({ what, got }) => [what.slice(0, 45), got]));
    expect(got).toMatchObject({
      'select current_user::text': 'safetypin_jobs',
      'select count(*)::text from clinic.visits': '0',
    });
    expect(
      Object.entries(got).filter(([, value]) => !/^(safetypin_jobs|0|DENYD|42501|CTXNO|null)$/.test(`${value}`)),
    ).toEqual([]);
    expect(JSON.stringify(rows)).not.toContain('canary');
  });

  it('would get at another column if the keeper asked for the task alone', async () => {
    await withoutGuard(
      clinic.db,
      'keyring_private.at_work(uuid, text[])',
      /return pg_current_xact_id_if_assigned\(\) is not null and exists \([\s\S]*?\);\nend/,
      "return request.task() = 'keyring__work'; end",
      async () => {
        await clinic.owner.query('truncate clinic.seen');
        await clinic.owner.query(
          'alter table clinic.visits no force row level security; alter table clinic.visits disable row level security',
        );
        await clinic.owner.query(UNSEAL);
        await clinic.hand.batch(10);
        await clinic.hand.admin.query('update keyring_private.works set run_at = now()');
        await clinic.hand.batch(10);
        const { rows } = await clinic.hand.admin.query('select got from clinic.seen');
        expect(JSON.stringify(rows)).toContain('canary-note');
      },
    );
  });

  it('is refused outside of a job, and in a job of another task', async () => {
    const jobs = await clinic.db.connect('jobs');
    for (const call of [
      'keyring.take_work(1)',
      "keyring.end_batch(1, 'over', null, null)",
      "keyring.unseal_values(gen_random_uuid(), '{}', '{}', '{}')",
      "keyring.reseal_values(gen_random_uuid(), '{}', '{}', '{}', '{}')",
      "keyring.index_values(gen_random_uuid(), '{}', '{}', '{}')",
      'keyring.erase(gen_random_uuid())',
      'keyring.destroy_keys(gen_random_uuid())',
    ])
      expect([call, await refusal(jobs.query(`select ${call}`))]).toEqual([
        call,
        expect.stringMatching(/^(DENYD|CTXNO)$/),
      ]);
    for (const credential of [null, clinic.ada.credential])
      for (const call of [
        "keyring.begin_work(gen_random_uuid(), 'unseal', 1)",
        'keyring.rotate_data_keys()',
        UNSEAL.slice(7, -8),
        FINISH.slice(7, -8),
      ])
        expect([call, await refusal(clinic.app.rows(credential, `select ${call}`))]).toEqual([call, '42501']);
  });

  it('a sensitive column is unsealed only if that is said', async () => {
    expect(await refusal(clinic.owner.query("select keyring.unseal_column('clinic.visits', 'note')"))).toBe('TABLE');
    await clinic.owner.query("select keyring.unseal_column('clinic.visits', 'note', sensitive => true)");
    expect(
      await one(
        clinic,
        "select severity, details ->> 'class' as class from audit.events where action = 'column.unseal' order by occurred_at desc limit 1",
      ),
    ).toEqual({ severity: 'alert', class: 'sensitive' });
  });
});
