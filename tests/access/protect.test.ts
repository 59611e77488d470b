// access.protect on tables of a host application (AZ-01, AZ-05, PG-12 to PG-16, PG-30, PG-34, PG-35; F16).
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Application, type Person, refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { takeRoles } from '../support/owners.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  owner = await db.connect('owner');
  ada = await app.person('ada');
  bob = await app.person('bob');
  await owner.query(`
    create schema clinic;
    create table clinic.patients (
      organization_id uuid not null, id uuid default platform.uuid_v7(), name text not null, age integer,
      doctor_id uuid, primary key (organization_id, id), unique (organization_id, name));
    select access.protect('clinic.patients');`);
});

beforeEach(async () => {
  await admin.query('delete from clinic.patients');
  await admin.query(
    "insert into clinic.patients (organization_id, name, age) values ($1, 'Ada''s patient', 1), ($2, 'Bob''s patient', 2)",
    [ada.organization, bob.organization],
  );
});

const names = async (who: Person, where = '') =>
  (await app.rows<{ name: string }>(who.credential, `select name from clinic.patients ${where} order by 1`)).map(
    ({ name }) => name,
  );

describe('two organizations on one table', () => {
  it('see only their own rows', async () => {
    expect(await names(ada)).toEqual(["Ada's patient"]);
    expect(await names(bob)).toEqual(["Bob's patient"]);
    expect(await app.rows(null, 'select 1 from pg_class where false')).toEqual([]);
    expect(await refusal(app.rows(null, 'select * from clinic.patients'))).toBe('42501');
  });

  it('write only their own rows, whatever organization they name (AZ-05, PG-15, PG-16)', async () => {
    await app.rows(ada.credential, "insert into clinic.patients (name) values ('new')");
    expect(await names(ada)).toEqual(["Ada's patient", 'new']);
    const foreign = [
      `insert into clinic.patients (organization_id, name) values ('${bob.organization}', 'planted')`,
      `update clinic.patients set organization_id = '${bob.organization}'`,
      `insert into clinic.patients (organization_id, id, name) select organization_id, id, 'x' from clinic.patients on conflict do nothing`,
      `merge into clinic.patients p using (select '${bob.organization}'::uuid as o) s on p.organization_id = s.o when matched then update set organization_id = s.o when not matched then insert (organization_id, name) values (s.o, 'planted')`,
    ];
    for (const attack of foreign) expect(await refusal(app.rows(ada.credential, attack)), attack).toBe('42501');
    await app.rows(ada.credential, "update clinic.patients set name = 'mine ' || name");
    await app.rows(
      ada.credential,
      `delete from clinic.patients where name = 'mine new' or organization_id = '${bob.organization}'`,
    );
    await app.rows(
      ada.credential,
      `merge into clinic.patients p using (select 1) s on true when matched and p.age = 2 then delete when matched then update set age = 3`,
    );
    expect(await names(bob)).toEqual(["Bob's patient"]);
    expect(await names(ada)).toEqual(["mine Ada's patient"]);
    expect(
      (await admin.query('select age from clinic.patients where organization_id = $1', [bob.organization])).rows,
    ).toEqual([{ age: 2 }]);
  });

  it("cannot lock, count or feel each other's rows (PG-30, PG-31, PG-34, PG-40)", async () => {
    expect((await app.rows(ada.credential, 'select id from clinic.patients for update')).length).toBe(1);
    expect(
      await app.call(ada.credential, 'select count(*)::int as n, max(age) as oldest from clinic.patients'),
    ).toEqual({ n: 1, oldest: 1 });
    // A row of Bob's that would raise, if a condition were asked about it first.
    expect(
      await refusal(app.rows(ada.credential, 'select 1 / (age - 2) from clinic.patients where 1 / (age - 2) < 5')),
    ).toBe('no refusal');
    await app.rows(ada.credential, "insert into clinic.patients (name) values ('Bob''s patient')");
    expect(
      await refusal(
        app.rows(
          ada.credential,
          "create function pg_temp.leak(t text) returns boolean language plpgsql as 'begin raise notice ''%'', t; return true; end'",
        ),
      ),
    ).toBe('42501');
  });

  it('use the index that begins with the organization', async () => {
    await admin.query(
      "insert into clinic.patients (organization_id, name) select o, 'p' || n from unnest($1::uuid[]) o, generate_series(1, 2000) n",
      [[ada.organization, bob.organization]],
    );
    await admin.query('analyze clinic.patients');
    await app.as(ada.credential, async (client) => {
      const plan = (await client.query('explain select * from clinic.patients order by id limit 20')).rows
        .map((row) => row['QUERY PLAN'])
        .join('\n');
      expect(plan).toMatch(/Index Scan using patients_pkey/);
      expect(plan).toMatch(/Index Cond: \(organization_id = (\(InitPlan|\$\d)/);
    });
  });
});

describe('permissions', () => {
  it('each command needs its own, in the next statement of an open session', async () => {
    const eve = await app.person('eve');
    await app.rows(eve.credential, "insert into clinic.patients (name) values ('one')");
    const give = async (role: string, until = 'infinity') => {
      await takeRoles(admin, eve.organization);
      await admin.query(
        `insert into access.membership_roles (organization_id, membership_id, role_id, valid_until)
        select m.organization_id, m.id, r.id, $3 from access.memberships m join access.roles r using (organization_id)
        where m.organization_id = $1 and r.name = $2`,
        [eve.organization, role, until],
      );
    };
    await app.as(eve.credential, async (client) => {
      const count = async () => (await client.query('select from clinic.patients')).rowCount;
      const insert = async () => {
        await client.query('savepoint s');
        const said = await refusal(client.query('insert into clinic.patients (name) values (gen_random_uuid()::text)'));
        await client.query('rollback to savepoint s');
        return said;
      };
      expect([await count(), await insert(), (await client.query('delete from clinic.patients')).rowCount]).toEqual([
        1,
        'no refusal',
        1,
      ]);
      await client.query("insert into clinic.patients (name) values ('again')");
      await give('viewer');
      expect([
        await count(),
        await insert(),
        (await client.query('delete from clinic.patients')).rowCount,
        (await client.query("update clinic.patients set name = 'x'")).rowCount,
      ]).toEqual([1, '42501', 0, 0]);
      await give('member', new Date(Date.now() + 1000).toISOString());
      expect([await count(), await insert()]).toEqual([1, 'no refusal']);
      await new Promise((resolve) => setTimeout(resolve, 1100));
      expect([await count(), await insert()]).toEqual([0, '42501']);
    });
  });

  it('a host application defines its own, and built-in roles hold it at once', async () => {
    await owner.query(`create table clinic.notes (organization_id uuid not null, id uuid default platform.uuid_v7() primary key, author_id uuid default request.user_id(), text text);
      select access.define_permission('note.read', 'Read notes.', '{admin}');
      select access.protect('clinic.notes', owner => 'author_id', "select" => 'note.read', "insert" => 'row.create', "update" => null, "delete" => null);`);
    await app.rows(ada.credential, "insert into clinic.notes (text) values ('my own')");
    await admin.query(
      "insert into clinic.notes (organization_id, author_id, text) values ($1, $2, 'somebody else''s')",
      [ada.organization, bob.id],
    );
    // An owner without the permission sees the row that is hers; an admin sees all.
    expect(await app.rows(ada.credential, 'select text from clinic.notes')).toEqual([{ text: 'my own' }]);
    await admin.query(
      `insert into access.membership_roles (organization_id, membership_id, role_id)
      select m.organization_id, m.id, r.id from access.memberships m join access.roles r using (organization_id) where m.organization_id = $1 and r.name = 'admin'`,
      [ada.organization],
    );
    expect((await app.rows(ada.credential, 'select text from clinic.notes')).length).toBe(2);
    expect(await refusal(app.rows(ada.credential, "update clinic.notes set text = 'x'"))).toBe('42501');
    expect(await refusal(app.rows(ada.credential, 'delete from clinic.notes'))).toBe('42501');
  });

  it('a row is made in one’s own name, and in another’s by who may assign; whose it is never changes (AZ-05, PG-15)', async () => {
    await owner.query(`create table clinic.tasks (organization_id uuid not null, id uuid default platform.uuid_v7(), doer_id uuid, text text, primary key (organization_id, id));
      select access.protect('clinic.tasks', owner => 'doer_id');`);
    const fay = await app.person('fay');
    const to = (who: string | null) =>
      app.rows(fay.credential, 'insert into clinic.tasks (doer_id) values ($1)', [who]);
    const holdOnly = async (role: string) => {
      await takeRoles(admin, fay.organization);
      await admin.query(
        `insert into access.membership_roles (organization_id, membership_id, role_id)
        select m.organization_id, m.id, r.id from access.memberships m join access.roles r using (organization_id)
        where m.organization_id = $1 and m.person_id = $2 and r.name = $3`,
        [fay.organization, fay.id, role],
      );
    };
    // An owner holds row.assign; a member does not; a viewer may make no row, not even in her own name.
    expect([await refusal(to(fay.id)), await refusal(to(bob.id))]).toEqual(['no refusal', 'no refusal']);
    await holdOnly('member');
    expect([await refusal(to(fay.id)), await refusal(to(bob.id)), await refusal(to(null))]).toEqual([
      'no refusal',
      '42501',
      '42501',
    ]);
    expect(await refusal(app.rows(fay.credential, 'update clinic.tasks set doer_id = doer_id'))).toBe('42501');
    await holdOnly('viewer');
    expect(await refusal(to(fay.id))).toBe('42501');
    // Without one, nobody may assign.
    await owner.query("select access.protect('clinic.tasks', owner => 'doer_id', assign => null)");
    await holdOnly('owner');
    expect([await refusal(to(fay.id)), await refusal(to(bob.id))]).toEqual(['no refusal', '42501']);
  });

  it('a rule can demand an assurance level', async () => {
    await owner.query(`create table clinic.secrets (organization_id uuid not null, id uuid default platform.uuid_v7(), primary key (organization_id, id));
      select access.protect('clinic.secrets', assurance => 2);`);
    await admin.query('insert into clinic.secrets (organization_id) values ($1)', [ada.organization]);
    expect(await app.rows(ada.credential, 'select from clinic.secrets')).toEqual([]);
    await admin.query('update sessions.sessions set assurance = 2 where id = $1', [ada.session]);
    expect((await app.rows(ada.credential, 'select from clinic.secrets')).length).toBe(1);
  });
});

describe('protect', () => {
  it('can run again, which does nothing, and compiles one restrictive and one permissive policy per command', async () => {
    const policies = () =>
      admin.query(
        "select polname, polcmd, polpermissive, pg_get_expr(polqual, polrelid) as using, pg_get_expr(polwithcheck, polrelid) as check from pg_policy where polrelid = 'clinic.patients'::regclass order by 1",
      );
    const before = await policies();
    expect((await owner.query("select access.protect('clinic.patients')")).rows).toEqual([]);
    expect((await policies()).rows).toEqual(before.rows);
    expect(
      before.rows.map(({ polname, polpermissive }) => `${polname} ${polpermissive ? 'permissive' : 'restrictive'}`),
    ).toEqual([
      'safetypin_may_delete permissive',
      'safetypin_may_insert permissive',
      'safetypin_may_select permissive',
      'safetypin_may_update permissive',
      'safetypin_tenant_delete restrictive',
      'safetypin_tenant_insert restrictive',
      'safetypin_tenant_select restrictive',
      'safetypin_tenant_update restrictive',
    ]);
  });

  it('keeps rules as data, which say the same', async () => {
    const { rows } = await owner
      .query(
        "set row_security = on; select command, permission, organization_column from access.rules where relation = 'clinic.patients'::regclass order by 1",
      )
      .then((r) => r as unknown as pg.QueryResult[])
      .then((all) => all[1] as pg.QueryResult);
    expect(rows).toEqual(
      ['delete', 'insert', 'select', 'update'].map((command) => ({
        command,
        permission: `row.${{ select: 'read', insert: 'create', update: 'update', delete: 'delete' }[command]}`,
        organization_column: 'organization_id',
      })),
    );
  });

  it('takes a table with rows, a bigserial key, a foreign key to a protected table, and a partitioned one', async () => {
    await owner.query(`
      create table clinic.visits (organization_id uuid not null, id bigserial primary key, patient_id uuid not null, at timestamptz not null default now(),
        foreign key (organization_id, patient_id) references clinic.patients (organization_id, id) on delete cascade);
      create table clinic.measures (organization_id uuid not null, id uuid default platform.uuid_v7(), at timestamptz not null, value numeric, primary key (organization_id, id, at)) partition by range (at);
      create table clinic.measures_all partition of clinic.measures default;`);
    await admin.query(
      'insert into clinic.visits (organization_id, patient_id) select organization_id, id from clinic.patients',
    );
    await owner.query("select access.protect('clinic.visits'), access.protect('clinic.measures')");
    expect((await app.rows(ada.credential, 'select from clinic.visits')).length).toBe(1);
    const patient = (await app.call<{ id: string }>(ada.credential, 'select id from clinic.patients')).id;
    const foreign = (await admin.query('select id from clinic.patients where organization_id = $1', [bob.organization]))
      .rows[0].id;
    await app.rows(ada.credential, 'insert into clinic.visits (patient_id) values ($1)', [patient]);
    // A key of another organization and one that does not exist are refused alike (PG-35).
    const said = await Promise.all(
      [foreign, crypto.randomUUID()].map((id) =>
        refusal(app.rows(ada.credential, 'insert into clinic.visits (patient_id) values ($1)', [id])),
      ),
    );
    expect(said).toEqual(['23503', '23503']);
    await app.rows(ada.credential, 'insert into clinic.measures (at, value) values (now(), 1)');
    expect((await app.rows(ada.credential, 'select from clinic.measures')).length).toBe(1);
    expect(await app.rows(bob.credential, 'select from clinic.measures')).toEqual([]);
    expect(await refusal(app.rows(bob.credential, 'select from clinic.measures_all'))).toBe('42501');
  });

  it.each([
    [
      'no organization',
      'create table clinic.bare (id uuid primary key)',
      'TABLE',
      /add column organization_id uuid not null/,
    ],
    [
      'an organization that may be null',
      'create table clinic.bare (organization_id uuid, id uuid primary key)',
      'TABLE',
      /alter column organization_id set not null/,
    ],
    ['no primary key', 'create table clinic.bare (organization_id uuid not null)', 'TABLE', /add primary key/],
    [
      'a policy of its own',
      'create table clinic.bare (organization_id uuid not null, id uuid primary key); create policy open on clinic.bare using (true)',
      'TABLE',
      /drop policy open on clinic.bare;/,
    ],
    [
      'another owner',
      'create table clinic.bare (organization_id uuid not null, id uuid primary key)',
      '42501',
      undefined,
    ],
  ])('names what is missing for a table with %s', async (what, table, code, hint) => {
    await owner.query(table);
    const client = what === 'another owner' ? await db.connect('authenticator') : owner;
    const error = await client.query("select access.protect('clinic.bare')").then(
      () => null,
      (reason) => reason,
    );
    expect(error?.code).toBe(code);
    if (hint) expect(error?.hint).toMatch(hint);
    await owner.query('drop table clinic.bare');
  });

  it('a view is not a table', async () => {
    await owner.query('create view clinic.seen as select * from clinic.patients');
    expect(await refusal(owner.query("select access.protect('clinic.seen')"))).toBe('TABLE');
    await owner.query('drop view clinic.seen');
  });
});
