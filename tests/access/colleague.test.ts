// The first run: a role of one permission, lent to a colleague for a while. Nothing runs but the database, so no worker
// has a part in the end of it (AZ-04).
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { join } from '../matrix/people.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase } from '../support/database.ts';
import { takeRoles } from '../support/owners.ts';

let app: Application;
let owner: Person;
let bea: Person;
let membership: string;

beforeAll(async () => {
  const db = await cloneDatabase();
  app = await Application.beside(db);
  owner = await app.person('olga');
  bea = await app.person('bea');
  const admin = await db.connect('admin');
  await join(admin, bea.id, owner.organization, 'viewer');
  await takeRoles(admin, bea.organization);
  const { rows } = await admin.query(
    'select id from access.memberships where organization_id = $1 and person_id = $2',
    [owner.organization, bea.id],
  );
  membership = rows[0].id;
  bea = { ...bea, ...(await app.signIn(bea.email, bea.tag, owner.organization)) };
});

const rename = async (client: pg.ClientBase, id: string, version: number, name: string) =>
  (await client.query('select * from api.update_role($1, $2, $3)', [id, version, name])).rows[0];

it('a permission is lent, used, and over in the next statement of an open transaction', async () => {
  const made = await app.call<{ id: string }>(owner.credential, 'select * from api.create_role($1, $2, $3)', [
    'Role keeper',
    'Keeps the names of roles in order.',
    ['role.update'],
  ]);
  const other = await app.call<{ id: string }>(owner.credential, "select * from api.create_role('Empty')");
  const now = await app.as(bea.credential, (client) => rename(client, other.id, 1, 'Renamed'));
  expect(now).toEqual({ outcome: 'REFUSED', reasons: ['NOT_PERMITTED'], version: null });

  const granted = await app.call(
    owner.credential,
    "select * from api.grant_role($1, $2, null, clock_timestamp() + '1 hour')",
    [membership, made.id],
  );
  expect(granted).toMatchObject({ outcome: 'CREATED', reasons: [] });
  const mine = await app.rows(
    bea.credential,
    `select permission, valid_until > now() + '59 minutes' and valid_until < now() + '61 minutes' as for_an_hour
       from api.my_permissions() where permission in ('role.update', 'role.read', 'role.create') order by 1`,
  );
  expect(mine).toEqual([
    { permission: 'role.read', for_an_hour: null },
    { permission: 'role.update', for_an_hour: true },
  ]);
  const renamed = await app.as(bea.credential, (client) => rename(client, other.id, 1, 'Renamed'));
  expect(renamed).toEqual({ outcome: 'CHANGED', reasons: [], version: 2 });

  // The same once more, for a second; for longer where the machine was too slow to use it in that time.
  await app.call(owner.credential, 'select * from api.revoke_role($1)', [granted.id]);
  const usedInTime = async (seconds: number): Promise<boolean> => {
    const until = await app.call<{ id: string }>(
      owner.credential,
      'select * from api.grant_role($1, $2, null, clock_timestamp() + make_interval(secs => $3))',
      [membership, made.id, seconds],
    );
    return await app.as(bea.credential, async (client) => {
      const used = (await rename(client, other.id, 2, 'In time')).outcome === 'CHANGED';
      const { rows } = await client.query(
        'select extract(epoch from valid_until - clock_timestamp())::float as left from access.membership_roles where id = $1',
        [until.id],
      );
      await sleep(Math.max(0, rows[0].left) * 1000 + 5);
      expect(await rename(client, other.id, 3, 'Too late')).toMatchObject({ reasons: ['NOT_PERMITTED'] });
      expect((await client.query("select request.can('role.update') as can")).rows).toEqual([{ can: false }]);
      return used;
    });
  };
  expect((await usedInTime(1)) || (await usedInTime(5)) || (await usedInTime(30))).toBe(true);
  expect(await app.call(bea.credential, 'select name from access.roles where id = $1', [other.id])).toEqual({
    name: 'In time',
  });
});
