// Members: their names, removing them, leaving; and that an organization keeps an owner whatever two people do at once.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { actIn, joined, membership } from './invited.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
});

const REMOVE = 'select * from api.remove_member($1)';
const LEAVE = 'select * from api.leave_organization()';
const refused = (reason: string) => ({ outcome: 'REFUSED', reasons: [reason] });
const DONE = { outcome: 'REMOVED', reasons: [] };
const idOf = (person: Person) => membership(admin, ada.organization, person);
const remove = async (by: Person, person: Person) => app.call(by.credential, REMOVE, [await idOf(person)]);

describe('removing', () => {
  it('needs the permission, and is refused for who holds more, for others’ members and for the last owner', async () => {
    const [eve, bob] = [await joined(app, ada, 'eve', 'admin'), await joined(app, ada, 'bob', 'viewer')];
    const other = await app.person('other');
    expect(await remove(bob, eve)).toEqual(refused('NOT_PERMITTED'));
    expect(await remove(eve, ada)).toEqual(refused('OUTRANKED'));
    expect(await remove(other, bob)).toEqual(refused('NOT_FOUND'));
    expect(await remove(ada, ada)).toEqual(refused('LAST_OWNER'));
    expect(await app.call(ada.credential, REMOVE, [null])).toEqual(refused('NOT_FOUND'));
    expect(await remove(eve, bob)).toEqual(DONE);
    await withoutGuard(db, 'api.remove_member(uuid)', /when not access_private\.outranks[^\n]*/, '', async () => {
      await withoutGuard(db, 'api.remove_member(uuid)', /when not access_private\.has_owner[^\n]*/, '', async () => {
        expect(await refusal(remove(eve, ada))).toBe('LASTO');
      });
    });
  });

  it('ends roles, sessions in the organization and what was held, in the next statement', async () => {
    const bob = await joined(app, ada, 'bob');
    await app.as(bob.credential, async (client) => {
      const can = async () => (await client.query("select request.can('row.read') as may")).rows[0].may;
      expect(await can()).toBe(true);
      expect(await remove(ada, bob)).toEqual(DONE);
      expect(await can()).toBe(false);
    });
    expect(await refusal(app.rows(bob.credential, 'select'))).toBe('AUTHN');
    const left = await admin.query(
      'select from access_private.held_permissions where person_id = $1 and organization_id = $2',
      [bob.id, ada.organization],
    );
    expect(left.rowCount).toBe(0);
    const { rows } = await admin.query(
      "select actor_id, details ->> 'person' as person from audit.events where action = 'member.remove' order by occurred_at desc limit 1",
    );
    expect(rows).toEqual([{ actor_id: ada.id, person: bob.id }]);
    expect((await app.signIn(bob.email, bob.tag)).organization_id).not.toBe(ada.organization);
  });
});

describe('leaving', () => {
  it('needs no permission, ends this session, and is refused to the last owner', async () => {
    const bob = await joined(app, ada, 'bob', 'viewer');
    expect(await app.call(bob.credential, LEAVE)).toEqual(DONE);
    expect(await refusal(app.rows(bob.credential, LEAVE))).toBe('AUTHN');
    expect(await app.call(ada.credential, LEAVE)).toEqual(refused('LAST_OWNER'));
    expect(await idOf(ada)).toBeDefined();
  });
});

describe('names', () => {
  const seen = async (by: Person, of: Person) =>
    app.call<{ name: string | null; email: string | null }>(
      by.credential,
      `with m as (select ('(${ada.organization},${await idOf(of)},${of.id},2026-01-01)')::access.memberships as m)
         select api.memberships_display_name(m) as name, api.memberships_email(m) as email from m`,
    );

  it('are for members, and addresses for who may contact them; everybody sees her own', async () => {
    const bob = await joined(app, ada, 'bob', 'viewer');
    expect(await seen(ada, bob)).toEqual({ name: 'bob', email: bob.email });
    expect(await seen(bob, ada)).toEqual({ name: 'ada', email: null });
    expect(await seen(bob, bob)).toEqual({ name: 'bob', email: bob.email });
    const listed = 'select api.memberships_display_name(m) as name from access.memberships m order by 1';
    expect((await app.rows(bob.credential, listed)).map(({ name }) => name)).toContain('ada');
  });

  it('are told nobody else, whatever row is made up', async () => {
    const other = await app.person('other');
    const none = { name: null, email: null };
    expect(await seen(other, ada)).toEqual(none);
    // Her own membership, with somebody else's name on it.
    const own = await membership(admin, other.organization, other);
    const forged = `select api.memberships_display_name(m) as name, api.memberships_email(m) as email
      from (select ('(${ada.organization},${own},${ada.id},2026-01-01)')::access.memberships as m) f`;
    expect(await app.call(other.credential, forged)).toEqual({ name: 'other', email: other.email });
    await admin.query("insert into access.roles (organization_id, name) values ($1, 'nothing')", [ada.organization]);
    expect(await seen(await joined(app, ada, 'dan', 'nothing'), ada)).toEqual(none);
  });
});

describe('two owners at once', () => {
  /** What an owner does that could leave the organization without one. */
  const ACTS = {
    'removes the other': async (_me: Person, other: Person) => [REMOVE, [await idOf(other)]] as const,
    leaves: async () => [LEAVE, []] as const,
    'takes the lower role': async (me: Person) =>
      ['select * from api.change_member_role($1, $2)', [await idOf(me), 'viewer']] as const,
  };
  type Act = keyof typeof ACTS;
  const names = Object.keys(ACTS) as Act[];

  const owners = async () =>
    (
      await admin.query(
        `select m.person_id from access.memberships m join access.membership_roles mr on mr.membership_id = m.id
           join access.roles r on r.id = mr.role_id and r.name = 'owner' where m.organization_id = $1`,
        [ada.organization],
      )
    ).rowCount;

  /** Both own it again, each in a session of her own. */
  async function again(person: Person): Promise<Person> {
    await admin.query(
      `with joined as (insert into access.memberships (organization_id, person_id) values ($1, $2) on conflict do nothing)
       select`,
      [ada.organization, person.id],
    );
    await admin.query(
      `with member as (select id from access.memberships where organization_id = $1 and person_id = $2)
       insert into access.membership_roles (organization_id, membership_id, role_id)
         select $1, m.id, r.id from member m, access.roles r
         where r.organization_id = $1 and r.name = 'owner' and not exists (
           select from access.membership_roles x where x.membership_id = m.id and x.role_id = r.id)`,
      [ada.organization, person.id],
    );
    return actIn(app, person, ada.organization);
  }

  async function round(one: Act, two: Act, isolation: string): Promise<string[]> {
    ada = await again(ada);
    const bob = await again(second);
    const acts = [
      [ada, await ACTS[one](ada, bob)],
      [bob, await ACTS[two](bob, ada)],
    ] as const;
    return Promise.all(
      acts.map(async ([{ credential }, [text, values]]) => {
        const client = await app.pool.connect();
        try {
          await client.query(`begin isolation level ${isolation}`);
          await app.open(client, credential);
          const { rows } = await client.query<{ outcome: string; reasons: string[] }>(text, [...values]);
          await client.query('commit');
          return `${rows[0]?.outcome} ${rows[0]?.reasons}`;
        } catch (error) {
          await client.query('rollback');
          return String((error as { code?: string }).code);
        } finally {
          client.release();
        }
      }),
    );
  }

  let second: Person;
  beforeAll(async () => {
    second = await app.person('second');
  });

  it.each(['read committed', 'repeatable read'])(
    'who remove each other leave one: 20 rounds of %s',
    async (isolation) => {
      const left = [];
      for (let i = 0; i < 20; i += 1) {
        await round('removes the other', 'removes the other', isolation);
        left.push(await owners());
      }
      expect(left).toEqual(Array.from({ length: 20 }, () => 1));
    },
  );

  it('leave one whatever each of them does', async () => {
    for (const one of names)
      for (const two of names)
        for (const isolation of ['read committed', 'repeatable read']) {
          const said = await round(one, two, isolation);
          expect(await owners(), `${one}, ${two}, ${isolation}: ${said}`).toBe(1);
        }
  });

  it('would leave none if they did not take turns', async () => {
    await admin.query('alter table access.membership_roles disable trigger _600_keep_owner_gone');
    const turn = "access_private.take_turn_to('member.remove')";
    await withoutGuard(db, 'api.remove_member(uuid)', turn, "request.can('member.remove')", async () => {
      await withoutGuard(
        db,
        'api.remove_member(uuid)',
        'perform access_private.end_membership',
        'perform pg_sleep(0.5); perform access_private.end_membership',
        async () => {
          expect(await round('removes the other', 'removes the other', 'read committed')).toEqual([
            'REMOVED ',
            'REMOVED ',
          ]);
          expect(await owners()).toBe(0);
        },
      );
    });
    await admin.query('alter table access.membership_roles enable trigger _600_keep_owner_gone');
  });
});
