// Making roles: out of what one holds oneself, without an end, and under a name of their own (AZ-02, AZ-04).
import { beforeAll, describe, expect, it } from 'vitest';
import { refusal, withoutGuard } from '../support/actors.ts';
import { Team } from './team.ts';

let team: Team;
let foreign: { role: string; membership: string; grant: string };

beforeAll(async () => {
  team = await Team.with({ olga: 'owner', adam: 'admin', mia: 'member', vic: 'viewer', lena: '' });
  const nils = await team.app.person('nils');
  foreign = (
    await team.admin.query(
      'select role_id as role, membership_id as membership, id as grant from access.membership_roles where organization_id = $1',
      [nils.organization],
    )
  ).rows[0];
});

const everything = async () =>
  (
    await team.admin.query(
      `select (select jsonb_agg(r order by r.id) from access.roles r) as roles,
         (select jsonb_agg(r order by r.role_id, r.permission) from access.role_permissions r) as permissions,
         (select jsonb_agg(r order by r.id) from access.membership_roles r) as grants`,
    )
  ).rows[0];

const refusals = async () =>
  Number((await team.admin.query("select count(*) from audit.events where action = 'access.refuse'")).rows[0].count);

const CALLS = (role: string, membership: string, grant: string): [string, unknown[]][] => [
  ['create_role($1)', ['Mine']],
  ['update_role($1, 1, $2)', [role, 'Mine']],
  ['delete_role($1)', [role]],
  ['grant_role($1, $2)', [membership, role]],
  ['revoke_role($1)', [grant]],
  ["change_member_role($1, 'viewer')", [membership]],
];

describe('who may', () => {
  it('members and viewers change no role and no grant, and each try is recorded', async () => {
    const { id } = await team.ask('olga', "create_role('Nothing much')");
    const [grant] = await team.grants('mia');
    const before = await everything();
    const recorded = await refusals();
    for (const name of ['mia', 'vic', 'lena'])
      for (const [call, values] of CALLS(String(id), team.the('vic').membership, String(grant)))
        expect(await team.said(name, call, values), `${name}: ${call}`).toBe('NOT_PERMITTED');
    expect(await everything()).toEqual(before);
    expect(await refusals()).toBe(recorded + 18);
    for (const [call, values] of CALLS(String(id), team.the('vic').membership, String(grant)))
      expect(await refusal(team.app.rows(null, `select api.${call}`, values)), call).toBe('42501');
  });

  it('what is of another organization is not there, like what is nowhere (AZ-01, AZ-05)', async () => {
    const before = await everything();
    const nowhere = { role: crypto.randomUUID(), membership: crypto.randomUUID(), grant: crypto.randomUUID() };
    const olga = team.the('olga').membership;
    const viewer = await team.role('viewer');
    for (const { role, membership, grant } of [foreign, nowhere]) {
      expect(await team.said('olga', "update_role($1, 1, 'Mine')", [role])).toBe('NOT_FOUND');
      expect(await team.said('olga', 'delete_role($1)', [role])).toBe('NOT_FOUND');
      expect(await team.said('olga', 'grant_role($1, $2)', [membership, viewer])).toBe('NOT_FOUND');
      expect(await team.said('olga', 'grant_role($1, $2)', [olga, role])).toBe('ROLE_UNKNOWN');
      expect(await team.said('olga', 'revoke_role($1)', [grant])).toBe('NOT_FOUND');
      expect(await team.said('olga', "change_member_role($1, 'viewer')", [membership])).toBe('NOT_FOUND');
    }
    expect(await everything()).toEqual(before);
  });

  it('built-in roles are changed by nobody', async () => {
    for (const name of ['owner', 'admin', 'member', 'viewer']) {
      const id = await team.role(name);
      expect(await team.said('olga', "update_role($1, 1, null, null, '{row.read}')", [id])).toBe('BUILT_IN');
      expect(await team.said('olga', 'delete_role($1)', [id])).toBe('BUILT_IN');
    }
    expect(await team.can('vic', 'member.read')).toBe(true);
  });
});

describe('out of what one holds', () => {
  const escalate = async () => {
    let can: unknown;
    await team.tried('adam', async (ask) => {
      const { id } = await ask("api.create_role('Climber', '', '{organization.close}')");
      await ask('api.grant_role($1, $2)', [team.the('adam').membership, id]);
      can = await ask("request.can('organization.close') as can");
    });
    return can;
  };

  it('an admin makes no role that closes the organization', async () => {
    expect(await escalate()).toEqual({ can: false });
    expect(await team.said('adam', "create_role('Climber', '', '{organization.close, row.read}')")).toBe('NOT_HELD');
    const none = 'h.permission = p.permission';
    await withoutGuard(team.db, 'access_private.not_held(text[], tstzrange)', none, 'true', async () => {
      expect(await escalate()).toEqual({ can: true });
    });
  });

  it('nor changes one that permits more than hers, in any way: its name, what it permits, its end', async () => {
    const { id } = await team.ask('olga', "create_role('Closer', '', '{organization.close, row.read}')");
    expect(await team.said('adam', "update_role($1, 1, 'Closed')", [id])).toBe('NOT_HELD');
    expect(await team.said('adam', "update_role($1, 1, null, null, '{row.read}')", [id])).toBe('NOT_HELD');
    expect(await team.said('adam', 'delete_role($1)', [id])).toBe('NOT_HELD');
    expect(await team.said('olga', "update_role($1, 1, null, null, '{row.read}')", [id])).toBe('CHANGED');
    expect(await team.said('adam', "update_role($1, 2, 'Reader', null, '{row.read, audit.read}')", [id])).toBe(
      'CHANGED',
    );
    expect(await team.said('adam', 'delete_role($1)', [id])).toBe('REMOVED');
  });

  it('nor out of what is lent to one: a role has no end', async () => {
    const admin = await team.role('admin');
    const lent = await team.ask('olga', "grant_role($1, $2, null, clock_timestamp() + '1 hour')", [
      team.the('vic').membership,
      admin,
    ]);
    expect(await team.said('vic', "create_role('For ever', '', '{audit.read}')")).toBe('NOT_HELD');
    expect(await team.said('vic', "create_role('For ever', '', '{row.read}')")).toBe('CREATED');
    await team.ask('olga', 'revoke_role($1)', [lent.id]);
  });
});

describe('under a name', () => {
  it.each([
    ['', 'NAME_INVALID'],
    ['   ', 'NAME_INVALID'],
    ['x'.repeat(101), 'NAME_INVALID'],
    ['Reader\u202e', 'NAME_INVALID'],
    ['Re\u200bader', 'NAME_INVALID'],
    ['Owner', 'NAME_TAKEN'],
    [' o w n e r ', 'NAME_TAKEN'],
    ['\u041ewner', 'NAME_TAKEN'],
    ['Adm\u0456n', 'NAME_TAKEN'],
    ['\uff41\uff44\uff4d\uff49\uff4e', 'NAME_TAKEN'],
    ['M\u00e9mb\u00e9r!', 'NAME_TAKEN'],
    ['v1ewer', 'NAME_TAKEN'],
    ['ward NURSE', 'NAME_TAKEN'],
    ['  Ward\u00a0 nurse ', 'NAME_TAKEN'],
    ['Ward nurses', 'CREATED'],
    ['Owner of the keys', 'CREATED'],
    ['\u041c\u0435\u0434\u0441\u0435\u0441\u0442\u0440\u0430', 'CREATED'],
  ])('%j: %s', async (name, answer) => {
    const first = await team.said('olga', "create_role('Ward nurse')");
    expect(['CREATED', 'NAME_TAKEN']).toContain(first);
    expect(await team.said('olga', 'create_role($1)', [name])).toBe(answer);
  });

  it('that is trimmed, may change its letters, and is free again once the role is gone', async () => {
    const { id } = await team.ask('olga', "create_role('  Porter ')");
    expect((await team.admin.query('select name from access.roles where id = $1', [id])).rows[0].name).toBe('Porter');
    expect(await team.said('olga', "update_role($1, 1, 'PORTER')", [id])).toBe('CHANGED');
    expect(await team.said('olga', "update_role($1, 2, 'ward nurse')", [id])).toBe('NAME_TAKEN');
    expect(await team.said('olga', 'delete_role($1)', [id])).toBe('REMOVED');
    expect(await team.said('olga', "create_role('Porter')")).toBe('CREATED');
  });

  it('and with permissions that are there, and a description that can be shown', async () => {
    expect(await team.said('olga', "create_role('Odd', '', '{no.such}')")).toBe('PERMISSION_UNKNOWN');
    expect(await team.said('olga', "create_role('Odd', '', array[null])")).toBe('PERMISSION_UNKNOWN');
    expect(await team.said('olga', 'create_role($1, $2)', ['Odd', 'x'.repeat(1001)])).toBe('VALUE_INVALID');
    expect(await team.said('olga', 'create_role($1, $2)', ['Odd', 'line\u202e'])).toBe('VALUE_INVALID');
    expect(await team.said('olga', 'create_role($1, $2, $3)', ['', null, null])).toBe(
      'NAME_INVALID VALUE_INVALID PERMISSION_UNKNOWN',
    );
  });
});

describe('changed', () => {
  it('by who read its newest version; null leaves something as it is', async () => {
    const { id } = await team.ask('olga', "create_role('Clerk', 'Writes.', '{row.read, row.create}')");
    await team.ask('olga', 'grant_role($1, $2)', [team.the('lena').membership, id]);
    expect(await team.ask('olga', "update_role($1, 1, 'Scribe')", [id])).toMatchObject({
      outcome: 'CHANGED',
      version: 2,
    });
    for (const version of [1, 3, null])
      expect(await refusal(team.ask('olga', "update_role($1, $2, 'Late')", [id, version]))).toBe('STALE');
    await team.app.as(team.the('lena').credential, async (client) => {
      const can = async (permission: string) =>
        (await client.query('select request.can($1) as can', [permission])).rows[0].can;
      expect([await can('row.create'), await can('row.delete')]).toEqual([true, false]);
      await team.ask('olga', "update_role($1, 2, null, null, '{row.read, row.delete, row.read}')", [id]);
      // The next statement of an open transaction (AZ-04).
      expect([await can('row.create'), await can('row.delete')]).toEqual([false, true]);
      expect(await team.said('olga', 'delete_role($1)', [id])).toBe('REMOVED');
      expect([await can('row.read'), await can('row.delete')]).toEqual([false, false]);
    });
    expect(await team.grants('lena')).toEqual([]);
  });

  it('as the plan has room', async () => {
    await team.admin.query(
      "update access.plan_limits set most = (select count(*) from access.roles where organization_id = $1 and not built_in) where plan = 'default' and what = 'roles'",
      [team.organization],
    );
    expect(await team.said('olga', "create_role('One too many')")).toBe('LIMIT_REACHED');
    await team.admin.query("update access.plan_limits set most = 200 where plan = 'default' and what = 'roles'");
    expect(await team.said('olga', "create_role('One too many')")).toBe('CREATED');
  });
});
