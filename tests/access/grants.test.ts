// Giving roles to members and taking them: what one holds oneself, for no longer than one holds it, and from nobody who
// holds more (AZ-02, AZ-04).
import { beforeAll, describe, expect, it } from 'vitest';
import { newApiKey } from '../../src/sessions/api-key.ts';
import { refusal, withoutGuard } from '../support/actors.ts';
import { takeRoles } from '../support/owners.ts';
import { Team } from './team.ts';

let team: Team;
let reader: string;

beforeAll(async () => {
  team = await Team.with({
    olga: 'owner',
    otto: 'owner',
    adam: 'admin',
    anna: 'admin',
    mia: 'member',
    lena: '',
    max: 'viewer',
    moe: 'viewer',
  });
  reader = String((await team.ask('olga', "create_role('Reader', '', '{audit.read}')")).id);
});

const grant = (name: string, to: string, role: string, from: string | null = null, until: string | null = null) =>
  team.said(name, 'grant_role($1, $2, clock_timestamp() + $3::interval, clock_timestamp() + $4::interval)', [
    team.the(to).membership,
    role,
    from,
    until,
  ]);

/** Puts everybody back into the role they had at first. */
async function reset(name: string, role: string): Promise<void> {
  await team.admin.query(
    `with kept as (insert into access.membership_roles (organization_id, membership_id, role_id)
        select organization_id, $2, id from access.roles where organization_id = $1 and name = $3 returning id)
     delete from access.membership_roles where organization_id = $1 and membership_id = $2`,
    [team.organization, team.the(name).membership, role],
  );
}

describe('for a time', () => {
  it.each([
    ['now', null, null, 'CREATED'],
    ['from now for a day', null, '1 day', 'CREATED'],
    ['from tomorrow', '1 day', null, 'CREATED'],
    ['from yesterday', '-1 day', '1 day', 'CREATED'],
    ['that is over', null, '-1 second', 'WINDOW_INVALID'],
    ['that ends before it begins', '2 days', '1 day', 'WINDOW_INVALID'],
    ['of no length', '0 seconds', '0 seconds', 'WINDOW_INVALID'],
  ])('%s', async (_name, from, until, answer) => {
    expect(await grant('olga', 'lena', reader, from, until)).toBe(answer);
    expect(await team.can('lena', 'audit.read')).toBe(answer === 'CREATED' && from !== '1 day');
    await team.admin.query('delete from access.membership_roles where membership_id = $1', [
      team.the('lena').membership,
    ]);
    expect(await team.can('lena', 'audit.read')).toBe(false);
  });

  it('that PostgreSQL writes as without beginning or end: then from now, and never', async () => {
    const { lena } = { lena: team.the('lena').membership };
    expect(await team.said('olga', "grant_role($1, $2, '-infinity', 'infinity')", [lena, reader])).toBe('CREATED');
    const { rows } = await team.admin.query(
      "select valid_from > now() - interval '1 hour' as recent, valid_until from access.membership_roles where membership_id = $1",
      [lena],
    );
    expect(rows).toEqual([{ recent: true, valid_until: Number.POSITIVE_INFINITY }]);
    expect(await team.said('olga', "grant_role($1, $2, 'infinity')", [lena, reader])).toBe('WINDOW_INVALID');
    expect(await team.said('olga', "grant_role($1, $2, null, '-infinity')", [lena, reader])).toBe('WINDOW_INVALID');
    await team.said('olga', 'revoke_role($1)', [(await team.grants('lena'))[0]]);
  });

  it('of which one member has no more at once than the limit says', async () => {
    await team.admin.query("update platform.limits set value = 2 where name = 'role.per_member'");
    expect(await grant('olga', 'lena', reader)).toBe('CREATED');
    expect(await grant('olga', 'lena', reader, '1 day')).toBe('CREATED');
    expect(await grant('olga', 'lena', reader)).toBe('LIMIT_REACHED');
    await team.admin.query("update platform.limits set value = 100 where name = 'role.per_member'");
    for (const id of await team.grants('lena'))
      expect(await team.said('olga', 'revoke_role($1)', [id])).toBe('REMOVED');
  });
});

describe('for no longer than one holds it', () => {
  it('neither now nor later', async () => {
    expect(await grant('olga', 'lena', await team.role('admin'), null, '2 hours')).toBe('CREATED');
    expect(await grant('lena', 'mia', reader, null, '1 hour')).toBe('CREATED');
    expect(await grant('lena', 'mia', reader, null, '3 hours')).toBe('NOT_HELD');
    expect(await grant('lena', 'mia', reader)).toBe('NOT_HELD');
    expect(await grant('lena', 'mia', reader, '1 day', '2 days')).toBe('NOT_HELD');
    expect(await grant('lena', 'lena', await team.role('admin'))).toBe('NOT_HELD');
    // Two that follow on one another are one time.
    expect(await grant('olga', 'lena', await team.role('admin'), '1 hour', '4 hours')).toBe('CREATED');
    expect(await grant('lena', 'mia', reader, null, '3 hours')).toBe('CREATED');
    await reset('mia', 'member');
    await team.admin.query('delete from access.membership_roles where membership_id = $1', [
      team.the('lena').membership,
    ]);
  });

  it('so that nobody makes herself what she is not, at any time', async () => {
    const owner = await team.role('owner');
    expect(await grant('adam', 'adam', owner)).toBe('NOT_HELD');
    expect(await grant('adam', 'adam', owner, '1 day')).toBe('NOT_HELD');
    expect(await team.said('adam', "change_member_role($1, 'owner')", [team.the('adam').membership])).toBe('NOT_HELD');
    const guard = "v_from >= v_until then 'WINDOW_INVALID'";
    const signature = 'api.grant_role(uuid, uuid, timestamptz, timestamptz)';
    await withoutGuard(team.db, signature, guard, `${guard} when true then null`, async () => {
      await team.tried('adam', async (ask) => {
        await ask('api.grant_role($1, $2)', [team.the('adam').membership, owner]);
        expect(await ask("request.can('organization.close') as can")).toEqual({ can: true });
      });
    });
  });
});

describe('from nobody who holds more', () => {
  const olgas = async () => String((await team.grants('olga'))[0]);

  it('an admin takes nothing from an owner, nor from who will be one', async () => {
    expect(await team.said('adam', 'revoke_role($1)', [await olgas()])).toBe('OUTRANKED');
    expect(await team.said('adam', "change_member_role($1, 'viewer')", [team.the('olga').membership])).toBe(
      'OUTRANKED',
    );
    expect(await grant('olga', 'mia', await team.role('owner'), '1 day', '2 days')).toBe('CREATED');
    const [member] = await team.grants('mia');
    expect(await team.said('adam', 'revoke_role($1)', [member])).toBe('OUTRANKED');
    expect(await team.said('adam', "change_member_role($1, 'viewer')", [team.the('mia').membership])).toBe('OUTRANKED');
    await reset('mia', 'member');
    await withoutGuard(
      team.db,
      'api.revoke_role(uuid)',
      'not access_private.outranks(v_organization, v_person)',
      'false',
      async () => {
        await team.tried('adam', async (ask) => {
          expect(await ask('api.revoke_role($1)', [await olgas()])).toMatchObject({ outcome: 'REMOVED' });
        });
      },
    );
  });

  it('but from an equal, and from oneself', async () => {
    expect(await team.said('adam', "change_member_role($1, 'Viewer ')", [team.the('anna').membership])).toBe('CHANGED');
    expect(await team.said('anna', "change_member_role($1, 'admin')", [team.the('anna').membership])).toBe(
      'NOT_PERMITTED',
    );
    expect(await team.said('adam', "change_member_role($1, 'admin')", [team.the('anna').membership])).toBe('CHANGED');
    expect(await team.said('anna', 'revoke_role($1)', [(await team.grants('anna'))[0]])).toBe('REMOVED');
    expect(await team.can('anna', 'organization.read')).toBe(false);
    await reset('anna', 'admin');
  });

  it('changing replaces all roles by one, as of the next statement (AZ-04)', async () => {
    await grant('olga', 'mia', reader);
    await grant('olga', 'mia', reader, '1 day');
    expect(await team.said('adam', "change_member_role($1, 'no such')", [team.the('mia').membership])).toBe(
      'ROLE_UNKNOWN',
    );
    await team.app.as(team.the('mia').credential, async (client) => {
      const can = async () =>
        (
          await client.query(
            "select request.can('audit.read') as audit, request.can('row.create') as create, request.can('row.read') as read",
          )
        ).rows[0];
      expect(await can()).toEqual({ audit: true, create: true, read: true });
      const { outcome, id } = await team.ask('adam', "change_member_role($1, 'viewer')", [team.the('mia').membership]);
      expect([outcome, await team.grants('mia')]).toEqual(['CHANGED', [id]]);
      expect(await can()).toEqual({ audit: false, create: false, read: true });
    });
    await reset('mia', 'member');
  });

  it('the last owner stays one, by whichever way', async () => {
    const otto = team.the('otto').membership;
    expect(await team.said('olga', "change_member_role($1, 'admin')", [otto])).toBe('CHANGED');
    expect(await team.said('olga', 'revoke_role($1)', [await olgas()])).toBe('LAST_OWNER');
    expect(await team.said('olga', "change_member_role($1, 'admin')", [team.the('olga').membership])).toBe(
      'LAST_OWNER',
    );
    // Who owns it only for a while, or later, does not keep it.
    await grant('olga', 'otto', await team.role('owner'), null, '1 day');
    await grant('olga', 'otto', await team.role('owner'), '1 day');
    expect(await team.said('olga', 'revoke_role($1)', [await olgas()])).toBe('LAST_OWNER');
    // A second grant of her own does, and so does being made one anew.
    await grant('olga', 'olga', await team.role('owner'));
    expect(await team.said('olga', 'revoke_role($1)', [await olgas()])).toBe('REMOVED');
    expect(await team.said('olga', "change_member_role($1, 'owner')", [team.the('olga').membership])).toBe('CHANGED');
    expect(await team.said('olga', "change_member_role($1, 'owner')", [otto])).toBe('CHANGED');
    expect((await team.grants('olga')).length).toBe(1);
  });
});

it('what I may do now, and until when: all of it in one query', async () => {
  const mine = async () =>
    await team.app.rows<{ permission: string; valid_until: Date | null }>(
      team.the('lena').credential,
      'select * from api.my_permissions()',
    );
  expect(await mine()).toEqual([]);
  await grant('adam', 'lena', reader, null, '1 hour');
  await grant('adam', 'lena', reader, '1 day');
  await grant('adam', 'lena', await team.role('viewer'));
  const found = await mine();
  expect(found.map(({ permission }) => permission)).toEqual([
    'audit.read',
    'member.read',
    'organization.read',
    'role.read',
    'row.read',
    'setting.read',
  ]);
  expect(found.map(({ valid_until }) => valid_until === null)).toEqual([false, true, true, true, true, true]);
  await takeRoles(team.admin, team.organization);
  expect(await mine()).toEqual([]);
  for (const [name, role] of Object.entries({ olga: 'owner', otto: 'owner', adam: 'admin' })) await reset(name, role);
});

it('and what a key may do, which makes no roles and gives none', async () => {
  const key = newApiKey();
  const made = await team.app.call(
    team.the('adam').credential,
    "select outcome, id from api_steps.create_api_key('k', '{row.read, member.update, role.create}', now() + '1 day', null, $1, $2)",
    [key.credentialHash, key.prefix],
  );
  expect(made).toMatchObject({ outcome: 'CREATED' });
  const mine = await team.app.rows(
    key.credential,
    "select permission, valid_until between now() + '23 hours' and now() + '25 hours' as a_day from api.my_permissions()",
  );
  expect(mine).toEqual(['member.update', 'role.create', 'row.read'].map((permission) => ({ permission, a_day: true })));
  for (const call of ["create_role('By a key')", `grant_role('${team.the('mia').membership}', '${reader}')`])
    expect(await refusal(team.app.rows(key.credential, `select * from api.${call}`))).toBe('AUTHN');
});

it('all of it is recorded: who, whom, which role, from when until when', async () => {
  await reset('mia', 'viewer');
  const { since } = (await team.admin.query('select clock_timestamp()::text as since')).rows[0];
  const { id: role } = await team.ask('olga', "create_role('Clerk', '', '{row.read, row.create}')");
  await team.ask('olga', "update_role($1, 1, null, null, '{row.read, row.delete}')", [role]);
  const mia = team.the('mia');
  const { id: lent } = await team.ask('olga', "grant_role($1, $2, null, '2099-01-01 00:00:00+00')", [
    mia.membership,
    role,
  ]);
  await team.ask('olga', 'revoke_role($1)', [lent]);
  await team.ask('olga', 'grant_role($1, $2)', [mia.membership, role]);
  await team.ask('olga', "change_member_role($1, 'member')", [mia.membership]);
  await team.ask('olga', 'grant_role($1, $2)', [mia.membership, role]);
  await team.ask('olga', 'delete_role($1)', [role]);
  await team.ask('mia', 'delete_role($1)', [role]);
  const { rows } = await team.admin.query(
    `select action, actor_id, relation, row_id, details from audit.events
      where organization_id = $1 and occurred_at > $2 and (action like 'role.%' or action = 'access.refuse') order by occurred_at, id`,
    [team.organization, since],
  );
  const olga = team.the('olga').id;
  const member = await team.role('member');
  const viewer = await team.role('viewer');
  const given = { person: mia.id, membership: mia.membership, role, valid_until: 'infinity', granted_by: olga };
  const events: [string, object][] = [
    ['role.create', { permissions: ['row.create', 'row.read'] }],
    ['role.update', { added: ['row.delete'], removed: ['row.create'] }],
    ['role.grant', { ...given, valid_until: '2099-01-01T00:00:00+00:00' }],
    ['role.revoke', { ...given, valid_until: '2099-01-01T00:00:00+00:00' }],
    ['role.grant', given],
    ['role.revoke', { ...given, role: viewer, granted_by: null }],
    ['role.revoke', given],
    ['role.grant', { ...given, role: member }],
    ['role.grant', given],
    ['role.delete', { permissions: ['row.delete', 'row.read'], grants: 1 }],
    ['access.refuse', { what: 'role.delete', reasons: ['NOT_PERMITTED'] }],
  ];
  expect(rows.map(({ action }) => action)).toEqual(events.map(([action]) => action));
  for (const [i, [, details]] of events.entries()) expect(rows[i].details, `${i}`).toMatchObject(details);
  expect(rows.map(({ actor_id }) => actor_id)).toEqual([...Array(10).fill(olga), mia.id]);
  expect(rows.filter(({ relation }) => relation === 'access.roles').map(({ row_id }) => row_id)).toEqual([
    role,
    role,
    role,
  ]);
  expect(rows.slice(2, 4).map(({ row_id }) => row_id)).toEqual([lent, lent]);
});

it('where the owner is suspended, other roles are still given and taken, and members still go', async () => {
  await team.admin.query("update identity.people set status = 'suspended' where id = any ($1)", [
    [team.the('olga').id, team.the('otto').id],
  ]);
  expect(await team.said('adam', "change_member_role($1, 'viewer')", [team.the('mia').membership])).toBe('CHANGED');
  expect(await team.said('adam', 'revoke_role($1)', [(await team.grants('mia'))[0]])).toBe('REMOVED');
  expect(await team.said('adam', 'remove_member($1)', [team.the('max').membership])).toBe('REMOVED');
  expect(await team.said('moe', 'leave_organization()')).toBe('REMOVED');
  await team.admin.query("update identity.people set status = 'active' where id = any ($1)", [
    [team.the('olga').id, team.the('otto').id],
  ]);
  await reset('mia', 'member');
});
