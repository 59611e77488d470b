// Settings of an organization: typed, within bounds, recorded; and how long its sessions last.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { join, setRole } from '../matrix/people.ts';
import { secondOrganization, switchTo } from '../sessions/tokens.ts';
import { Application, type Person, refusal, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let vera: Person;
let bob: Person;

const SESSION = 'session.absolute_seconds';

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  bob = await app.person('bob');
  vera = await app.person('vera');
  await join(admin, vera.id, ada.organization, 'viewer');
  vera = { ...vera, ...(await entered(vera, ada.organization)) };
  const owner = await db.connect('owner');
  await owner.query(`
    select access.define_setting('visit.reminders', 'boolean', 'true', 'Whether visits are reminded of.');
    select access.define_setting('visit.unit', 'text', '"metric"', 'Units.', allowed => '{metric,imperial}', read_permission => null);
    select access.define_setting('visit.greeting', 'text', '""', 'Greeting.', maximum => 10, write_permission => 'organization.update');
    select access.define_setting('visit.role', 'role', null, 'Who is asked.')`);
});

const entered = async (person: Person, organization: string) => {
  const { credential, refreshToken, session_id } = await app.signIn(person.email, person.tag, organization);
  return { credential, refreshToken, session: session_id, organization };
};

interface Result {
  outcome: string;
  reasons: string[];
  value: unknown;
  allowed: string | null;
}

const change = (who: Person, name: string, value: unknown) =>
  app.call<Result>(who.credential, 'select * from api.change_setting($1, $2)', [name, JSON.stringify(value)]);
const reset = (who: Person, name: string) =>
  app.call<Result>(who.credential, 'select * from api.reset_setting($1)', [name]);
const setting = async (who: Person, name: string) =>
  (await app.call<{ value: unknown }>(who.credential, 'select access.setting($1) as value', [name])).value;
const refused = (reason: string, allowed: string | null = null) => ({
  outcome: 'REFUSED',
  reasons: [reason],
  value: null,
  allowed,
});
const changed = (value: unknown) => ({ outcome: 'CHANGED', reasons: [], value, allowed: null });

const listed = async (who: Person) => {
  const rows = await app.rows<Record<string, unknown>>(who.credential, 'select * from api.organization_settings()');
  return new Map(rows.map(({ name, ...row }) => [name as string, row]));
};

describe('a setting', () => {
  test('is listed with its bounds, and with what counts', async () => {
    expect((await listed(vera)).get('invitation.seconds')).toEqual({
      description: 'How long an invitation can be accepted, in seconds.',
      type: 'integer',
      value: 604_800,
      default_value: 604_800,
      minimum: 3600,
      maximum: 2_592_000,
      allowed: null,
      is_default: true,
      can_change: false,
    });
    expect((await listed(ada)).get(SESSION)).toMatchObject({ value: 2_592_000, maximum: 2_592_000, can_change: true });
    expect((await listed(ada)).get('visit.role')).toMatchObject({ value: null, default_value: null });
    expect(await refusal(app.rows(null, 'select * from api.organization_settings()'))).toBe('42501');
  });

  test('takes what is of its type and within its bounds, and says what that is', async () => {
    const seconds = 'a whole number from 3600 to 2592000';
    for (const wrong of [3599, 2_592_001, 4000.5, '4000', true, null, [4000], { value: 4000 }, 1e300]) {
      expect(await change(ada, 'invitation.seconds', wrong)).toEqual(refused('VALUE_INVALID', seconds));
    }
    expect(await change(ada, 'visit.reminders', 1)).toEqual(refused('VALUE_INVALID', 'true or false'));
    expect(await change(ada, 'visit.unit', 'roman')).toEqual(refused('VALUE_INVALID', 'one of: metric, imperial'));
    const long = refused('VALUE_INVALID', 'a text of 0 to 10 characters');
    for (const wrong of ['eleven char', 'a\u202eb', null])
      expect(await change(ada, 'visit.greeting', wrong)).toEqual(long);
    expect(await change(ada, 'invitation.seconds', 3600)).toEqual(changed(3600));
    expect(await change(ada, 'visit.reminders', false)).toEqual(changed(false));
    expect(await change(ada, 'visit.unit', 'imperial')).toEqual(changed('imperial'));
    expect(await setting(vera, 'invitation.seconds')).toBe(3600);
    expect(await setting(bob, 'invitation.seconds')).toBe(604_800);
    expect(await setting(bob, 'visit.unit')).toBe('metric');
    expect((await listed(vera)).get('invitation.seconds')).toMatchObject({ value: 3600, is_default: false });
    expect(await reset(ada, 'invitation.seconds')).toEqual(changed(604_800));
    expect(await change(ada, 'no.such', 1)).toEqual(refused('NOT_FOUND'));
    const { rows } = await admin.query(
      `select details - 'reset' as details, details ->> 'reset' as reset from audit.events
        where action = 'setting.change' and organization_id = $1 and details ->> 'setting' = 'invitation.seconds' order by id`,
      [ada.organization],
    );
    expect(rows).toEqual([
      { details: { setting: 'invitation.seconds', old: 604_800, new: 3600 }, reset: 'false' },
      { details: { setting: 'invitation.seconds', old: 3600, new: 604_800 }, reset: 'true' },
    ]);
  });

  test('is changed by nobody without its permission, and by no way around the function', async () => {
    expect(await change(vera, 'visit.reminders', true)).toEqual(refused('NOT_PERMITTED'));
    expect(await reset(vera, 'visit.reminders')).toEqual(refused('NOT_PERMITTED'));
    const events = "select count(*)::integer as n from audit.events where action = 'access.refuse' and actor_id = $1";
    expect((await admin.query(events, [vera.id])).rows[0].n).toBe(2);
    for (const statement of [
      'select * from access.settings',
      "insert into access.settings (organization_id, name, value) values (request.organization_id(), 'invitation.seconds', '1')",
      "update access.settings set value = '1'",
      'delete from access.settings',
      "update access.setting_definitions set minimum = 0 where name = 'invitation.seconds'",
      "select access.define_setting('invitation.seconds', 'integer', '1', '')",
      "select access_private.setting(request.organization_id(), 'invitation.seconds')",
    ]) {
      expect(await refusal(app.rows(ada.credential, statement)), statement).toBe('42501');
    }
    await withoutGuard(
      db,
      'api_steps.set_setting(text, jsonb, boolean)',
      'not access_private.take_turn_to(v_definition.write_permission)',
      'false',
      async () => expect(await change(vera, 'visit.reminders', true)).toEqual(changed(true)),
    );
  });

  test('is read by who may read it', async () => {
    await admin.query(
      "delete from access.role_permissions where permission = 'setting.read' and organization_id = $1",
      [ada.organization],
    );
    expect([...(await listed(ada)).keys()]).toEqual(['visit.unit']);
    expect(await setting(ada, 'visit.reminders')).toBeNull();
    expect(await setting(ada, 'visit.unit')).toBe('imperial');
    await admin.query(
      "insert into access.role_permissions select organization_id, id, 'setting.read' from access.roles where organization_id = $1 and built_in",
      [ada.organization],
    );
  });

  test('that names a role hands on no more than who sets it holds, and goes with the role', async () => {
    const role = async (name: string, organization = ada.organization): Promise<string> =>
      (await admin.query('select id from access.roles where organization_id = $1 and name = $2', [organization, name]))
        .rows[0].id;
    const allowed = 'name or id of a role that permits nothing you may not do, or null';
    await admin.query("insert into access.roles (organization_id, name) values ($1, 'helper')", [ada.organization]);
    expect(await change(ada, 'visit.role', 'helper')).toEqual(changed(await role('helper')));
    expect(await change(ada, 'visit.role', await role('owner'))).toEqual(changed(await role('owner')));
    for (const foreign of [await role('viewer', bob.organization), 'nobody', 5]) {
      expect(await change(ada, 'visit.role', foreign)).toEqual(refused('VALUE_INVALID', allowed));
    }
    await setRole(admin, vera.id, ada.organization, 'admin');
    expect(await change(vera, 'visit.role', 'owner')).toEqual(refused('NOT_HELD', allowed));
    await withoutGuard(db, 'api_steps.set_setting(text, jsonb, boolean)', 'v_role is not null', 'false', async () =>
      expect(await change(vera, 'visit.role', 'owner')).toEqual(changed(await role('owner'))),
    );
    expect(await change(vera, 'visit.role', 'helper')).toEqual(changed(await role('helper')));
    await admin.query("delete from access.roles where organization_id = $1 and name = 'helper'", [ada.organization]);
    expect(await setting(ada, 'visit.role')).toBeNull();
  });
});

test('a host application defines nothing that its own bounds refuse', async () => {
  const owner = await db.connect('owner');
  for (const [name, type, value, more] of [
    ['visit.size', 'integer', '5', 'minimum => 6'],
    ['visit.size', 'integer', 'null', ''],
    ['visit.size', 'text', '"x"', "allowed => '{y}'"],
    ['visit.size', 'role', '"owner"', ''],
    ['visit.unit', 'boolean', 'true', ''],
    [SESSION, 'integer', '9000', 'maximum => 99999999'],
  ]) {
    const define = `select access.define_setting('${name}', '${type}', '${value}', 'x'${more ? `, ${more}` : ''})`;
    expect(await refusal(owner.query(define)), define).toBe('22023');
  }
});

describe('session.absolute_seconds', () => {
  const seconds = async (session: string) =>
    Number(
      (
        await admin.query(
          'select round(extract(epoch from ends_at - created_at)) as s from sessions.sessions where id = $1',
          [session],
        )
      ).rows[0].s,
    );

  test('caps sessions that begin, those that live, and those that come from elsewhere', async () => {
    const before = await entered(ada, ada.organization);
    const old = await entered(vera, ada.organization);
    await admin.query("update sessions.sessions set created_at = created_at - interval '10 minutes' where id = $1", [
      old.session,
    ]);
    expect(await change(ada, SESSION, 300)).toEqual(changed(300));
    expect(await seconds(before.session)).toBe(300);
    expect(await seconds((await entered(ada, ada.organization)).session)).toBe(300);
    expect(await refusal(app.rows(old.credential, 'select 1'))).toBe('AUTHN');
    await admin.query("update sessions.sessions set ends_at = ends_at + interval '1 day' where id = $1", [
      before.session,
    ]);
    expect(await seconds(before.session)).toBe(300);
    await withoutGuard(db, 'sessions_private.tg_sessions__cap()', /new\.ends_at := least[^;]*;/, '', async () =>
      expect(await seconds((await entered(ada, ada.organization)).session)).toBe(2_592_000),
    );
    expect(await reset(ada, SESSION)).toEqual(changed(2_592_000));
    expect(await seconds(before.session)).toBe(300);
    expect(await seconds((await entered(ada, ada.organization)).session)).toBe(2_592_000);
  });

  test('a session that is too old for an organization does not come in, and stays where it was', async () => {
    const second = await secondOrganization(app, bob);
    await admin.query("insert into access.settings (organization_id, name, value) values ($1, $2, '300')", [
      second,
      SESSION,
    ]);
    const young = { ...bob, ...(await entered(bob, bob.organization)) };
    const old = { ...bob, ...(await entered(bob, bob.organization)) };
    await admin.query("update sessions.sessions set created_at = created_at - interval '10 minutes' where id = $1", [
      old.session,
    ]);
    expect((await switchTo(app, young, second)).outcome).toBe('SIGNED_IN');
    expect(await seconds(young.session)).toBe(300);
    expect((await switchTo(app, old, second)).outcome).toBe('REFUSED');
    expect(await refusal(app.rows(old.credential, 'select 1'))).toBe('no refusal');
  });

  /** Signs in while the setting shrinks; says how long the session lasts. */
  async function raced(isWaiting: boolean): Promise<number> {
    const client = await db.connect('admin');
    await client.query('begin');
    const { rows } = await client.query('select sessions_private.start_session($1, $2, 1, $3, $4) as id', [
      ada.id,
      ada.organization,
      sha256(randomBytes(32)),
      sha256(randomBytes(32)),
    ]);
    const change300 = change(ada, SESSION, 300);
    if (isWaiting) {
      const waits =
        "select count(*)::integer as n from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
      while ((await admin.query(waits)).rows[0].n === 0);
    } else await change300;
    await client.query('commit');
    await client.end();
    expect(await change300).toEqual(changed(300));
    const lasts = await seconds(rows[0].id);
    await reset(ada, SESSION);
    return lasts;
  }

  test('meets whoever signs in at the same moment', async () => {
    expect(await raced(true)).toBe(300);
    const hold = 'sessions_private.hold_organization(uuid)';
    await withoutGuard(db, hold, /perform[^;]*;/, '', async () => expect(await raced(false)).toBe(2_592_000));
    const client = await db.connect('admin');
    await client.query('begin isolation level repeatable read; select 1 from access.organizations');
    await change(ada, SESSION, 300);
    const late = client.query('select sessions_private.start_session($1, $2, 1, $3, $4)', [
      ada.id,
      ada.organization,
      sha256(randomBytes(32)),
      sha256(randomBytes(32)),
    ]);
    expect(await refusal(late)).toBe('40001');
  });
});
