// Changes of roles that meet: what is worked out and what is decided is what holds once both are done (AZ-04; F16). The
// second one is seen to wait; without turns it would have gone by what it read before.
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { refusal, withoutGuard } from '../support/actors.ts';
import { type Answer, Team } from './team.ts';

let team: Team;
let observer: pg.Client;

beforeAll(async () => {
  team = await Team.with({ olga: 'owner', otto: 'owner', adam: 'admin', bea: 'viewer' });
  observer = await team.db.connect('admin');
});

/** Everybody as at first, and no role but the built-in ones. */
async function asAtFirst(): Promise<void> {
  const roles = { olga: 'owner', otto: 'owner', adam: 'admin', bea: 'viewer' };
  for (const [name, role] of Object.entries(roles))
    await team.admin.query(
      `with given as (insert into access.membership_roles (organization_id, membership_id, role_id)
          select organization_id, $2, id from access.roles where organization_id = $1 and name = $3)
       delete from access.membership_roles where organization_id = $1 and membership_id = $2`,
      [team.organization, team.the(name).membership, role],
    );
  await team.admin.query('delete from access.roles where not built_in');
}
beforeEach(asAtFirst);

/** Waits until a connection waits for another, or has its answer. */
async function waits(client: pg.ClientBase, answer: Promise<unknown>): Promise<boolean> {
  let done = false;
  answer.finally(() => (done = true)).catch(() => {});
  const pid = (client as unknown as { processID: number }).processID;
  for (;;) {
    const { rows } = await observer.query(
      "select wait_event_type = 'Lock' as waiting from pg_stat_activity where pid = $1",
      [pid],
    );
    if (rows[0].waiting || done) return !done;
  }
}

type Step = (client: pg.ClientBase) => Promise<unknown>;

interface Met {
  /** SQLSTATE of the second's refusal, if it raised one. */
  readonly code: string;
  readonly second: Answer | undefined;
  readonly waited: boolean;
}

/** `first` is done but not committed when `second` begins; then both end. */
async function meet(first: [string, Step], second: [string, Step], isolation = 'read committed'): Promise<Met> {
  const clients = await Promise.all([first, second].map(() => team.app.pool.connect()));
  const [one, other] = clients as [pg.PoolClient, pg.PoolClient];
  try {
    for (const [i, [name]] of [first, second].entries()) {
      const client = clients[i] as pg.PoolClient;
      await client.query(`begin isolation level ${isolation}`);
      await team.app.open(client, team.the(name).credential);
    }
    await first[1](one);
    const answer = second[1](other) as Promise<Answer | undefined>;
    const waited = await waits(other, answer);
    await one.query('commit');
    const code = await refusal(answer);
    await other.query(code === 'no refusal' ? 'commit' : 'rollback');
    return { code, second: code === 'no refusal' ? await answer : undefined, waited };
  } finally {
    for (const client of clients) client.release();
  }
}

const call =
  (text: string, values: unknown[] = []): Step =>
  async (client) =>
    (await client.query(`select * from api.${text}`, values)).rows[0];

/** The same with SQL of an administrator, who asks nobody. */
async function meetInSql(first: string, second: string, isolation: string): Promise<string> {
  const [one, other] = await Promise.all([team.db.connect('admin'), team.db.connect('admin')]);
  try {
    await other.query(`begin isolation level ${isolation}`);
    await other.query('select 1 from access.roles limit 1');
    await one.query('begin');
    await one.query(first);
    const answer = other.query(second);
    await waits(other, answer);
    await one.query('commit');
    const code = await refusal(answer);
    await other.query(code === 'no refusal' ? 'commit' : 'rollback');
    return code;
  } finally {
    await Promise.all([one.end(), other.end()]);
  }
}

const withoutTurns = (attack: () => Promise<void>) =>
  withoutGuard(team.db, 'access_private.take_turn(uuid)', /insert into[\s\S]*turns \+ 1/, 'select 1', attack);

const owners = async () =>
  Number(
    (
      await team.admin.query(
        "select count(*) from access_private.held_permissions where organization_id = $1 and permission = 'organization.close'",
        [team.organization],
      )
    ).rows[0].count,
  );

describe('two roles that lose one permission at once leave it with nobody', () => {
  const lose = async (isolation: string) => {
    const ids = [];
    for (const name of ['One', 'Two']) {
      const { id } = await team.ask('olga', "create_role($1, '', '{audit.read}')", [name]);
      await team.ask('olga', 'grant_role($1, $2)', [team.the('bea').membership, id]);
      ids.push(id);
    }
    const taken = (id: unknown) =>
      `delete from access.role_permissions where role_id = '${id}' and permission = 'audit.read'`;
    const code = await meetInSql(taken(ids[0]), taken(ids[1]), isolation);
    if (code === '40001') await team.admin.query(taken(ids[1]));
    return { code, can: await team.can('bea', 'audit.read') };
  };

  it.each([
    ['read committed', 'no refusal'],
    ['repeatable read', '40001'],
  ])('%s', async (isolation, code) => {
    expect(await lose(isolation)).toEqual({ code, can: false });
  });

  it('and would leave it, did they not take turns', async () => {
    await withoutTurns(async () => {
      expect(await lose('read committed')).toEqual({ code: 'no refusal', can: true });
    });
  });

  it('through the API they take turns as well', async () => {
    const made = [];
    for (const name of ['One', 'Two']) {
      const { id } = await team.ask('olga', "create_role($1, '', '{audit.read}')", [name]);
      await team.ask('olga', 'grant_role($1, $2)', [team.the('bea').membership, id]);
      made.push(id);
    }
    const emptied = (id: unknown) => call("update_role($1, 1, null, null, '{}')", [id]);
    const { code, waited } = await meet(['olga', emptied(made[0])], ['otto', emptied(made[1])]);
    expect({ code, waited, can: await team.can('bea', 'audit.read') }).toEqual({
      code: 'no refusal',
      waited: true,
      can: false,
    });
  });
});

describe('nothing is handed on', () => {
  /** Olga puts into a role what only owners hold, while Adam gives the role to himself. */
  const widened = async (isolation?: string) => {
    const { id } = await team.ask('olga', "create_role('Wide', '', '{row.read}')");
    const met = await meet(
      ['olga', call("update_role($1, 1, null, null, '{row.read, organization.close}')", [id])],
      ['adam', call('grant_role($1, $2)', [team.the('adam').membership, id])],
      isolation,
    );
    return { answer: met.second?.reasons?.join(' ') ?? met.code, can: await team.can('adam', 'organization.close') };
  };

  /** Adam makes a role of what Olga takes from him at that moment. */
  const lost = async (isolation?: string) => {
    const met = await meet(
      ['olga', call("change_member_role($1, 'viewer')", [team.the('adam').membership])],
      ['adam', call("change_member_role($1, 'admin')", [team.the('bea').membership])],
      isolation,
    );
    return { answer: met.second?.reasons?.join(' ') ?? met.code, can: await team.can('bea', 'member.update') };
  };

  it('that a role is just being given', async () => {
    expect(await widened()).toEqual({ answer: 'NOT_HELD', can: false });
  });

  it('that the giver just loses', async () => {
    expect(await lost()).toEqual({ answer: 'NOT_PERMITTED', can: false });
  });

  it('in REPEATABLE READ, where the second one is to try again', async () => {
    expect(await widened('repeatable read')).toEqual({ answer: '40001', can: false });
    expect(await lost('repeatable read')).toEqual({ answer: '40001', can: false });
  });

  it('and would be, were the turn taken only by what is worked out afterwards', async () => {
    const guard = 'perform access_private.take_turn(access_private.acting_in());';
    await withoutGuard(team.db, 'access_private.take_turn_to(text)', guard, '', async () => {
      expect(await widened()).toEqual({ answer: '', can: true });
      expect(await lost()).toEqual({ answer: '', can: true });
    });
  });
});

describe('the last owner', () => {
  const grantOf = async (name: string) => String((await team.grants(name))[0]);
  /** Each owner gives up, or takes from the other, what only one of them may. */
  const ways: readonly [string, () => Promise<[Step, Step]>][] = [
    [
      'each revokes her own',
      async () => [call('revoke_role($1)', [await grantOf('olga')]), call('revoke_role($1)', [await grantOf('otto')])],
    ],
    [
      "each revokes the other's",
      async () => [call('revoke_role($1)', [await grantOf('otto')]), call('revoke_role($1)', [await grantOf('olga')])],
    ],
    [
      'each changes her own role',
      async () => [
        call("change_member_role($1, 'admin')", [team.the('olga').membership]),
        call("change_member_role($1, 'viewer')", [team.the('otto').membership]),
      ],
    ],
    [
      'one revokes, one changes',
      async () => [
        call('revoke_role($1)', [await grantOf('olga')]),
        call("change_member_role($1, 'admin')", [team.the('otto').membership]),
      ],
    ],
  ];

  it.each(ways)('stays when %s', async (_name, steps) => {
    for (const isolation of ['read committed', 'repeatable read']) {
      const [first, second] = await steps();
      const met = await meet(['olga', first], ['otto', second], isolation);
      expect(met.second?.reasons?.join(' ') ?? met.code).toMatch(
        isolation === 'read committed' ? /^(LAST_OWNER|NOT_PERMITTED)$/ : /^40001$/,
      );
      expect(await owners()).toBe(1);
      await asAtFirst();
    }
  });

  const sql = async (name: string) => `delete from access.membership_roles where id = '${await grantOf(name)}'`;

  it.each([
    ['read committed', 'LASTO'],
    ['repeatable read', '40001'],
  ])('stays when two administrators delete both with SQL, %s', async (isolation, code) => {
    expect(await meetInSql(await sql('olga'), await sql('otto'), isolation)).toBe(code);
    expect(await owners()).toBe(1);
  });

  it('stays when her role, her membership or her person is deleted with SQL', async () => {
    const { organization, admin } = team;
    expect(
      await refusal(
        admin.query("delete from access.roles where organization_id = $1 and name = 'owner'", [organization]),
      ),
    ).toBe('LASTO');
    await admin.query(await sql('otto'));
    expect(
      await refusal(admin.query('delete from access.memberships where id = $1', [team.the('olga').membership])),
    ).toBe('LASTO');
    expect(await refusal(admin.query('delete from identity.people where id = $1', [team.the('olga').id]))).toBe(
      'LASTO',
    );
    expect(
      await refusal(
        admin.query("update access.membership_roles set valid_until = now() + '1 day' where id = $1", [
          await grantOf('olga'),
        ]),
      ),
    ).toBe('LASTO');
  });

  it('would go, did they not take turns', async () => {
    await withoutTurns(async () => {
      expect(await meetInSql(await sql('olga'), await sql('otto'), 'read committed')).toBe('no refusal');
    });
    expect(await owners()).toBe(0);
  });
});
