// What is worked out when roles and grants change is what they say, whatever changes them: two hundred random changes, by
// functions and by SQL, compared with the same worked out here (AZ-04).
import { isDeepStrictEqual } from 'node:util';
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { refusal } from '../support/actors.ts';
import { random, SEED } from '../support/random.ts';
import { Team } from './team.ts';

let team: Team;
let admin: pg.Client;
let pool: pg.Pool;

beforeAll(async () => {
  team = await Team.with({ olga: 'owner', omar: 'owner', pia: 'admin', quin: 'member', ria: 'viewer', sam: '' });
  admin = team.admin;
  pool = team.db.pool('admin', { max: 6 });
});

type Window = readonly [number, number];

/** Windows that meet or overlap, as one. */
function union(windows: readonly Window[]): Window[] {
  const merged: Window[] = [];
  for (const [from, until] of [...windows].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1);
    if (last && from <= last[1]) merged[merged.length - 1] = [last[0], Math.max(last[1], until)];
    else merged.push([from, until]);
  }
  return merged;
}

const SECONDS = (column: string) => `extract(epoch from ${column})::float8`;

/** What roles and grants say, and what was worked out: windows by organization, person and permission. */
async function both(): Promise<{ said: Record<string, string>; workedOut: Record<string, string> }> {
  const [grants, permitted, held] = (await admin.query(
    `select g.organization_id || ' ' || m.person_id as who, g.role_id as role, ${SECONDS('g.valid_from')} as from, ${SECONDS('g.valid_until')} as until
       from access.membership_roles g join access.memberships m on m.organization_id = g.organization_id and m.id = g.membership_id;
     select role_id as role, array_agg(permission) as permissions from access.role_permissions group by role_id;
     select organization_id || ' ' || person_id || ' ' || permission as key,
         array(select array[${SECONDS('lower(w)')}, ${SECONDS('upper(w)')}] from unnest(valid) as w order by w) as windows
       from access_private.held_permissions`,
  )) as unknown as pg.QueryResult[];
  const permissions = new Map<string, string[]>(permitted?.rows.map((row) => [row.role, row.permissions]));
  const windows = new Map<string, Window[]>();
  for (const { who, role, from, until } of grants?.rows ?? [])
    for (const permission of permissions.get(role) ?? []) {
      const key = `${who} ${permission}`;
      windows.set(key, [...(windows.get(key) ?? []), [from, until]]);
    }
  const text = (all: readonly Window[]) => all.map(([from, until]) => `${from} to ${until}`).join(', ');
  return {
    said: Object.fromEntries([...windows].map(([key, all]) => [key, text(union(all))])),
    workedOut: Object.fromEntries((held?.rows ?? []).map(({ key, windows }) => [key, text(windows)])),
  };
}

async function expectTheSame(message = ''): Promise<void> {
  const { said, workedOut } = await both();
  expect(workedOut, message).toEqual(said);
}

/** Whose and which are held. */
const keys = async () => Object.keys((await both()).workedOut);

const PERMISSIONS = ['row.read', 'row.create', 'audit.read', 'member.update', 'role.update', 'organization.close'];
const HOUR = 3_600_000;

/** One random change: by Olga through the API or by an administrator; by somebody else through the API only. */
async function change(pick: (below: number) => number, only?: string): Promise<string> {
  const one = <T>(of: readonly T[]): T => of[pick(of.length)] as T;
  const some = () => PERMISSIONS.filter(() => pick(2) === 0);
  const hour = () => new Date(Date.UTC(2099, 0, 1) + pick(20) * HOUR).toISOString();
  const memberships = ['pia', 'quin', 'ria', 'sam'].map((name) => team.the(name).membership);
  const [roles = [], grants = []] = (
    (await pool.query(
      `select id from access.roles where not built_in order by id;
       select id from access.membership_roles where membership_id in ('${memberships.join("', '")}') order by id`,
    )) as unknown as pg.QueryResult[]
  ).map(({ rows }) => rows.map(({ id }): string => id));
  const { organization } = team;
  const api = async (call: string, values: unknown[]) => `${call}: ${await team.said(only ?? 'olga', call, values)}`;
  const sql = async (text: string, values: unknown[] = []) => `${text}: ${(await pool.query(text, values)).rowCount}`;
  const ways: (() => Promise<string>)[] = [
    () => api('create_role($1, $2, $3)', [`Role ${pick(1e9)}`, '', some()]),
    () => api('grant_role($1, $2, $3, $4)', [one(memberships), one(roles), hour(), hour()]),
    () => api('grant_role($1, $2, $3)', [one(memberships), one(roles), hour()]),
    () => api('revoke_role($1)', [one(grants)]),
    () => api('change_member_role($1, $2)', [one(memberships), one(['admin', 'member', 'viewer'])]),
    async () => {
      const role = one(roles);
      const { rows } = await pool.query('select version from access.roles where id = $1', [role]);
      return rows.length === 0
        ? 'none'
        : await api('update_role($1, $2, null, null, $3)', [role, rows[0].version, some()]).catch(({ code }) =>
            String(code),
          );
    },
    () =>
      pick(4) === 0 ? api('delete_role($1)', [one(roles)]) : api('grant_role($1, $2)', [one(memberships), one(roles)]),
    // A statement that touches many.
    () =>
      sql(
        'update access.membership_roles set valid_until = $2 where organization_id = $1 and valid_until > $2 and granted_by is not null and valid_from < $2',
        [organization, hour()],
      ),
    () =>
      sql('update access.membership_roles set role_id = $1 where id = $2 and granted_by is not null', [
        one(roles),
        one(grants),
      ]),
    () =>
      sql('update access.membership_roles set membership_id = $1 where id = $2 and granted_by is not null', [
        one(memberships),
        one(grants),
      ]),
    () =>
      sql(
        'update access.role_permissions set permission = $1 where role_id = $2 and permission = $3 and not exists (select from access.role_permissions where role_id = $2 and permission = $1)',
        [one(PERMISSIONS), one(roles), one(PERMISSIONS)],
      ),
    () =>
      sql('delete from access.role_permissions where role_id = any ($1) and permission = $2', [
        roles.filter(() => pick(2) === 0),
        one(PERMISSIONS),
      ]),
    () =>
      sql(
        `with gone as (delete from access.role_permissions where role_id = $1)
         insert into access.membership_roles (organization_id, membership_id, role_id, granted_by) select $2, $3, $4, $5`,
        [one(roles), organization, one(memberships), one(roles), team.the('olga').id],
      ),
    async () => {
      const membership = one(memberships);
      await pool.query(`begin; delete from access.memberships where id = '${membership}'; rollback`);
      return 'a deletion that is taken back';
    },
    () => sql('delete from access.roles where id = $1', [pick(3) === 0 ? one(roles) : null]),
  ];
  // There is always something to choose from.
  if (roles.length < 3) return await (ways[0] as () => Promise<string>)();
  return await one(only === undefined ? ways : ways.slice(0, 7))();
}

it('after each of two hundred random changes', async () => {
  const pick = random(SEED);
  const done: string[] = [];
  for (let step = 1; step <= 200; step += 1) {
    done.push(await change(pick));
    await expectTheSame(`seed ${SEED}, step ${step}: ${done.at(-1)}`);
  }
  expect(new Set(done.map((one) => one.split('(')[0])).size).toBeGreaterThan(8);
}, 60_000);

it('after changes of several at once, which wait for one another and never for each other', async () => {
  const seen: string[] = [];
  const busy = async (name: string, seed: number) => {
    const pick = random(seed);
    for (let step = 0; step < 12; step += 1) seen.push(await change(pick, name).catch((error) => String(error.code)));
  };
  const names = ['olga', 'omar', 'olga', 'omar', 'olga', 'omar'];
  await Promise.all(names.map((name, i) => busy(name, i)));
  // Two may choose the same thing; but none is a victim of a deadlock.
  expect(seen.filter((one) => !/^\S+\(.*\): \S|^STALE$|^none$/.test(one))).toEqual([]);
  await expectTheSame();
});

it('would not be so without each of the triggers', async () => {
  const { rows } = await admin.query(
    "select tgrelid::regclass::text as relation, tgname as name from pg_trigger where tgname like '\\_5_0\\_work\\_out%' order by 1, 2",
  );
  const { id: role } = await team.ask('olga', "create_role('One', '', '{audit.read}')");
  const { id: empty } = await team.ask('olga', "create_role('Two')");
  const ria = team.the('ria').membership;
  const sam = team.the('sam').membership;
  await admin.query('delete from access.membership_roles where membership_id = any ($1)', [[ria, sam]]);
  const { id: grant } = await team.ask('olga', 'grant_role($1, $2)', [ria, role]);
  await team.ask('olga', 'grant_role($1, $2)', [sam, empty]);
  const toSam = `update access.membership_roles set membership_id = '${sam}' where id = '${grant}'`;
  const toEmpty = `update access.role_permissions set role_id = '${empty}' where role_id = '${role}'`;
  const toAnother = `with lou as (insert into identity.people (id, status) values (platform.uuid_v7(), 'active') returning id)
    update access.memberships set person_id = lou.id from lou where memberships.id = '${ria}'`;
  const changes: Record<string, string> = {
    'access.memberships _500_work_out_changed': toAnother,
    'access.memberships _510_work_out_left': toAnother,
    'access.memberships _500_work_out_gone': `delete from access.memberships where id = '${ria}'`,
    'access.membership_roles _500_work_out_new': `insert into access.membership_roles (organization_id, membership_id, role_id) values ('${team.organization}', '${sam}', '${role}')`,
    'access.membership_roles _500_work_out_changed': toSam,
    'access.membership_roles _510_work_out_left': toSam,
    'access.membership_roles _500_work_out_gone': `delete from access.membership_roles where id = '${grant}'`,
    'access.role_permissions _500_work_out_new': `insert into access.role_permissions values ('${team.organization}', '${role}', 'key.read')`,
    'access.role_permissions _500_work_out_changed': toEmpty,
    'access.role_permissions _510_work_out_left': toEmpty,
    'access.role_permissions _500_work_out_gone': `delete from access.role_permissions where role_id = '${role}'`,
  };
  expect(rows.map(({ relation, name }) => `${relation} ${name}`).sort()).toEqual(Object.keys(changes).sort());
  for (const [trigger, sql] of Object.entries(changes)) {
    const [relation, name] = trigger.split(' ');
    for (const weakened of [false, true]) {
      await admin.query('begin');
      if (weakened) await admin.query(`alter table ${relation} disable trigger ${name}`);
      await admin.query(sql);
      const { said, workedOut } = await both();
      const same = isDeepStrictEqual(said, workedOut);
      await admin.query('rollback');
      expect(same, `${trigger}, ${weakened ? 'without' : 'with'} it`).toBe(!weakened);
    }
  }
});

it('and when members leave, and people and organizations go', async () => {
  await admin.query('delete from access.memberships where id = $1', [team.the('quin').membership]);
  await expectTheSame();
  await admin.query('update access.memberships set person_id = $1 where id = $2', [
    team.the('quin').id,
    team.the('ria').membership,
  ]);
  await expectTheSame();
  expect((await keys()).some((key) => key.includes(team.the('ria').id) && key.startsWith(team.organization))).toBe(
    false,
  );
  await admin.query('delete from access.organizations where id = $1', [team.organization]);
  await expectTheSame();
});

it('and when tables are emptied, which no row tells; as long as there are organizations, none loses its owners so', async () => {
  for (const table of ['access.membership_roles', 'access.memberships cascade', 'access.roles cascade'])
    expect(await refusal(admin.query(`truncate ${table}`)), table).toBe('LASTO');
  expect((await keys()).length).toBeGreaterThan(0);
  await admin.query('begin; truncate access.role_permissions');
  expect(await keys()).toEqual([]);
  await admin.query('rollback; begin; truncate access.organizations cascade');
  expect(await keys()).toEqual([]);
  await admin.query('rollback');
});
