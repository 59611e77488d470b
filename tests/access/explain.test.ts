// explainAccess by hand: who may ask about whom, what is told of rows and tables that one does not see, and what would
// change it (AZ-01, AZ-05, PG-30).
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
let ada: Person;
let bob: Person;
/** Member of Ada's organization, with no role yet. */
let eve: Person;
let membership: string;
const rows: Record<string, string> = {};

interface Explanation {
  verdict: string;
  reason: string;
  sentence: string;
  change: string | null;
  deciding: Record<string, unknown>[];
}

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  owner = await db.connect('owner');
  ada = await app.person('ada');
  bob = await app.person('bob');
  const guest = await app.person('eve');
  membership = (
    await admin.query('insert into access.memberships (organization_id, person_id) values ($1, $2) returning id', [
      ada.organization,
      guest.id,
    ])
  ).rows[0].id;
  const { credential } = await app.signIn(guest.email, guest.tag, ada.organization);
  eve = { ...guest, credential };
  await owner.query(`
    create schema clinic;
    create table clinic.visits (organization_id uuid not null, id uuid default platform.uuid_v7(), note text,
      doctor_id uuid, primary key (organization_id, id));
    select access.protect('clinic.visits', owner => 'doctor_id', "delete" => null);
    create table clinic.beds (organization_id uuid not null, id bigserial primary key, ward text);
    select access.protect('clinic.beds', assurance => 2);
    create table clinic.measures (organization_id uuid not null, id uuid, at date, primary key (organization_id, id, at))
      partition by range (at);
    create table clinic.measures_all partition of clinic.measures default;
    select access.protect('clinic.measures');
    create table clinic.bare (id uuid primary key);
    create table clinic.open (id uuid primary key);
    grant select on clinic.open to safetypin_member;
    create schema "odd.""one";
    create table "odd.""one"."a.b" (organization_id uuid not null, "i d" uuid, primary key (organization_id, "i d"));
    select access.protect('"odd.""one"."a.b"');`);
  for (const [name, organization, doctor] of [
    ['eves', ada.organization, eve.id],
    ['adas', ada.organization, ada.id],
    ['bobs', bob.organization, bob.id],
  ]) {
    rows[name as string] = (
      await admin.query('insert into clinic.visits (organization_id, doctor_id) values ($1, $2) returning id', [
        organization,
        doctor,
      ])
    ).rows[0].id;
  }
});

/** Arguments by name; who asks comes first. */
async function explain(who: Person, question: Record<string, unknown>): Promise<Explanation> {
  const names = Object.keys(question);
  return await app.call<Explanation & pg.QueryResultRow>(
    who.credential,
    `select * from api.explain_access(${names.map((name, i) => `${name} => $${i + 1}`).join(', ')})`,
    Object.values(question),
  );
}

const said = async (who: Person, question: Record<string, unknown>) => {
  const { verdict, reason } = await explain(who, question);
  return `${verdict} ${reason}`;
};

/** Roles of Eve: one name, and its window. */
async function give(role: string, window = "'-infinity', 'infinity'"): Promise<void> {
  await admin.query('delete from access.membership_roles where membership_id = $1', [membership]);
  await admin.query(
    `insert into access.membership_roles (organization_id, membership_id, role_id, valid_from, valid_until)
      select organization_id, $2, id, ${window} from access.roles where organization_id = $1 and name = $3`,
    [ada.organization, membership, role],
  );
}

const refusals = async () =>
  (
    await admin.query(
      `select count(*)::int as n from audit.events where action = 'access.refuse' and details ->> 'what' = 'access.explain'`,
    )
  ).rows[0].n;

describe('who may ask', () => {
  it('about oneself anybody, about others whoever holds access.explain; a refusal is recorded', async () => {
    await give('member');
    const others = { person_id: ada.id, permission: 'row.read' };
    expect(await said(eve, { permission: 'row.read' })).toBe('ALLOWED HELD');
    expect(await said(eve, { person_id: eve.id, permission: 'organization.close' })).toBe('DENIED NOT_HELD');
    const before = await refusals();
    expect(await explain(eve, others)).toEqual({
      verdict: 'REFUSED',
      reason: 'NOT_PERMITTED',
      sentence: 'No answer: asking about others needs access.explain.',
      change: null,
      deciding: [],
    });
    expect(await refusals()).toBe(before + 1);
    expect(await said(ada, { person_id: eve.id, permission: 'organization.close' })).toBe('DENIED NOT_HELD');
    await withoutGuard(
      db,
      'api_steps.explain_access(uuid, uuid, text, text, text, text, uuid, text, uuid)',
      "not coalesce(request.can('access.explain'), false)",
      'false',
      async () => expect(await said(eve, others)).toBe('ALLOWED HELD'),
    );
  });

  it('people of other organizations are like people who do not exist', async () => {
    const [foreign, unknown] = await Promise.all(
      [bob.id, crypto.randomUUID()].map((id) => explain(ada, { person_id: id, permission: 'row.read' })),
    );
    expect(foreign).toEqual(unknown);
    expect(foreign).toMatchObject({ verdict: 'REFUSED', reason: 'NOT_FOUND', deciding: [] });
  });
});

describe('what is told', () => {
  it('of a row that the asker cannot see is what is told of one that does not exist', async () => {
    await admin.query('delete from access.membership_roles where membership_id = $1', [membership]);
    const ask = (who: Person, row: string | undefined, person?: Person) =>
      explain(who, { person_id: person?.id, command: 'update', table_name: 'clinic.visits', row_id: row });
    expect(await ask(eve, rows.eves)).toMatchObject({ verdict: 'ALLOWED', reason: 'OWN_ROW' });
    const nowhere = await ask(eve, crypto.randomUUID());
    expect(nowhere).toMatchObject({ verdict: 'DENIED', reason: 'ROW_NOT_FOUND' });
    expect(await ask(eve, rows.adas)).toEqual(nowhere);
    expect(await ask(eve, rows.bobs)).toEqual(nowhere);
    // Nor through somebody whose row it is.
    await give('member');
    expect(await ask(ada, rows.bobs, eve)).toEqual(await ask(ada, crypto.randomUUID(), eve));
    await admin.query('delete from access.membership_roles where membership_id = $1', [membership]);
    // Were it looked up with more than the asker's rights, it would tell.
    await admin.query('alter function access.row_seen(oid, name, name, name, text) security definer');
    await admin.query('alter function access.row_seen(oid, name, name, name, text) owner to postgres');
    expect(await ask(eve, rows.bobs)).not.toEqual(nowhere);
    await admin.query('alter function access.row_seen(oid, name, name, name, text) security invoker');
    await admin.query('alter function access.row_seen(oid, name, name, name, text) owner to safetypin_owner');
    expect(await ask(eve, rows.bobs)).toEqual(nowhere);
  });

  it('of tables that are not under rules is nothing, whether they exist or not', async () => {
    const hidden = [
      'identity_private.passwords',
      'access.rules',
      'clinic.bare',
      'pg_catalog.pg_authid',
      'clinic.nowhere',
      '',
    ];
    const answers = await Promise.all(hidden.map((table_name) => explain(ada, { command: 'select', table_name })));
    for (const answer of answers) expect(answer).toEqual(answers[0]);
    expect(answers[0]).toMatchObject({ verdict: 'REFUSED', reason: 'TABLE_UNKNOWN' });
    expect(await said(ada, { command: 'select', table_name: 'sessions.sessions' })).toBe('REFUSED TABLE_UNRULED');
    expect(await said(ada, { command: 'select', table_name: 'clinic.open' })).toBe('REFUSED TABLE_UNRULED');
    expect(await said(ada, { command: 'select', table_name: 'clinic.measures' })).toBe('ALLOWED HELD');
    expect(await said(ada, { command: 'select', table_name: 'clinic.measures_all' })).toBe('DENIED PARTITION');
    expect(await said(ada, { command: 'select', table_name: '"odd.""one"."a.b"' })).toBe('ALLOWED HELD');
    expect(await said(ada, { command: 'select', table_name: 'visits' })).toBe('ALLOWED HELD');
    // Switched off by hand, the rules decide nothing.
    await owner.query('alter table clinic.visits disable row level security');
    expect(await said(ada, { command: 'select', table_name: 'clinic.visits' })).toBe('REFUSED TABLE_UNRULED');
    await owner.query('alter table clinic.visits enable row level security');
  });

  it('of nonsense is that it is none, without an error', async () => {
    const nonsense = ['', '..', 'a.b.c.d', '"', "'; drop table clinic.visits; --", '%I', 'x'.repeat(5000)];
    for (const one of nonsense) {
      for (const question of [
        { permission: one },
        { command: one, table_name: 'clinic.visits' },
        { command: 'select', table_name: one },
        { command: 'select', table_name: one, row_key: one },
        { permission: one, command: one, table_name: one },
        { table_name: one },
      ]) {
        const { verdict, sentence } = await explain(ada, question);
        expect(verdict, JSON.stringify(question)).toBe('REFUSED');
        expect(sentence).toMatch(/^No answer: /);
      }
      const of = { command: 'select', table_name: 'clinic.visits' };
      expect(await said(ada, { ...of, row_key: one })).toBe('DENIED ROW_NOT_FOUND');
      expect(await said(ada, { ...of, column_name: one })).toBe('DENIED COLUMN_CLOSED');
    }
    expect(await said(ada, {})).toBe('REFUSED QUESTION_UNCLEAR');
  });
});

describe('what would change it', () => {
  it('waiting, while a grant is yet to come; a role, once it ended', async () => {
    const ask = () => explain(eve, { command: 'update', table_name: 'clinic.visits' });
    await give('member', "'2190-01-01 12:00+00', 'infinity'");
    expect(await explain(eve, { permission: 'row.update' })).toMatchObject({
      verdict: 'DENIED',
      reason: 'NOT_YET',
      change: 'wait until 2190-01-01 12:00:00 UTC',
    });
    expect(await ask()).toMatchObject({ verdict: 'ALLOWED', reason: 'OWN_ROWS' });
    await give('member', "'2020-01-01 12:00+00', '2020-01-02 12:00+00'");
    const { deciding, ...ended } = await explain(ada, { person_id: eve.id, permission: 'row.update' });
    expect(ended).toEqual({
      verdict: 'DENIED',
      reason: 'ENDED',
      sentence:
        'Not allowed to do what row.update is for: the role that gave row.update ended at 2020-01-02 12:00:00 UTC.',
      change: 'grant the role member',
    });
    expect(deciding).toEqual([
      { kind: 'organization', status: 'active', closesAt: null },
      { kind: 'person', status: 'active', memberSince: expect.any(String) },
      {
        kind: 'grant',
        permission: 'row.update',
        role: 'member',
        validFrom: '2020-01-01T12:00:00+00:00',
        validUntil: '2020-01-02T12:00:00+00:00',
        now: false,
      },
    ]);
    await give('member');
    expect(await ask()).toMatchObject({ verdict: 'ALLOWED', reason: 'HELD' });
  });

  it('a stronger session, a name in the row, or the owner of the table', async () => {
    await give('member');
    expect(await explain(eve, { command: 'delete', table_name: 'clinic.visits', row_id: rows.eves })).toMatchObject({
      verdict: 'DENIED',
      reason: 'CLOSED',
      change: 'whoever owns the table opens it with access.protect()',
    });
    expect(await explain(eve, { command: 'insert', table_name: 'clinic.visits', owner_id: ada.id })).toMatchObject({
      verdict: 'DENIED',
      reason: 'NOT_OWN',
      change: 'grant the role admin',
    });
    const beds = { command: 'delete', table_name: 'clinic.beds' };
    expect(await explain(ada, beds)).toMatchObject({ reason: 'ASSURANCE', change: 'sign in with a second factor' });
    expect((await explain(eve, beds)).change).toBe('grant the role admin and sign in with a second factor');
    await admin.query('update sessions.sessions set assurance = 2 where id = $1', [ada.session]);
    expect(await said(ada, beds)).toBe('ALLOWED HELD');
    await admin.query('update sessions.sessions set assurance = 1 where id = $1', [ada.session]);
  });

  it("one's own roles are named to whoever may not see roles, and only the built-in ones besides", async () => {
    await admin.query(
      `with made as (insert into access.roles (organization_id, name) values ($1, 'night shift') returning id)
        insert into access.role_permissions select $1, id, 'row.read' from made`,
      [ada.organization],
    );
    await admin.query('delete from access.membership_roles where membership_id = $1', [membership]);
    expect((await explain(eve, { permission: 'row.read' })).change).toBe('grant the role viewer');
    expect((await explain(ada, { person_id: eve.id, permission: 'row.read' })).change).toBe(
      'grant the role "night shift"',
    );
  });
});

describe('of API keys', () => {
  const made = async (person: string | null, permissions: string[], ended = false) =>
    (
      await admin.query(
        `with account as (insert into access.service_accounts (organization_id, name, permissions)
            select $1, 'robot ' || platform.uuid_v7(), '{row.read}' where $2::uuid is null returning id)
          insert into access.api_keys (organization_id, name, person_id, service_account_id, permissions, prefix, expires_at)
            select $1, 'key', $2, (select id from account), $3, 'sp_AAAAAAAAA', now() + ($4 || ' hours')::interval returning id`,
        [ada.organization, person, permissions, ended ? -1 : 1],
      )
    ).rows[0].id;

  it("one's own are told, and those of others to whoever may ask about them; a key asks nothing", async () => {
    await give('member');
    const own = await made(eve.id, ['row.read', 'organization.close']);
    expect(await said(eve, { key_id: own, permission: 'row.read' })).toBe('ALLOWED HELD');
    expect(await explain(eve, { key_id: own, permission: 'row.update' })).toMatchObject({
      verdict: 'DENIED',
      reason: 'SCOPE',
      change: 'make another API key',
    });
    expect(await said(eve, { key_id: own, permission: 'organization.close' })).toBe('DENIED NOT_HELD');
    // A key reaches no row for being its person's own.
    const row = { command: 'update', table_name: 'clinic.visits', row_id: rows.eves };
    expect(await said(eve, row)).toBe('ALLOWED HELD');
    expect(await said(eve, { ...row, key_id: own })).toBe('DENIED SCOPE');
    const over = await made(eve.id, ['row.read'], true);
    expect(await said(eve, { key_id: over, permission: 'row.read' })).toBe('DENIED KEY_OVER');
    const robots = await made(null, ['row.read', 'row.update']);
    expect(await said(ada, { key_id: robots, permission: 'row.read' })).toBe('ALLOWED HELD');
    expect(await said(ada, { key_id: robots, permission: 'row.update' })).toBe('DENIED NOT_HELD');
    const others = await explain(eve, { key_id: robots, permission: 'row.read' });
    expect(others).toMatchObject({ reason: 'NOT_PERMITTED' });
    expect(await explain(eve, { key_id: crypto.randomUUID(), permission: 'row.read' })).toEqual(others);
    expect(await said(bob, { key_id: robots, permission: 'row.read' })).toBe('REFUSED NOT_FOUND');
  });
});

it('a DBA asks about anybody, and is told of tables and organizations too', async () => {
  await give('member');
  const ask = async (...values: unknown[]) =>
    (
      await owner.query<Explanation>(
        `select * from access.explain(${values.map((_, i) => `$${i + 1}`).join(', ')})`,
        values,
      )
    ).rows[0] as Explanation;
  expect(await ask(eve.id, 'update', 'clinic.visits', rows.eves)).toMatchObject({ verdict: 'ALLOWED', reason: 'HELD' });
  expect(await ask(bob.id, 'update', 'clinic.visits', rows.eves)).toMatchObject({
    verdict: 'REFUSED',
    reason: 'NOT_FOUND',
  });
  expect(await ask(bob.id, 'select', 'clinic.visits', rows.eves, bob.organization)).toMatchObject({
    verdict: 'DENIED',
    reason: 'OTHER_ORGANIZATION',
  });
  expect(await ask(bob.id, 'row.read')).toMatchObject({ verdict: 'ALLOWED' });
  expect(await ask(eve.id, 'row.read')).toMatchObject({ verdict: 'REFUSED', reason: 'ORGANIZATION_UNCLEAR' });
  expect(await ask(bob.id, 'delete', 'clinic.visits')).toMatchObject({
    reason: 'CLOSED',
    change: "select access.protect('clinic.visits', …);",
  });
  expect(await ask(bob.id, 'select', 'clinic.bare')).toMatchObject({ verdict: 'DENIED', reason: 'NOT_PROTECTED' });
  expect(await ask(bob.id, 'select', 'clinic.beds', 'one')).toMatchObject({ verdict: 'DENIED', reason: 'ASSURANCE' });
  await owner.query('set row_security = on');
  await admin.query("update identity.people set status = 'suspended' where id = $1", [bob.id]);
  expect(await ask(bob.id, 'row.read')).toMatchObject({ verdict: 'DENIED', reason: 'PERSON_INACTIVE' });
  await admin.query("update access.organizations set status = 'suspended' where id = $1", [bob.organization]);
  expect(await ask(bob.id, 'row.read')).toMatchObject({ verdict: 'DENIED', reason: 'ORGANIZATION_INACTIVE' });
});

it('says where policies of the table itself narrow what the rules allow, which they may and stay no gap', async () => {
  const ask = async () =>
    (
      await app.rows<Explanation>(
        ada.credential,
        "select * from api.explain_access(null, null, 'update', 'clinic.visits', null, null, null, null, null)",
      )
    )[0];
  const before = await ask();
  await owner.query(
    `create policy mine on clinic.visits as restrictive for update to safetypin_member using (note <> 'signed')`,
  );
  const { rows: gaps } = await owner.query("select * from access.gaps('{}') where object = 'clinic.visits'");
  const { rows: ran } = await owner.query("select access.renew('clinic.visits')");
  expect([gaps, ran]).toEqual([[], []]);
  const after = await ask();
  await owner.query('drop policy mine on clinic.visits');
  expect(before?.sentence).not.toMatch(/narrow/);
  expect(after?.verdict).toBe('ALLOWED');
  expect(after?.sentence).toMatch(/ Policies of the table's own may narrow it\.$/);
  expect(after?.deciding).toContainEqual({ kind: 'policy', name: 'mine' });
});
