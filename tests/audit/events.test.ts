// Audit events (AU-01 to AU-03, PG-60, PG-62, PG-64; F4, F9): appended, attributed, never changed.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { takeRoles } from '../support/owners.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  const owner = await db.connect('owner');
  await owner.query(`create schema clinic; create table clinic.patients (organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, primary key (organization_id, id));
    select access.protect('clinic.patients');`);
  ada = await app.person('ada');
  bob = await app.person('bob');
});

/** Reads a canonical entry as an auditor would, from the bytes alone. */
function decode(entry: Buffer): (Buffer | null)[] {
  expect(entry[0]).toBe(1);
  const fields: (Buffer | null)[] = [];
  for (let at = 1; at < entry.length; ) {
    const length = entry.readInt32BE(at);
    at += 4;
    fields.push(length < 0 ? null : entry.subarray(at, at + length));
    at += Math.max(length, 0);
  }
  return fields;
}

const uuidOf = (field: Buffer | null | undefined) =>
  field ? field.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5') : null;

describe('an event', () => {
  it('says in its canonical entry what its columns say', async () => {
    const { rows } = await admin.query(
      'select e.*, (extract(epoch from occurred_at) * 1000000)::bigint - 946684800000000 as micros, details::text as details_text from audit.events e',
    );
    expect(rows.length).toBeGreaterThan(10);
    for (const row of rows) {
      const [id, at, organization, action, actor, session, request, role, relation, rowId, details, ...rest] = decode(
        row.entry,
      );
      expect(rest).toEqual([]);
      expect([uuidOf(id), uuidOf(organization), uuidOf(actor), uuidOf(session), uuidOf(request)]).toEqual([
        row.id,
        row.organization_id,
        row.actor_id,
        row.session_id,
        row.request_id,
      ]);
      expect(at?.readBigInt64BE().toString()).toBe(row.micros);
      expect([action, role, relation, rowId, details].map((field) => field?.toString() ?? null)).toEqual([
        row.action,
        row.database_role,
        row.relation,
        row.row_id,
        row.details_text,
      ]);
    }
  });

  it('stands for each change of a protected row, in the same transaction, with who, where and what', async () => {
    const { id } = await app.call<{ id: string }>(
      ada.credential,
      "insert into clinic.patients (name) values ('first') returning id",
    );
    await app.rows(ada.credential, "update clinic.patients set name = 'second'");
    await app.rows(ada.credential, "update clinic.patients set name = 'second'");
    await app.rows(ada.credential, 'delete from clinic.patients');
    const { rows } = await admin.query(
      "select action, organization_id, actor_id, session_id, database_role, row_id, details from audit.events where relation = 'clinic.patients' and action like 'row.%' order by id",
    );
    const who = {
      organization_id: ada.organization,
      actor_id: ada.id,
      session_id: ada.session,
      database_role: 'safetypin_authenticator',
      row_id: `${ada.organization},${id}`.split(',').pop(),
    };
    expect(rows.map(({ row_id, ...row }) => ({ ...row, row_id: row_id.split(',').pop() }))).toEqual([
      { ...who, action: 'row.insert', details: { row: { organization_id: ada.organization, id, name: 'first' } } },
      { ...who, action: 'row.update', details: { changed: { name: ['first', 'second'] } } },
      { ...who, action: 'row.delete', details: { row: { organization_id: ada.organization, id, name: 'second' } } },
    ]);
    const before = (await admin.query('select count(*) from audit.events')).rows[0].count;
    expect(
      await refusal(
        app.as(ada.credential, async (client) => {
          await client.query("insert into clinic.patients (name) values ('never')");
          await client.query('select 1/0');
        }),
      ),
    ).toBe('22012');
    expect((await admin.query('select count(*) from audit.events')).rows[0].count).toBe(before);
  });

  it('of a change by an operator carries the login, and of a run-time login without a context is refused', async () => {
    await admin.query("insert into clinic.patients (organization_id, name) values ($1, 'by an operator')", [
      ada.organization,
    ]);
    const { rows } = await admin.query(
      "select actor_id, database_role from audit.events where details->'row'->>'name' = 'by an operator'",
    );
    expect(rows).toEqual([{ actor_id: null, database_role: 'postgres' }]);
  });

  it('keeps IP address and user agent sealed for the person', async () => {
    const { rows } = await admin.query(
      "select details, entry from audit.events where action = 'login.success' and actor_id = $1",
      [ada.id],
    );
    expect(rows.length).toBe(1);
    expect(rows[0].details.origin).toMatch(/^01[0-9a-f]{200,}$/);
    const dump = (await admin.query('select string_agg(e::text, chr(10)) as text from audit.events e')).rows[0].text;
    expect(dump).not.toContain('192.0.2.7');
    expect(dump).not.toContain(Buffer.from('192.0.2.7').toString('hex'));
    expect(dump).not.toContain(ada.email);
  });

  it('is read by those who may, of their own organization', async () => {
    const seen = await app.rows<{ organization_id: string }>(
      ada.credential,
      'select distinct organization_id from audit.events',
    );
    expect(seen).toEqual([{ organization_id: ada.organization }]);
    await takeRoles(admin, bob.organization);
    expect(await app.rows(bob.credential, 'select from audit.events')).toEqual([]);
  });
});

describe('the trail is append-only (AU-03)', () => {
  const attacks = [
    "insert into audit.events (organization_id, action, category, severity, database_role, entry) values (gen_random_uuid(), 'x.y', 'data', 'info', 'x', '\\x01')",
    "update audit.events set action = 'forged.it'",
    'delete from audit.events',
    'truncate audit.events',
    'alter table audit.events disable trigger all',
    'drop table audit.events',
    'alter table audit.events no force row level security',
    "select audit_private.append('login.success')",
    'delete from audit.events_default',
    'select audit_private.make_partitions(1)',
    'update audit.events_default set action = null',
    'create trigger x before insert on audit.events for each row execute function audit_private.refuse_change()',
  ];

  it.each([
    'safetypin_authenticator',
    'safetypin_anonymous',
    'safetypin_member',
    'safetypin_jobs',
    'safetypin_auditor',
  ])('for %s', async (role) => {
    for (const attack of [...attacks, 'set session_replication_role = replica']) {
      const client = await db.connect('admin');
      await client.query(
        `set session authorization ${role.replace(/_(anonymous|member)$/, '_authenticator')}; set role ${role}`,
      );
      expect(await refusal(client.query(attack)), attack).toBe('42501');
      await client.end();
    }
  });

  it('for a member in an open request', async () => {
    for (const attack of attacks) expect(await refusal(app.rows(ada.credential, attack)), attack).toBe('42501');
  });

  it('for the definer, whose functions append through one function only', async () => {
    for (const attack of attacks.filter((text) => !text.startsWith('select'))) {
      const client = await db.connect('admin');
      await client.query('set role safetypin_definer');
      expect(await refusal(client.query(attack)), attack).toBe('42501');
      await client.end();
    }
  });

  it('for the owner and the administrator a change of a row is refused by a trigger that is always on', async () => {
    for (const login of ['admin', 'owner'] as const) {
      const client = await db.connect(login);
      await client.query('set row_security = on');
      if (login === 'admin') await client.query('set session_replication_role = replica');
      for (const attack of [
        "update audit.events set action = 'forged.it'",
        'delete from audit.events',
        'truncate audit.events',
        'truncate audit.events_default',
      ]) {
        expect(await refusal(client.query(attack)), `${login}: ${attack}`).toMatch(
          login === 'admin' ? /^AUDAP$/ : /^(AUDAP|no refusal|42501)$/,
        );
      }
    }
    expect(
      Number((await admin.query("select count(*) from audit.events where action = 'forged.it'")).rows[0].count),
    ).toBe(0);
    expect(Number((await admin.query('select count(*) from audit.events')).rows[0].count)).toBeGreaterThan(10);
  });

  it('each partition has its own row-level security and the trigger, always on', async () => {
    const { rows } = await admin.query(`select c.relname, c.relrowsecurity and c.relforcerowsecurity as forced,
        (select string_agg(t.tgname::text || t.tgenabled::text, ',' order by t.tgname) from pg_trigger t where t.tgrelid = c.oid and t.tgname in ('_200_refuse_change', '_210_refuse_truncate')) as guard,
        c.relacl is null or not exists (select from aclexplode(c.relacl) a where a.grantee::regrole::text <> 'safetypin_owner') as ungranted
      from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'audit.events'::regclass`);
    expect(rows.length).toBe(5);
    for (const row of rows)
      expect(row).toMatchObject({ forced: true, guard: '_200_refuse_changeA,_210_refuse_truncateA', ungranted: true });
  });

  it('an event of a month without partition is kept, and no partition is made over it', async () => {
    const owner = await db.connect('owner');
    const month = (await admin.query("select to_char(now() + interval '4 months', 'YYYY_MM') as m")).rows[0].m;
    await admin.query(
      `insert into audit.events (organization_id, occurred_at, action, category, severity, database_role, entry) values (gen_random_uuid(), now() + interval '4 months', 'x.y', 'data', 'info', 'x', '\\x01')`,
    );
    expect((await admin.query('select count(*)::int as n from audit.events_default')).rows).toEqual([{ n: 1 }]);
    expect((await owner.query('select audit_private.make_partitions(5) as made')).rows).toEqual([{ made: 1 }]);
    expect((await admin.query(`select to_regclass('audit.events_${month}') as t`)).rows).toEqual([{ t: null }]);
  });
});

describe('what changes in a row is recorded with the rights of who writes (F7)', () => {
  it('code of the table’s owner, in a cast to json, never runs as the keeper', async () => {
    const owner = await db.connect('owner');
    await owner.query(`create type clinic.mood as enum ('well');
      create function clinic.mood_json(clinic.mood) returns json language plpgsql as $$ begin return to_json(current_user::text); end $$;
      create cast (clinic.mood as json) with function clinic.mood_json(clinic.mood);
      grant execute on function clinic.mood_json(clinic.mood) to public;
      create table clinic.moods (organization_id uuid not null, id uuid default platform.uuid_v7(), mood clinic.mood, primary key (organization_id, id));
      select access.protect('clinic.moods')`);
    await app.rows(ada.credential, "insert into clinic.moods (mood) values ('well')");
    const seen = async () =>
      (
        await admin.query(
          "select details -> 'row' ->> 'mood' as who from audit.events where relation = 'clinic.moods' order by occurred_at desc limit 1",
        )
      ).rows;
    expect(await seen()).toEqual([{ who: 'safetypin_member' }]);
    // The same trigger as the keeper's: what it would have told.
    await admin.query('alter function audit.record_change() owner to safetypin_keeper');
    await admin.query('alter function audit.record_change() security definer');
    await app.rows(ada.credential, "insert into clinic.moods (mood) values ('well')");
    expect(await seen()).toEqual([{ who: 'safetypin_keeper' }]);
    await admin.query('alter function audit.record_change() security invoker');
    await admin.query('alter function audit.record_change() owner to safetypin_owner');
  });

  it('nobody records a change that was none, by calling what the trigger calls', async () => {
    const forged = `select audit.append_change('clinic.patients'::regclass, 'DELETE', '{"id": "x"}', null, '{organization_id,id}')`;
    expect(await refusal(app.rows(ada.credential, forged))).toBe('DENYD');
    expect(
      await refusal(app.rows(ada.credential, `insert into clinic.patients (name) select 'x' from (${forged}) f`)),
    ).toBe('DENYD');
    expect(
      await refusal(app.rows(ada.credential, `insert into clinic.patients (name) values ('y') returning (${forged})`)),
    ).toBe('DENYD');
  });
});
