// Plans: how many of what an organization may have, in a race too (AZ-13).
import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  bob = await app.person('bob');
  const owner = await db.connect('owner');
  await owner.query(`set row_security = on;
    insert into access.plans values ('small', 'A few of each.');
    insert into access.plan_limits values ('small', 'roles', 3), ('small', 'members', 1)`);
  await admin.query("update access.organizations set plan = 'small' where id = $1", [ada.organization]);
});

const roles = async (person: Person) =>
  (
    await admin.query('select count(*)::integer as n from access.roles where organization_id = $1 and not built_in', [
      person.organization,
    ])
  ).rows[0].n;

/** Twenty at once do what a function that makes a role does: ask, and add. */
async function makeRoles(person: Person, isolation = 'read committed'): Promise<void> {
  const clients = await Promise.all(Array.from({ length: 20 }, () => db.connect('admin')));
  await Promise.allSettled(
    clients.map((client, i) =>
      client.query(
        `begin isolation level ${isolation}; set local role safetypin_definer; set local row_security = on;
         do $$ begin
           if access_private.room('${person.organization}', 'roles') then
             perform pg_sleep(0.02);
             insert into access.roles (organization_id, name) values ('${person.organization}', 'role ${i}');
           end if;
         end $$; commit`,
      ),
    ),
  );
  await Promise.all(clients.map((client) => client.end()));
}

test('20 at once never add more than the plan has room for', async () => {
  await makeRoles(ada);
  expect(await roles(ada)).toBe(3);
  await admin.query('delete from access.roles where not built_in');
  await makeRoles(ada, 'repeatable read');
  expect(await roles(ada)).toBeLessThanOrEqual(3);
  await admin.query('delete from access.roles where not built_in');
});

test('and would, did they not take turns', async () => {
  const turn = /perform access_private.take_turn\([^)]*\);/;
  await withoutGuard(db, 'access_private.room(uuid, text)', turn, '', async () => {
    const clients = await Promise.all(Array.from({ length: 5 }, () => db.connect('admin')));
    for (const client of clients) {
      await client.query('begin');
      const { rows } = await client.query("select access_private.room($1, 'roles') as room", [ada.organization]);
      expect(rows).toEqual([{ room: true }]);
    }
    for (const [i, client] of clients.entries()) {
      await client.query('insert into access.roles (organization_id, name) values ($1, $2)', [
        ada.organization,
        `role ${i}`,
      ]);
      await client.query('commit');
    }
    expect(await roles(ada)).toBe(5);
    await Promise.all(clients.map((client) => client.end()));
  });
  await admin.query('delete from access.roles where not built_in');
});

test('createRole refuses what the plan has no room for, twenty times at once too', async () => {
  const made = await Promise.all(
    Array.from({ length: 20 }, (_, i) =>
      app.call<{ outcome: string; reasons: string[] }>(
        ada.credential,
        "select outcome, reasons from api.create_role($1, '', '{}')",
        [`role ${i}`],
      ),
    ),
  );
  expect(made.filter(({ outcome }) => outcome === 'CREATED')).toHaveLength(3);
  expect(made.filter(({ reasons }) => reasons[0] === 'LIMIT_REACHED')).toHaveLength(17);
  await admin.query('delete from access.roles where not built_in');
});

test('planUsage says what is used, to who holds plan.read', async () => {
  const usage = 'select what, used, most from api.plan_usage()';
  expect(await app.rows(ada.credential, usage)).toEqual([
    { what: 'members', used: 1, most: 1 },
    { what: 'roles', used: 0, most: 3 },
  ]);
  expect(await app.rows(bob.credential, usage)).toContainEqual({ what: 'members', used: 1, most: 10_000 });
  await admin.query('update access.plan_limits set most = 0 where plan = $1', ['small']);
  const room = "select access_private.room($1, 'members') as room";
  expect((await admin.query(room, [ada.organization])).rows[0].room).toBe(false);
  expect((await admin.query(room, [bob.organization])).rows[0].room).toBe(true);
  await admin.query("delete from access.plan_limits where plan = 'small'");
  expect((await admin.query(room, [ada.organization])).rows[0].room).toBe(true);
  expect(await app.rows(ada.credential, usage)).toEqual([]);

  await admin.query("delete from access.role_permissions where permission = 'plan.read' and organization_id = $1", [
    ada.organization,
  ]);
  expect(await refusal(app.rows(ada.credential, usage))).toBe('DENYD');
  await withoutGuard(db, 'api.plan_usage()', "not coalesce(request.can('plan.read'), false)", 'false', async () => {
    expect(await refusal(app.rows(ada.credential, usage))).toBe('no refusal');
  });
});

test('what operators change in plans is recorded', async () => {
  const { rows } = await admin.query(
    "select action, relation, row_id from audit.events where relation like 'access.plan%' order by relation, row_id",
  );
  expect(rows).toContainEqual({ action: 'row.insert', relation: 'access.plans', row_id: 'small' });
  expect(rows).toContainEqual({ action: 'row.delete', relation: 'access.plan_limits', row_id: 'small,roles' });
});
