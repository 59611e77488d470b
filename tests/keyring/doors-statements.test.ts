// Every statement that writes a table, against a sealed column: it works as on a plain one, or is refused by a code
// that says why; nothing is lost without a word (F13, CR-03, PG-60).
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Application, type Person, refusal } from '../support/actors.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
let ada: Person;
let folder: string;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  [admin, owner] = [await db.connect('admin'), await db.connect('owner')];
  ada = await app.person('ada');
  folder = mkdtempSync(join(tmpdir(), 'safetypin-copy-'));
  chmodSync(folder, 0o777);
  whenFileEnds(() => rmSync(folder, { recursive: true, force: true }));
  await owner.query(`
    create schema clinic;
    create table clinic.doctors (organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null,
      primary key (organization_id, id));
    create table clinic.patients (
      organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, ssn text, note text default 'new', doctor_id uuid,
      primary key (organization_id, id), unique (organization_id, name),
      foreign key (organization_id, doctor_id) references clinic.doctors on update cascade on delete set null (doctor_id));
    select access.protect('clinic.doctors', audited => false);
    select access.protect('clinic.patients', audited => false);
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'doctor_id');
    select keyring.seal_column('clinic.patients', 'note', options => '{"keep_on_null": true}');
    create table clinic.staging (name text, ssn text, note text);
    grant select, insert, delete on clinic.staging to safetypin_member;
    create view clinic.patient_list with (security_invoker = true) as
      select organization_id, id, name, ssn from clinic.patients where name <> 'hidden' with check option;
    grant select, insert, update, delete on clinic.patient_list to safetypin_member;`);
}, 60_000);

beforeEach(async () => {
  await admin.query('delete from clinic.patients; delete from clinic.doctors; delete from clinic.staging');
});

/** Statements of a member, each in the same request; the rows of the last. */
const run = (...texts: string[]) =>
  app.as(ada.credential, async (client) => {
    let last: pg.QueryResult | undefined;
    for (const text of texts) last = await client.query(text);
    return last?.rows;
  });

/** The same by the administrator, in the same request: what a member has no grant for. */
async function runAsAdmin(...texts: string[]): Promise<unknown[]> {
  await admin.query('begin');
  try {
    await admin.query("select sessions.open_request($1, $2, '{}')", [
      ada.credential,
      await app.envelopes.seal(ada.credential),
    ]);
    let last: pg.QueryResult | undefined;
    for (const text of texts) last = await admin.query(text);
    await admin.query('commit');
    return last?.rows ?? [];
  } catch (error) {
    await admin.query('rollback');
    throw error;
  }
}

/** All rows as a member reads them. */
async function all(): Promise<Record<string, string | null>> {
  const rows = await run(
    'select name, concat(ssn, note) as plain, clinic.patients_ssn(p) as ssn from clinic.patients p order by name',
  );
  expect(rows?.map(({ plain }) => plain)).toEqual(rows?.map(() => ''));
  return Object.fromEntries(rows?.map(({ name, ssn }) => [name, ssn]) ?? []);
}

describe('insert', () => {
  it('of one row, of several, of a query and of nothing but defaults', async () => {
    await run("insert into clinic.patients (name, ssn) values ('a', '1')");
    await run("insert into clinic.patients (name, ssn) values ('b', '2'), ('c', null), ('d', '')");
    await run(
      "insert into clinic.staging (name, ssn) values ('e', '5'), ('f', null)",
      'insert into clinic.patients (name, ssn) select name, ssn from clinic.staging',
    );
    expect(await all()).toEqual({ a: '1', b: '2', c: null, d: '', e: '5', f: null });
    expect(await run('select distinct clinic.patients_note(p) as note from clinic.patients p')).toEqual([
      { note: 'new' },
    ]);
  });

  it('returns the door as it is, and by its function what was written', async () => {
    expect(
      await run(
        "insert into clinic.patients (name, ssn) values ('a', '1') returning ssn, clinic.patients_ssn(patients) as read",
      ),
    ).toEqual([{ ssn: null, read: '1' }]);
  });

  it('by a prepared statement, a cursor and a CTE', async () => {
    await app.as(ada.credential, async (client) => {
      for (const name of ['a', 'b', 'c']) {
        await client.query({
          name: 'add',
          text: 'insert into clinic.patients (name, ssn) values ($1, $2)',
          values: [name, name],
        });
      }
      await client.query(
        "with x as (insert into clinic.patients (name, ssn) values ('d', 'd') returning id) select from x",
      );
      await client.query("declare c cursor for select * from clinic.patients where name = 'b' for update; move c");
      await client.query("update clinic.patients set ssn = 'B' where current of c");
    });
    expect(await all()).toEqual({ a: 'a', b: 'B', c: 'c', d: 'd' });
  });

  it('by COPY as text, csv and binary, and out again', async () => {
    for (const [format, text] of [
      ['text', 'a\t1\nb\t\\N\n'],
      ['csv', 'c,3\nd,\n'],
    ] as const) {
      writeFileSync(join(folder, format), text);
      await runAsAdmin(`copy clinic.patients (name, ssn) from '${join(folder, format)}' (format ${format})`);
    }
    const binary = join(folder, 'binary');
    await admin.query(`copy (values ('e'::text, '5'::text), ('f', null)) to '${binary}' (format binary)`);
    await runAsAdmin(`copy clinic.patients (name, ssn) from '${binary}' (format binary)`);
    expect(await all()).toEqual({ a: '1', b: null, c: '3', d: null, e: '5', f: null });
    // Out and in again: the same rows, opened again where they were sealed.
    await runAsAdmin(
      `copy clinic.patients to '${binary}' (format binary)`,
      'delete from clinic.patients',
      `copy clinic.patients from '${binary}' (format binary)`,
    );
    expect(await all()).toEqual({ a: '1', b: null, c: '3', d: null, e: '5', f: null });
  });

  it('PG-60 where triggers are off for replication: sealed all the same', async () => {
    await runAsAdmin("insert into clinic.patients (name, ssn) values ('a', '1')");
    await runAsAdmin(
      'set local session_replication_role = replica',
      "insert into clinic.patients (name, ssn) values ('b', '2')",
      "update clinic.patients set ssn = '3' where name = 'a'",
    );
    expect(await all()).toEqual({ a: '3', b: '2' });
    // Red: without ENABLE ALWAYS it stays as it was written, up to the last line of defence.
    const { rows } = await admin.query(
      "select tgname from pg_trigger where tgname ~ '^!!seal' and tgrelid = 'clinic.patients'::regclass",
    );
    const each = (how: string) =>
      rows.map(({ tgname }) => `alter table clinic.patients enable ${how} trigger "${tgname}"`).join(';');
    const attack = [
      'set local session_replication_role = replica',
      "insert into clinic.patients (name, ssn) values ('c', '4')",
    ];
    await admin.query(each(''));
    expect(await refusal(runAsAdmin(...attack))).toBe('KEYFG');
    await admin.query(each('always'));
    await runAsAdmin(...attack);
  });

  it('without a request: refused, and nothing stands there', async () => {
    const attack = "insert into clinic.patients (name, ssn, organization_id) values ('a', '1', gen_random_uuid())";
    expect(await refusal(owner.query(attack))).toBe('CTXNO');
    expect(await all()).toEqual({});
  });
});

describe('update', () => {
  beforeEach(async () => {
    await run("insert into clinic.patients (name, ssn) values ('a', '1'), ('b', '2')");
  });

  it('of the door, of other columns, of both, and of none', async () => {
    await run("update clinic.patients set ssn = ssn_new from (values ('a', '11')) v (n, ssn_new) where name = n");
    expect(await all()).toEqual({ a: '11', b: '2' });
    await run("update clinic.patients set name = name || 'x'");
    expect(await all()).toEqual({ ax: '11', bx: '2' });
    await run("update clinic.patients set name = 'a', ssn = '12' where name = 'ax'");
    expect(await all()).toEqual({ a: '12', bx: '2' });
    await run("update clinic.patients set ssn = 'none' where name = 'nobody'");
    expect(await all()).toEqual({ a: '12', bx: '2' });
  });

  it('to null empties; so does what reads the door, but where the column keeps', async () => {
    await run("update clinic.patients set ssn = null where name = 'a'");
    await run("update clinic.patients set ssn = ssn, note = note where name = 'b'");
    expect(await all()).toEqual({ a: null, b: null });
    expect(await run('select distinct clinic.patients_note(p) as note from clinic.patients p')).toEqual([
      { note: 'new' },
    ]);
    await run("update clinic.patients set note = default, ssn = default where name = 'b'");
    expect(await run("select clinic.patients_note(p) as note from clinic.patients p where name = 'b'")).toEqual([
      { note: 'new' },
    ]);
  });

  it('inside of savepoints', async () => {
    await run(
      'savepoint s',
      "update clinic.patients set ssn = 'no'",
      "insert into clinic.patients (name, ssn) values ('c', '3')",
      'rollback to s',
      "update clinic.patients set ssn = null where name = 'b'",
      'release s',
      "insert into clinic.patients (name, ssn) values ('c', '4')",
    );
    expect(await all()).toEqual({ a: '1', b: null, c: '4' });
  });

  it('through a view that takes writes', async () => {
    await run(
      "insert into clinic.patient_list (name, ssn) values ('c', '3')",
      "update clinic.patient_list set ssn = '22' where name = 'b'",
      "delete from clinic.patient_list where name = 'a'",
    );
    expect(await all()).toEqual({ b: '22', c: '3' });
    const error = await run("insert into clinic.patient_list (name, ssn) values ('hidden', 'canary')").catch((e) => e);
    expect(error).toMatchObject({ code: '44000' });
    expect(JSON.stringify({ ...error, message: error.message })).not.toContain('canary');
  });

  it('of what a value is bound to: refused, unless the value is written again or there is none', async () => {
    const moves = ['id = platform.uuid_v7()', 'organization_id = platform.uuid_v7()', 'doctor_id = platform.uuid_v7()'];
    await admin.query('alter table clinic.patients drop constraint patients_organization_id_doctor_id_fkey');
    for (const move of moves) expect(await refusal(runAsAdmin(`update clinic.patients set ${move}`))).toBe('KEYIM');
    await runAsAdmin(
      `update clinic.patients set ssn = '3', note = 'x', id = platform.uuid_v7(), doctor_id = platform.uuid_v7() where name = 'a'`,
    );
    expect(await all()).toEqual({ a: '3', b: '2' });
    await run("update clinic.patients set ssn = null, name = 'kept' where name = 'b'");
    await admin.query("update clinic.patients set note_sealed = null where name = 'kept'");
    await runAsAdmin(
      "update clinic.patients set id = platform.uuid_v7(), doctor_id = platform.uuid_v7() where name = 'kept'",
    );
    await admin.query('update clinic.patients set note_sealed = null, ssn_sealed = null, doctor_id = null');
    await admin.query(`alter table clinic.patients add constraint patients_organization_id_doctor_id_fkey
      foreign key (organization_id, doctor_id) references clinic.doctors on update cascade on delete set null (doctor_id)`);
  });

  it('by a foreign key: cascades what is free, refuses what is bound', async () => {
    const [doctor] = (await run("insert into clinic.doctors (name) values ('d') returning id")) ?? [];
    await run(`insert into clinic.patients (name, doctor_id, note) values ('free', '${doctor.id}', null)`);
    await runAsAdmin(`update clinic.doctors set id = platform.uuid_v7()`);
    const [moved] = (await run("update clinic.patients set ssn = '5' where name = 'free' returning doctor_id")) ?? [];
    expect(moved.doctor_id).not.toBe(doctor.id);
    expect(await refusal(runAsAdmin(`update clinic.doctors set id = platform.uuid_v7()`))).toBe('KEYIM');
    expect(await refusal(runAsAdmin('delete from clinic.doctors'))).toBe('KEYIM');
    expect(await all()).toEqual({ a: '1', b: '2', free: '5' });
  });
});

describe('upsert', () => {
  const upsert = (values: string, set: string, rest = '') =>
    `insert into clinic.patients (name, ssn, note) values ${values} on conflict (organization_id, name) do update set ${set} ${rest}`;

  beforeEach(async () => {
    await run("insert into clinic.patients (name, ssn, note) values ('a', '1', 'n'), ('b', '2', 'n')");
  });

  it('with a literal, a parameter, and with nothing to do', async () => {
    await run(upsert("('a', '5', 'x')", "ssn = '5'"));
    await app.rows(ada.credential, upsert('($1, $2, null)', 'ssn = $2'), ['c', '3']);
    await app.rows(ada.credential, upsert('($1, $2, null)', 'ssn = $2'), ['c', '4']);
    await run("insert into clinic.patients (name, ssn) values ('b', '7') on conflict do nothing");
    await run(upsert("('b', '8', 'x')", "ssn = '9'", "where patients.name = 'nobody'"));
    expect(await all()).toEqual({ a: '5', b: '2', c: '4' });
  });

  it.each([
    ['one row', () => [upsert("('a', '5', null)", 'ssn = excluded.ssn')]],
    ['the second of two doors', () => [upsert("('a', null, '5')", 'note = excluded.note')]],
    ['the first of two doors', () => [upsert("('a', '5', null)", 'ssn = excluded.ssn, note = excluded.note')]],
    [
      'the last of many rows',
      () => [upsert("('x', '1', 'x'), ('y', null, null), ('a', '5', null)", 'ssn = excluded.ssn')],
    ],
    ['in a CTE', () => [`with u as (${upsert("('a', '5', null)", 'ssn = excluded.ssn')} returning 1) select from u`]],
    ['in a function', () => [`do $$ begin ${upsert("('a', '5', null)", 'ssn = excluded.ssn')}; end $$`]],
    [
      'through a view',
      () => [
        "insert into clinic.patient_list (name, ssn) values ('a', '5') on conflict (organization_id, name) do update set ssn = excluded.ssn",
      ],
    ],
    ['in a savepoint', () => ['savepoint s', upsert("('a', '5', null)", 'ssn = excluded.ssn')]],
    ['as a part of an expression', () => [upsert("('a', '5', null)", 'ssn = nullif(excluded.ssn, patients.ssn)')]],
  ])('with excluded: %s: refused, nothing lost', async (_name, texts) => {
    expect(await refusal(run(...texts()))).toBe('KEYEX');
    expect(await all()).toEqual({ a: '1', b: '2' });
  });

  it('with excluded, where there was none: empties, as it would anywhere', async () => {
    await run(upsert("('x', '1', 'x'), ('a', null, null)", 'ssn = excluded.ssn'));
    expect(await all()).toEqual({ a: null, b: '2', x: '1' });
  });

  it('with excluded, while triggers of the table write the table themselves: refused as well', async () => {
    await owner.query(`
      create function clinic.copy_row() returns trigger language plpgsql as $$
      begin
        if pg_trigger_depth() = 1 then
          insert into clinic.patients (name) values (new.name || random());
        end if;
        return new;
      end $$;
      create trigger copy_row before insert on clinic.patients for each row execute function clinic.copy_row()`);
    try {
      expect(await refusal(run(upsert("('a', '5', null)", 'ssn = excluded.ssn')))).toBe('KEYEX');
    } finally {
      await owner.query('drop function clinic.copy_row() cascade');
    }
    expect(await all()).toEqual({ a: '1', b: '2' });
  });

  it('with excluded, while a function that it calls writes the table: refused as well', async () => {
    await owner.query(`create function clinic.add_row() returns text language plpgsql as $$
      begin insert into clinic.patients (name) values ('added'); update clinic.patients set ssn = null where name = 'added'; return 'a'; end $$;
      grant execute on function clinic.add_row() to safetypin_member`);
    const error = await refusal(run(upsert("('a', '5', null)", 'name = clinic.add_row(), ssn = excluded.ssn')));
    await owner.query('drop function clinic.add_row()');
    expect(error).toBe('KEYEX');
    expect(await all()).toEqual({ a: '1', b: '2' });
  });

  it('is over when it is over: what comes after in the same function is not held to be a part of it', async () => {
    await run(`do $$ begin
      insert into clinic.patients (name, ssn) values ('c', '3');
      update clinic.patients set ssn = null where name = 'c';
      update clinic.patients set ssn = null where name = 'a';
    end $$`);
    expect(await all()).toEqual({ a: null, b: '2', c: null });
  });
});

describe('merge', () => {
  const merge = `merge into clinic.patients p using clinic.staging s on p.name = s.name
    when matched and s.note = 'gone' then delete
    when matched then update set ssn = s.ssn
    when not matched then insert (name, ssn) values (s.name, s.ssn)`;

  beforeEach(async () => {
    await run("insert into clinic.patients (name, ssn) values ('a', '1'), ('b', '2'), ('c', '3')");
  });

  it('inserts, updates and deletes', async () => {
    await run(
      "insert into clinic.staging values ('a', '11', null), ('b', 'x', 'gone'), ('d', '4', null), ('e', null, null)",
      merge,
    );
    expect(await all()).toEqual({ a: '11', c: '3', d: '4', e: null });
    await run('delete from clinic.staging', "insert into clinic.staging values ('a', null, null)", merge);
    expect(await all()).toEqual({ a: null, c: '3', d: '4', e: null });
  });

  it('that both inserts values and writes null into others cannot be told from excluded: refused, nothing lost', async () => {
    // The order of the rows is the order of what is done to them.
    const staged = "insert into clinic.staging values ('d', '4', null), ('a', null, null)";
    await admin.query('set enable_hashjoin = off; set enable_mergejoin = off');
    expect(await refusal(runAsAdmin(staged, merge))).toBe('KEYEX');
    await admin.query('reset enable_hashjoin; reset enable_mergejoin');
    expect(await all()).toEqual({ a: '1', b: '2', c: '3' });
  });
});

describe('rename', () => {
  it.each([
    [
      'the column',
      'alter table clinic.patients rename ssn to "ßocial ""no."""',
      'alter table clinic.patients rename "ßocial ""no.""" to ssn',
    ],
    [
      'what is hidden',
      'alter table clinic.patients rename ssn_sealed to x',
      'alter table clinic.patients rename x to ssn_sealed',
    ],
    [
      'the organization',
      'alter table clinic.patients rename organization_id to tenant',
      'alter table clinic.patients rename tenant to organization_id',
    ],
    ['the key', 'alter table clinic.patients rename id to name_', 'alter table clinic.patients rename name_ to id'],
    [
      'the subject',
      'alter table clinic.patients rename doctor_id to d',
      'alter table clinic.patients rename d to doctor_id',
    ],
    ['the table', 'alter table clinic.patients rename to people', 'alter table clinic.people rename to patients'],
    ['the schema', 'alter schema clinic rename to surgery', 'alter schema surgery rename to clinic'],
    [
      'columns, one to the name of another',
      'alter table clinic.patients rename ssn to x; alter table clinic.patients rename note to ssn; alter table clinic.patients rename x to note',
      'alter table clinic.patients rename ssn to x; alter table clinic.patients rename note to ssn; alter table clinic.patients rename x to note',
    ],
  ])('of %s: written and read as before', async (_what, there, back) => {
    const table = there.endsWith('to people')
      ? 'clinic.people'
      : there.endsWith('to surgery')
        ? 'surgery.patients'
        : 'clinic.patients';
    const reader = table.startsWith('surgery') ? 'surgery' : 'clinic';
    const door = there.includes('ßocial') ? '"ßocial ""no."""' : there.includes('rename note') ? 'note' : 'ssn';
    await run("insert into clinic.patients (name, ssn, note) values ('a', '1', 'n')");
    await owner.query(there);
    try {
      await run(
        `insert into ${table} (name, ${door}) values ('b', '2')`,
        `update ${table} set ${door} = '3' where name = 'a'`,
      );
      expect(
        await run(
          `select name, ${reader}.patients_ssn(p) as ssn, ${reader}.patients_note(p) as note from ${table} p order by 1`,
        ),
      ).toEqual([
        { name: 'a', ssn: '3', note: 'n' },
        { name: 'b', ssn: '2', note: 'new' },
      ]);
    } finally {
      await owner.query(back);
    }
    expect(await all()).toEqual({ a: '3', b: '2' });
  });

  it('of the trigger that says which column is which: nothing can be written, nothing is lost', async () => {
    const { rows } = await owner.query(
      "select tgname from pg_trigger where tgname ~ '^~seal' and tgrelid = 'clinic.patients'::regclass",
    );
    await owner.query(`alter trigger "${rows[0].tgname}" on clinic.patients rename to "other"`);
    expect(await refusal(run("insert into clinic.patients (name, ssn, note) values ('a', '1', 'n')"))).toBe('KEYFG');
    await owner.query(`alter trigger "other" on clinic.patients rename to "${rows[0].tgname}"`);
    await run("insert into clinic.patients (name, ssn, note) values ('a', '1', 'n')");
  });
});

describe('triggers of the table’s owner', () => {
  const withTrigger = async (
    name: string,
    body: string,
    work: () => Promise<void>,
    when = 'before insert or update',
  ) => {
    await owner.query(`
      create table if not exists clinic.seen (seen text);
      create function clinic.host() returns trigger language plpgsql security definer as $$ begin ${body} return new; end $$;
      create trigger "${name}" ${when} on clinic.patients for each row execute function clinic.host()`);
    try {
      await work();
    } finally {
      await owner.query('drop function clinic.host() cascade; drop table clinic.seen');
    }
  };
  const see = 'insert into clinic.seen select to_jsonb(new)::text;';
  const seen = async () => (await owner.query('select seen from clinic.seen')).rows.map((row) => row.seen).join();

  it.each(['!a', '0_host', '_100_stamp', 'a', 'zzz', '~z', 'é'])('named %s see no plain text', async (name) => {
    await withTrigger(name, see, async () => {
      await run("insert into clinic.patients (name, ssn) values ('a', 'canary')");
      await run("update clinic.patients set ssn = 'canary'");
      expect(await seen()).toContain('ssn_sealed');
      expect(await seen()).not.toContain('canary');
    });
  });

  it('that come after the row, or with the whole statement: the same', async () => {
    await withTrigger(
      'after',
      see,
      async () => {
        await run("insert into clinic.patients (name, ssn) values ('a', 'canary')");
        expect(await seen()).toContain('ssn_sealed');
        expect(await seen()).not.toContain('canary');
      },
      'after insert or update',
    );
  });

  it('F13 see it where their name comes before all others: so seal_column refuses them, and a later one is its maker’s', async () => {
    await withTrigger(' x', see, async () => {
      await run("insert into clinic.patients (name, ssn) values ('a', 'canary')");
      expect(await seen()).toContain('canary');
    });
  });

  it.each([
    ['the door', "new.ssn := 'plain';", '23514'],
    [
      'the sealed value, by another row’s',
      'new.ssn_sealed := (select ssn_sealed from clinic.patients limit 1);',
      'KEYBD',
    ],
    ['the sealed value, by any bytes', "new.ssn_sealed := decode(repeat('02', 200), 'hex');", 'KEYBD'],
    ['the sealed value, by another column’s', 'new.ssn_sealed := new.note_sealed;', 'KEYBD'],
    ['the key', 'new.id := platform.uuid_v7();', 'KEYBD'],
    ['whom it is about', 'new.doctor_id := platform.uuid_v7();', '23503'],
  ])('CR-03 cannot put past the seal: %s', async (_what, body, behind) => {
    await run("insert into clinic.patients (name, ssn) values ('other', '9')");
    for (const name of ['m', 'zzz', '~z']) {
      await withTrigger(name, body, async () => {
        expect(await refusal(run("insert into clinic.patients (name, ssn) values ('a', '1')"))).toBe('KEYFG');
      });
    }
    // Behind the guard it works, or would: plain text is refused by the table itself, and a wrong value never opens.
    const attack = "insert into clinic.patients (name, ssn) values ('a', '1') returning clinic.patients_ssn(patients)";
    await withTrigger('é', body, async () => expect(await refusal(run(attack))).toBe(behind));
  });
});
