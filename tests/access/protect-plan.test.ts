// access.protect by its plan: what it would run, what stands in its way with the line that helps, and taking it back.
import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
let ada: Person;
let bob: Person;

const KEY = 'organization_id uuid not null, id uuid default platform.uuid_v7()';

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  [admin, owner] = [await db.connect('admin'), await db.connect('owner')];
  [ada, bob] = [await app.person('ada'), await app.person('bob')];
  await owner.query('create schema clinic');
});

const lines = async (call: string, client = owner): Promise<string[]> =>
  (await client.query(`select access.${call} as line`)).rows.map(({ line }) => line);

/** All that protecting could change of a table. */
async function shapeOf(table: string): Promise<unknown> {
  const { rows } = await admin.query(
    `select to_jsonb(c) - 'relpages' - 'reltuples' - 'relallvisible' as class,
       (select jsonb_agg(to_jsonb(a) order by a.attnum) from pg_attribute a where a.attrelid = c.oid) as columns,
       (select jsonb_agg(to_jsonb(p) order by p.polname) from pg_policy p where p.polrelid = c.oid) as policies,
       (select jsonb_agg(to_jsonb(t) order by t.oid) from pg_trigger t where t.tgrelid = c.oid) as triggers,
       (select jsonb_agg(i.indexrelid::regclass order by i.indexrelid) from pg_index i where i.indrelid = c.oid) as indexes,
       (select jsonb_agg(pg_get_expr(d.adbin, d.adrelid) order by d.adnum) from pg_attrdef d where d.adrelid = c.oid) as defaults,
       (select jsonb_agg(to_jsonb(s)) from pg_class s join pg_depend d on d.objid = s.oid where d.refobjid = c.oid and s.relkind = 'S') as sequences,
       (select jsonb_agg(to_jsonb(r) order by r.command) from access.rules r where r.relation = c.oid) as rules,
       (select to_jsonb(p) from access.protections p where p.relation = c.oid) as kept,
       (select count(*) from audit.events) as events
     from pg_class c where c.oid = $1::regclass`,
    [table],
  );
  return rows[0];
}

describe('the plan', () => {
  it('is what protect runs, line by line; shown it changes nothing, run again it is empty', async () => {
    await owner.query(`
      create table clinic.patients (${KEY}, name text, primary key (organization_id, id));
      create table clinic.visits (organization_id uuid not null, id bigserial primary key, patient_id uuid not null, by uuid, note text,
        foreign key (organization_id, patient_id) references clinic.patients (organization_id, id));
      select access.protect('clinic.patients')`);
    const before = await shapeOf('clinic.visits');
    const plan = await lines("protect_plan('clinic.visits', owner => 'by')");
    expect(await shapeOf('clinic.visits')).toEqual(before);
    expect(plan).toEqual([
      'alter table clinic.visits enable row level security;',
      'alter table clinic.visits alter column by set default request.user_id();',
      'alter table clinic.visits alter column organization_id set default request.organization_id();',
      `select access.set_rule('clinic.visits', 'delete', 'organization_id', 'by', 'row.delete', 1, '{safetypin_member}', NULL);`,
      `select access.set_rule('clinic.visits', 'insert', 'organization_id', 'by', 'row.create', 1, '{safetypin_member}', 'row.assign');`,
      `select access.set_rule('clinic.visits', 'select', 'organization_id', 'by', 'row.read', 1, '{safetypin_member}', NULL);`,
      `select access.set_rule('clinic.visits', 'update', 'organization_id', 'by', 'row.update', 1, '{safetypin_member}', NULL);`,
      `select access.keep_protection('clinic.visits', 'organization_id', 'by', '{safetypin_member}', 't', '{}');`,
      `create policy safetypin_may_delete on clinic.visits for delete to safetypin_member using ((select request.can('row.delete')) or by = (select request.owner_id()));`,
      `create policy safetypin_may_insert on clinic.visits for insert to safetypin_member with check ((select request.can('row.create')) and (by = (select request.user_id()) or (select request.can('row.assign'))));`,
      `create policy safetypin_may_select on clinic.visits for select to safetypin_member using ((select request.can('row.read')) or by = (select request.owner_id()));`,
      `create policy safetypin_may_update on clinic.visits for update to safetypin_member using ((select request.can('row.update')) or by = (select request.owner_id())) with check ((select request.can('row.update')) or by = (select request.owner_id()));`,
      'create policy safetypin_tenant_delete on clinic.visits as restrictive for delete to safetypin_member using (organization_id = (select request.organization_id()));',
      'create policy safetypin_tenant_insert on clinic.visits as restrictive for insert to safetypin_member with check (organization_id = (select request.organization_id()));',
      'create policy safetypin_tenant_select on clinic.visits as restrictive for select to safetypin_member using (organization_id = (select request.organization_id()));',
      'create policy safetypin_tenant_update on clinic.visits as restrictive for update to safetypin_member using (organization_id = (select request.organization_id())) with check (organization_id = (select request.organization_id()));',
      'grant select (organization_id, id, patient_id, by, note), insert (patient_id, by, note), update (patient_id, note), delete on table clinic.visits to safetypin_member;',
      'grant usage on sequence clinic.visits_id_seq to safetypin_member;',
      'create index on clinic.visits (organization_id, by);',
      'create index on clinic.visits (organization_id, id);',
      'create index on clinic.visits (organization_id, patient_id);',
      `create or replace trigger _800_audit after insert or update or delete on clinic.visits for each row execute function audit.record_change('organization_id', 'id');`,
      'alter table clinic.visits enable always trigger _800_audit;',
    ]);
    expect(await lines("protect('clinic.visits', owner => 'by')")).toEqual(plan);
    const after = await shapeOf('clinic.visits');
    expect(await lines("protect_plan('clinic.visits', owner => 'by')")).toEqual([]);
    expect(await lines("protect('clinic.visits', owner => 'by')")).toEqual([]);
    expect(await lines("renew('clinic.visits')")).toEqual([]);
    expect(await shapeOf('clinic.visits')).toEqual(after);
  });

  it.each([
    `"select" => null, "update" => null, "delete" => null`,
    `owner => 'by', "select" => null, assign => null`,
    `owner => 'by', assurance => 2, roles => '{safetypin_member,safetypin_auditor}'`,
    `owner => 'by', assurance => 3, "insert" => null, audited => false`,
    `"select" => null, "insert" => null, "update" => null, "delete" => null`,
    `assurance => 2, hidden => '{secret}'`,
    `owner => 'by', hidden => '{secret,by}'`,
  ])('is empty once it ran, by whatever rule came before: %s', async (how) => {
    await owner.query(
      `create table if not exists clinic.any (${KEY}, by uuid, secret text, primary key (organization_id, id))`,
    );
    await lines(`protect('clinic.any', ${how})`);
    expect(await lines(`protect_plan('clinic.any', ${how})`)).toEqual([]);
    expect(await lines("renew('clinic.any')")).toEqual([]);
    expect((await owner.query("select * from access.gaps('{}')")).rows).toEqual([]);
  });

  it('names everything by its schema and in quotes, whatever it is called', async () => {
    const [schema, table, column] = ['"clinic.""select"""', '"Ünï; drop table x --"', `"it's ""by"" %I $1"`];
    await owner.query(`create schema ${schema};
      create table ${schema}.${table} ("Organization" uuid not null, "from" bigserial, ${column} uuid, "sel ect" text, primary key ("Organization", "from"))`);
    const how = `$n$${schema}.${table}$n$, organization => 'Organization', owner => $n$it's "by" %I $1$n$`;
    const plan = await lines(`protect_plan(${how})`);
    expect(plan.length).toBeGreaterThan(15);
    // Line by line in another's search path, as somebody would who copies them.
    const dba = await db.connect('owner');
    await dba.query('set search_path = clinic');
    for (const line of plan) await dba.query(line);
    expect(await lines(`protect_plan(${how})`)).toEqual([]);
    await app.rows(ada.credential, `insert into ${schema}.${table} ("sel ect") values ('mine')`);
    const all = `select "sel ect" as text from ${schema}.${table}`;
    expect([await app.rows(ada.credential, all), await app.rows(bob.credential, all)]).toEqual([
      [{ text: 'mine' }],
      [],
    ]);
    expect((await lines(`unprotect($n$${schema}.${table}$n$)`)).length).toBeGreaterThan(9);
  });

  it('asks PostgreSQL’s own functions, whatever the owner’s search path has by their names', async () => {
    await owner.query(`create schema evil; create function evil.quote_ident(name) returns text language sql as $$select 'public'$$;
      create table clinic.bait (${KEY}, primary key (organization_id, id))`);
    const dba = await db.connect('owner');
    await dba.query('set search_path = evil, pg_catalog');
    const policies = async () =>
      (
        await dba.query(
          `select line from access_private.differing_policies('clinic.bait', 'organization_id', null, '{a.b,a.b,a.b,a.b}', 1, '{safetypin_member}', null)`,
        )
      ).rows.filter(({ line }) => line.includes(' to public')).length;
    await withoutGuard(
      db,
      'access_private.differing_policies(regclass,name,name,text[],integer,name[],text)',
      " SET search_path TO 'pg_catalog', 'pg_temp'\n",
      '',
      async () => expect(await policies()).toBeGreaterThan(0),
    );
    expect(await policies()).toBe(0);
  });

  it('two at once take turns, and the second finds nothing to do', async () => {
    const race = async (table: string) => {
      await owner.query(`create table clinic.${table} (${KEY}, primary key (organization_id, id))`);
      const second = await db.connect('owner');
      await owner.query('begin');
      await lines(`protect('clinic.${table}')`);
      const { pid } = (await second.query('select pg_backend_pid() as pid')).rows[0];
      const late = lines(`protect('clinic.${table}')`, second).catch((error) => error.code);
      while (!(await admin.query('select cardinality(pg_blocking_pids($1)) as n', [pid])).rows[0].n);
      await owner.query('commit');
      return await late;
    };
    await withoutGuard(
      db,
      'access_private.take_table(regclass)',
      /execute format\('lock table[^;]*;/,
      'perform 1;',
      async () => {
        expect(await race('hurried')).toBe('42710');
      },
    );
    expect(await race('patient')).toEqual([]);
  });
});

describe('what stands in the way', () => {
  const cases: readonly [string, string, string, string, RegExp][] = [
    [
      'no organization',
      'create table clinic.bare (id uuid primary key)',
      '',
      '',
      /add column organization_id uuid not null/,
    ],
    [
      'a column of our name that says something else',
      'create table clinic.bare (id uuid primary key, organization_id text)',
      '',
      `, organization => 'tenant_id'`,
      /add column tenant_id uuid not null/,
    ],
    [
      'an organization that may be missing',
      'create table clinic.bare (organization_id uuid, id uuid primary key)',
      '',
      '',
      /set not null/,
    ],
    [
      'no key',
      'create table clinic.bare (organization_id uuid not null, name text)',
      '',
      '',
      /add column id .*, add primary key \(organization_id, id\)/,
    ],
    [
      'no key, divided',
      'create table clinic.bare (organization_id uuid not null, id uuid, "at" date) partition by range ("at")',
      '',
      '',
      /primary key \(organization_id, id, at\)/,
    ],
    [
      'no owner',
      `create table clinic.bare (${KEY}, primary key (organization_id, id))`,
      `, owner => 'by'`,
      `, owner => 'by'`,
      /add column by uuid/,
    ],
    [
      'an owner of another type',
      `create table clinic.bare (${KEY}, by text, primary key (organization_id, id))`,
      `, owner => 'by'`,
      `, owner => 'by'`,
      /type uuid using/,
    ],
    [
      'a permission that is not there',
      `create table clinic.bare (${KEY}, primary key (organization_id, id))`,
      `, "select" => 'bare.read'`,
      `, "select" => 'bare.read'`,
      /define_permission\('bare.read'/,
    ],
    [
      'several at once',
      'create table clinic.bare (name text)',
      '',
      '',
      /add column organization_id .*\n.*add primary key/,
    ],
    [
      'a policy of its own',
      `create table clinic.bare (${KEY}, primary key (organization_id, id)); create policy "o pen" on clinic.bare using (true)`,
      '',
      '',
      /drop policy "o pen"/,
    ],
    [
      'a rule',
      `create table clinic.bare (${KEY}, primary key (organization_id, id)); create rule odd as on insert to clinic.bare do also delete from clinic.bare`,
      '',
      '',
      /drop rule odd/,
    ],
    [
      'a parent',
      `create table clinic.parents (${KEY}); create table clinic.bare (primary key (organization_id, id)) inherits (clinic.parents)`,
      '',
      '',
      /no inherit clinic.parents/,
    ],
  ];

  it.each(cases)('%s: the line that is named, run, helps', async (_, making, first, then, hint) => {
    await owner.query(`begin; ${making}; savepoint s`);
    try {
      const error = await lines(`protect('clinic.bare'${first})`).catch((reason) => reason);
      expect([error.code, error.hint]).toEqual(['TABLE', expect.stringMatching(hint)]);
      await owner.query('rollback to s');
      // The line for the key names the column that the line before it adds.
      for (const line of error.hint.split('\n')) await owner.query(line);
      await lines(`protect('clinic.bare'${then})`);
      expect(await lines(`protect_plan('clinic.bare'${then})`)).toEqual([]);
    } finally {
      await owner.query('rollback');
    }
  });

  it.each([
    [
      'a part of a table',
      `create table clinic.whole (${KEY}, primary key (organization_id, id)) partition by hash (organization_id); create table clinic.bare partition of clinic.whole for values with (modulus 1, remainder 0)`,
      /select access.protect\('clinic.whole'\)/,
    ],
    ['a view', 'create view clinic.bare as select 1 as one', /security_invoker = true/],
    ['a materialized view', 'create materialized view clinic.bare as select 1 as one', /drop materialized view/],
    ['a sequence', 'create sequence clinic.bare', /^$/],
    ['a composite type', 'create type clinic.bare as (one integer)', /^$/],
  ])('%s cannot be under rules', async (_, making, hint) => {
    await owner.query(`begin; ${making}`);
    const error = await lines("protect('clinic.bare')").catch((reason) => reason);
    await owner.query('rollback');
    expect([error.code, error.hint]).toEqual(['TABLE', expect.stringMatching(hint)]);
  });

  it('neither can a temporary or a foreign table', async () => {
    await admin.query(`create temp table bare (${KEY}, primary key (organization_id, id))`);
    expect(await refusal(admin.query("select access.protect('bare')"))).toBe('TABLE');
    await admin.query(
      'begin; create foreign data wrapper nowhere; create server nowhere foreign data wrapper nowhere; create foreign table clinic.far (organization_id uuid not null) server nowhere',
    );
    expect((await admin.query("select what from access.gaps('{clinic}') where object = 'clinic.far'")).rows).toEqual([
      { what: 'a foreign table knows no rules' },
    ]);
    expect(await refusal(admin.query("select access.protect('clinic.far')"))).toBe('TABLE');
    await admin.query('rollback');
  });

  it('of a table with rows only people know whose they are', async () => {
    await owner.query(
      "begin; create table clinic.old (id uuid primary key default platform.uuid_v7(), note text); insert into clinic.old (note) values ('hers'); savepoint s",
    );
    const { hint } = await lines("protect('clinic.old')").catch((reason) => reason);
    await owner.query('rollback to s');
    expect(hint).toContain('…');
    await owner.query(hint.replace('…', ada.organization));
    await lines("protect('clinic.old')");
    await owner.query('commit');
    const notes = 'select note from clinic.old';
    expect([await app.rows(ada.credential, notes), await app.rows(bob.credential, notes)]).toEqual([
      [{ note: 'hers' }],
      [],
    ]);
  });

  it('a table of another role is protected by that one alone', async () => {
    const [dba, password] = [`dba_${randomBytes(4).toString('hex')}`, 'a long one, of its own'];
    await admin.query(`create role ${dba} login inherit password '${password}'; grant safetypin_owner to ${dba};
      grant connect on database ${db.name} to ${dba}; create schema host authorization ${dba}; grant usage on schema host to safetypin_owner`);
    const host = new pg.Client({ ...db.config('admin'), user: dba, password });
    await host.connect();
    try {
      await host.query(`create table host.things (${KEY}, name text, primary key (organization_id, id))`);
      const error = await lines("protect('host.things')").catch((reason) => reason);
      expect([error.code, error.hint]).toEqual(['42501', `set role ${dba};`]);
      // Nor by writing its rules without it.
      await admin.query('set session authorization safetypin_owner');
      for (const call of [
        `set_rule('host.things', 'select', 'organization_id', null, 'row.read', 1, '{safetypin_member}')`,
        `keep_protection('host.things', 'organization_id', null, '{safetypin_member}', true, '{}')`,
        `forget_protection('host.things')`,
        `exempt('host.things', 'Because I say so.')`,
      ])
        expect(await refusal(lines(call, admin)), call).toBe('42501');
      await admin.query('reset session authorization');
      expect((await lines("protect('host.things')", host)).length).toBeGreaterThan(10);
      await app.rows(ada.credential, "insert into host.things (name) values ('mine')");
      expect(await app.rows(bob.credential, 'select name from host.things')).toEqual([]);
      expect((await lines("unprotect('host.things')", host)).length).toBeGreaterThan(5);
    } finally {
      await host.end();
      await admin.query(`reset session authorization; drop owned by ${dba} cascade; drop role ${dba}`);
    }
  });
});

describe('what a host adds', () => {
  it('a column that comes later is nobody’s until somebody renews; a hidden one stays nobody’s', async () => {
    await owner.query(`create table clinic.staff (${KEY}, name text, wage integer, primary key (organization_id, id));
      select access.protect('clinic.staff', hidden => '{wage}'); alter table clinic.staff add column born date`);
    const ask = (text: string) => refusal(app.rows(ada.credential, text));
    expect(await ask("insert into clinic.staff (name) values ('a')")).toBe('no refusal');
    const closed = [
      'select wage from clinic.staff',
      'update clinic.staff set wage = 1',
      'insert into clinic.staff (wage) values (1)',
      'select * from clinic.staff',
      'select count(wage) from clinic.staff',
      'select name from clinic.staff order by wage',
    ];
    for (const text of closed) expect(await ask(text), text).toBe('42501');
    expect(await ask('select born from clinic.staff')).toBe('42501');
    expect(await lines("renew('clinic.staff')")).toEqual([
      'grant select (born), insert (born), update (born) on table clinic.staff to safetypin_member;',
    ]);
    expect(await ask('select born from clinic.staff')).toBe('no refusal');
    for (const text of closed) expect(await ask(text), text).toBe('42501');
  });

  it('PG-15 a trigger of the host moves no row to another organization', async () => {
    await owner.query(`create table clinic.moved (${KEY}, name text, primary key (organization_id, id)); select access.protect('clinic.moved');
      create function clinic.move() returns trigger language plpgsql as $$begin new.organization_id := new.name::uuid; return new; end$$;
      create trigger a before insert or update on clinic.moved for each row execute function clinic.move()`);
    const plant = () =>
      refusal(app.rows(ada.credential, 'insert into clinic.moved (name) values ($1)', [bob.organization]));
    expect(await plant()).toBe('42501');
    await app.rows(ada.credential, 'insert into clinic.moved (name) values ($1)', [ada.organization]);
    expect(await refusal(app.rows(ada.credential, 'update clinic.moved set name = $1', [bob.organization]))).toBe(
      '42501',
    );
    // Without the check it would have stood there.
    await owner.query('alter policy safetypin_tenant_insert on clinic.moved with check (true)');
    expect(await plant()).toBe('no refusal');
    await lines("renew('clinic.moved')");
    expect(await plant()).toBe('42501');
  });

  it('a rule copies rows of everybody in the name of the table’s owner: a table with one is refused, and found', async () => {
    await owner.query(`create table clinic.ruled (${KEY}, name text, primary key (organization_id, id)); create table clinic.loot (name text);
      select access.protect('clinic.ruled'), access.exempt('clinic.loot', 'What the attack below makes away with.');
      create rule copy as on update to clinic.ruled do also insert into clinic.loot select r.name from clinic.ruled r`);
    await admin.query("insert into clinic.ruled (organization_id, name) values ($1, 'ada'), ($2, 'bob')", [
      ada.organization,
      bob.organization,
    ]);
    await app.rows(ada.credential, "update clinic.ruled set name = 'ada' where name = 'ada'");
    expect((await owner.query('select distinct name from clinic.loot order by 1')).rows).toEqual([
      { name: 'ada' },
      { name: 'bob' },
    ]);
    expect(await refusal(lines("renew('clinic.ruled')"))).toBe('TABLE');
    const { rows } = await owner.query("select line from access.gaps('{clinic}') where object = 'clinic.ruled'");
    expect(rows).toEqual([{ line: 'drop rule copy on clinic.ruled;' }]);
    await owner.query(rows[0].line);
    expect(await lines("renew('clinic.ruled')")).toEqual([]);
  });
});

it('unprotect closes the table, forgets its rules and says so; another time there is nothing to do', async () => {
  await owner.query(
    `create table clinic.shut (${KEY}, n bigserial, by uuid, primary key (organization_id, id)); select access.protect('clinic.shut', owner => 'by')`,
  );
  await app.rows(ada.credential, 'insert into clinic.shut default values');
  expect((await lines("unprotect('clinic.shut')")).at(-1)).toBe("select access.forget_protection('clinic.shut');");
  for (const attack of [
    'select from clinic.shut',
    'insert into clinic.shut default values',
    'delete from clinic.shut',
    "select nextval('clinic.shut_n_seq')",
  ])
    expect(await refusal(app.rows(ada.credential, attack)), attack).toBe('42501');
  const {
    class: table,
    policies,
    triggers,
    rules,
    kept,
  } = (await shapeOf('clinic.shut')) as Record<string, Record<string, unknown>>;
  expect([table?.relrowsecurity, policies, triggers, rules, kept]).toEqual([true, null, null, null, null]);
  expect(await lines("unprotect('clinic.shut')")).toEqual([]);
  expect(await refusal(lines("renew('clinic.shut')"))).toBe('TABLE');
  const { rows } = await admin.query(
    "select action from audit.events where relation = 'clinic.shut' and action like 'table.%' order by id",
  );
  expect([rows.length, rows.at(-1)]).toEqual([6, { action: 'table.unprotect' }]);
  await lines("protect('clinic.shut', owner => 'by')");
  expect((await app.rows(ada.credential, 'select from clinic.shut')).length).toBe(1);
  // A table that was dropped is forgotten when the next one is protected.
  await owner.query('drop table clinic.shut; create table clinic.next (organization_id uuid primary key)');
  await lines("protect('clinic.next')");
  const { rows: gone } = await admin.query(
    'select from access.rules r where r.relation not in (select oid from pg_class)',
  );
  expect(gone).toEqual([]);
});
