// Where rules do not hold is found and named with the line to run; a server does not start on it (PG-10 to PG-20, PG-44, PG-60).
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { findGaps, gapLine, refuseGaps } from '../../src/platform/doctor/gaps.ts';
import { Application } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let owner: pg.Client;

const TABLE = (name: string, more = '') =>
  `create table ${name} (organization_id uuid not null, id uuid default platform.uuid_v7()${more}, primary key (organization_id, id));`;

beforeAll(async () => {
  db = await cloneDatabase();
  owner = await db.connect('owner');
  await owner.query(`
    create schema clinic; create schema evil;
    ${TABLE('clinic.patients', ', name text, doctor_id uuid, room integer')}
    select access.protect('clinic.patients', owner => 'doctor_id');
    create table clinic.measures (organization_id uuid not null, id uuid default platform.uuid_v7(), at date not null,
      primary key (organization_id, id, at)) partition by range (at);
    create table clinic.measures_2025 partition of clinic.measures for values from ('2025-01-01') to ('2026-01-01');
    select access.protect('clinic.measures');
    ${TABLE('evil.bait')}
    create function evil.owner_id() returns uuid language sql as 'select null::uuid';
    create function evil.can(text) returns boolean language sql as 'select true';
    create function evil.take() returns trigger language plpgsql security definer as 'begin return new; end';`);
});

const gaps = async (schemas = ['clinic']) => (await findGaps(db.access, schemas)).map(gapLine);

it('nothing is wrong with tables under rules, ours too', async () => {
  expect(await gaps()).toEqual([]);
  await refuseGaps(db.access, ['clinic']);
});

const PATIENTS = 'clinic.patients';
const BROKEN: readonly [string, string, string, RegExp][] = [
  ['PG-10 row-level security is off', `alter table ${PATIENTS} disable row level security`, PATIENTS, /is off/],
  [
    'PG-14 a policy by hand',
    `create policy more on ${PATIENTS} for select to safetypin_member using (true)`,
    PATIENTS,
    /policies of its own/,
  ],
  ['PG-14 a policy for everybody', `create policy more on ${PATIENTS} using (true)`, PATIENTS, /policies of its own/],
  [
    'PG-14 a policy of our name for another role',
    `create policy safetypin_work on ${PATIENTS} for select to safetypin_jobs using (true)`,
    PATIENTS,
    /policies of its own/,
  ],
  [
    'PG-14 a condition that is wider',
    `alter policy safetypin_may_select on ${PATIENTS} using (true)`,
    PATIENTS,
    /not what the rule says/,
  ],
  [
    'PG-14 brackets elsewhere',
    `alter policy safetypin_may_insert on ${PATIENTS} with check ((select request.can('row.create')) and doctor_id = (select request.owner_id()) or (select request.can('row.assign')))`,
    PATIENTS,
    /not what the rule says/,
  ],
  [
    'another function of that name',
    `alter policy safetypin_may_select on ${PATIENTS} using ((select evil.can('row.read')) or doctor_id = (select request.owner_id()))`,
    PATIENTS,
    /not what the rule says/,
  ],
  [
    'another operator of that name',
    `create function evil.yes(uuid, uuid) returns boolean language sql immutable as 'select true'; create operator evil.= (leftarg = uuid, rightarg = uuid, function = evil.yes); alter policy safetypin_tenant_select on ${PATIENTS} using (organization_id operator(evil.=) (select request.organization_id()))`,
    PATIENTS,
    /not what the rule says/,
  ],
  [
    'PG-15 a tenant that is not checked',
    `alter policy safetypin_tenant_update on ${PATIENTS} with check (true)`,
    PATIENTS,
    /not what the rule says/,
  ],
  [
    'PG-14 the tenant as permissive',
    `drop policy safetypin_tenant_select on ${PATIENTS}; create policy safetypin_tenant_select on ${PATIENTS} for select to safetypin_member using (organization_id = (select request.organization_id()))`,
    PATIENTS,
    /not what the rule says/,
  ],
  [
    'a policy for one more role',
    `alter policy safetypin_may_select on ${PATIENTS} to safetypin_member, safetypin_anonymous`,
    PATIENTS,
    /not what the rule says/,
  ],
  ['PG-20 a policy that is gone', `drop policy safetypin_may_select on ${PATIENTS}`, PATIENTS, /no policy for select/],
  [
    'a grant to everybody',
    `grant select on ${PATIENTS} to public`,
    PATIENTS,
    /public may more than the rules say: select/,
  ],
  [
    'a grant of one column to everybody',
    `grant update (name) on ${PATIENTS} to public`,
    PATIENTS,
    /public may more .* update \(name\)/,
  ],
  [
    'PG-44 a grant that no policy holds',
    `grant truncate, trigger on ${PATIENTS} to safetypin_member; grant references on ${PATIENTS} to safetypin_anonymous`,
    PATIENTS,
    /truncate/,
  ],
  [
    'PG-15 the tenant can be written',
    `grant update (organization_id) on ${PATIENTS} to safetypin_member`,
    PATIENTS,
    /update \(organization_id\)/,
  ],
  [
    'whose row it is can be written',
    `grant update (doctor_id) on ${PATIENTS} to safetypin_member`,
    PATIENTS,
    /update \(doctor_id\)/,
  ],
  [
    'a right that can be passed on',
    `grant select (name) on ${PATIENTS} to safetypin_member with grant option`,
    PATIENTS,
    /select \(name\)/,
  ],
  ['a right that is gone', `revoke delete on ${PATIENTS} from safetypin_member`, PATIENTS, /may not yet: delete/],
  [
    'a column that was added',
    `alter table ${PATIENTS} add column born date`,
    PATIENTS,
    /may not yet: select \(born\), insert \(born\), update \(born\)/,
  ],
  ['PG-60 changes that are not recorded', `drop trigger _800_audit on ${PATIENTS}`, PATIENTS, /not recorded/],
  [
    'PG-60 a trigger that is off',
    `alter table ${PATIENTS} disable trigger _800_audit`,
    PATIENTS,
    /can be switched off/,
  ],
  [
    'PG-60 a trigger that records some',
    `create or replace trigger _800_audit after insert on ${PATIENTS} for each row execute function audit.record_change('organization_id', 'organization_id', 'id')`,
    PATIENTS,
    /not recorded/,
  ],
  [
    'PG-60 a trigger that names another key',
    `create or replace trigger _800_audit after insert or update or delete on ${PATIENTS} for each row execute function audit.record_change('organization_id', 'id')`,
    PATIENTS,
    /not recorded/,
  ],
  [
    'a trigger that is off on a part',
    'alter table clinic.measures_2025 disable trigger _800_audit',
    'clinic.measures',
    /switched off on a part/,
  ],
  [
    'a default that is gone',
    `alter table ${PATIENTS} alter column organization_id drop default`,
    PATIENTS,
    /no default/,
  ],
  [
    'an organization that may be missing',
    `alter table ${PATIENTS} drop constraint patients_pkey, alter column organization_id drop not null`,
    PATIENTS,
    /may be null/,
  ],
  [
    'a rule',
    `create rule copy as on insert to ${PATIENTS} do also insert into evil.bait (organization_id) values (new.organization_id)`,
    PATIENTS,
    /a rule/,
  ],
  [
    'PG-12 a part that is reached by its name',
    'grant select on clinic.measures_2025 to safetypin_member',
    'clinic.measures',
    /past the rules by safetypin_member/,
  ],
  [
    'PG-12 a part of a part',
    "create table clinic.measures_new partition of clinic.measures for values from ('2026-01-01') to ('2027-01-01') partition by range (at); create table evil.part partition of clinic.measures_new default; grant select (at) on evil.part to public",
    'clinic.measures',
    /evil.part is reached past the rules by public/,
  ],
  [
    'PG-12 what inherits',
    `create table clinic.heirs () inherits (${PATIENTS}); grant select on clinic.heirs to safetypin_member`,
    PATIENTS,
    /clinic.heirs is reached past/,
  ],
  [
    'PG-20 a table under no rules',
    TABLE('clinic.open'),
    'clinic.open',
    /not under rules; run: select access.protect\('clinic.open'\)/,
  ],
  [
    'a partitioned table under none',
    'create table clinic.logs (organization_id uuid not null, id uuid, at date, primary key (organization_id, id, at)) partition by range (at); create table clinic.logs_all partition of clinic.logs default',
    'clinic.logs',
    /not under rules/,
  ],
  [
    'PG-13 a view of its owner',
    `create view clinic.seen as select * from ${PATIENTS}`,
    'clinic.seen',
    /view .*security_invoker = true/,
  ],
  [
    'PG-13 a materialized view',
    `create materialized view clinic.kept as select * from ${PATIENTS}`,
    'clinic.kept',
    /materialized/,
  ],
  [
    'a function that runs as its owner',
    `create function clinic.all_of_them() returns setof ${PATIENTS} language sql security definer as 'select * from ${PATIENTS}'; grant execute on function clinic.all_of_them() to safetypin_member`,
    'clinic.all_of_them()',
    /rights of safetypin_owner/,
  ],
  [
    'a trigger that runs as its owner',
    `create trigger a after insert on ${PATIENTS} for each row execute function evil.take()`,
    'evil.take()',
    /rights of safetypin_owner/,
  ],
];

describe('is found, and the line that is named mends it', () => {
  it.each(BROKEN)('%s', async (_, breaking, object, said) => {
    await owner.query(`begin; set local row_security = off; ${breaking}`);
    try {
      const all = await inside();
      const about = all.filter((gap) => gap.object === object);
      expect(about.map(gapLine).join('\n')).toMatch(said);
      // What holds nothing of an organization is for people to say; some lines make the next ones possible.
      let rest = all.filter(({ line }) => !line?.includes('…'));
      for (let round = 0; rest.length > 0 && round < 3; round += 1) {
        for (const { line } of rest) if (line) await owner.query(line);
        rest = (await inside()).filter(({ line }) => !line?.includes('…'));
      }
      expect(rest.map(gapLine)).toEqual([]);
    } finally {
      await owner.query('rollback');
    }
  });

  /** As findGaps asks, in the transaction of the test. */
  const inside = async () =>
    (
      await owner.query<{ object: string; what: string; line: string | null; stops: boolean }>(
        "select * from access.gaps('{clinic}')",
      )
    ).rows;
});

it('a column that is sealed after its table was protected is no gap', async () => {
  await Application.beside(db);
  await owner.query(`${TABLE('clinic.letters', ', text text')} select access.protect('clinic.letters');
    select keyring.seal_column('clinic.letters', 'text', searchable => true)`);
  expect(await gaps()).toEqual([]);
  // The worker's policy for its works on sealed columns is ours only as we made it.
  await owner.query('alter policy safetypin_work on clinic.letters using (true)');
  expect(await gaps()).toEqual([expect.stringMatching(/policies of its own.*safetypin_work; run: drop policy/)]);
  await owner.query('drop table clinic.letters cascade');
  expect(await gaps()).toEqual([]);
});

it('a missing index is told, and stops nobody', async () => {
  await owner.query('begin; drop index clinic.patients_organization_id_doctor_id_idx');
  const { rows } = await owner.query("select * from access.gaps('{clinic}')");
  await owner.query('rollback');
  expect(rows).toEqual([
    {
      object: 'clinic.patients',
      what: 'no index begins with (organization_id, doctor_id)',
      line: 'create index on clinic.patients (organization_id, doctor_id);',
      stops: false,
    },
  ]);
});

it('what is exempt is listed with a reason in words, by its owner, and is no gap; a name that came back is no other object', async () => {
  await owner.query('create table clinic.countries (code text primary key)');
  expect((await gaps()).length).toBe(1);
  await expect(refuseGaps(db.access, ['clinic'])).rejects.toThrow(
    "clinic.countries: not under rules; run: select access.protect('clinic.countries');",
  );
  await refuseGaps(db.access, ['evil_that_is_not_there']);
  for (const [object, reason] of [
    ['clinic.countries', '…'],
    ['clinic.countries', ''],
    ['clinic.nowhere', 'The same list for everybody.'],
  ])
    await expect(owner.query('select access.exempt($1, $2)', [object, reason])).rejects.toMatchObject({
      code: 'TABLE',
    });
  await owner.query("select access.exempt('clinic.countries', 'The same list for everybody.')");
  expect(await gaps()).toEqual([]);
  await owner.query("select access.exempt('clinic.countries', null)");
  expect((await gaps()).length).toBe(1);
  await owner.query(
    "select access.exempt('clinic.countries', 'The same list for everybody.'); drop table clinic.countries; select access.exempt('clinic.countries', null)",
  );
  const admin = await db.connect('admin');
  const { rows } = await admin.query(
    "select relation, details ->> 'reason' as reason from audit.events where action = 'table.exempt' order by id",
  );
  expect(rows.map(({ reason }) => reason)).toEqual([
    'The same list for everybody.',
    null,
    'The same list for everybody.',
    null,
  ]);
  await owner.query('create table clinic.countries (code text primary key)');
  expect((await gaps()).length).toBe(1);
  await owner.query('drop table clinic.countries');
});
