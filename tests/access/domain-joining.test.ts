// Joining by address: whom it lets in, as what, and who stays outside.
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { Application, type Person, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { type Added, DomainJobs } from './domain-jobs.ts';
import { accept, invited } from './invited.ts';

const JOIN = 'access_private.join_by_address(uuid)';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let jobs: DomainJobs;
let ada: Person;
let number = 0;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  jobs = new DomainJobs(db, admin);
  ada = await app.person('ada');
  for (const domain of ['corp.example', 'Bücher.example']) await own(domain);
  // As a change of address does it, for somebody who has an account already.
  await admin.query(`
    create function public.address_proved(person uuid) returns uuid[] language sql security definer as 'select access_private.join_by_address($1)';
    alter function public.address_proved(uuid) owner to safetypin_definer;
    grant execute on function public.address_proved(uuid) to safetypin_anonymous`);
});

async function own(domain: string): Promise<Added> {
  const added = await app.call<Added & pg.QueryResultRow>(ada.credential, 'select * from api.add_domain($1)', [domain]);
  await jobs.note(ada, added.id, [added.challenge_value]);
  return added;
}

const set = (role: string | null) =>
  app.call<{ outcome: string; reasons: string[] }>(ada.credential, 'select * from api.change_setting($1, $2)', [
    'domain.join_role',
    JSON.stringify(role),
  ]);

beforeEach(() => set('viewer'));

const fresh = () => {
  number += 1;
  return `somebody-${number}@corp.example`;
};

/** Proves an address with a new account; gives its role in Ada's organization, undefined when not a member. */
async function proves(email: string): Promise<string | undefined> {
  await app.register(email, 'Somebody', null);
  await verify(email);
  return newestRole();
}

async function verify(email: string): Promise<void> {
  const mail = (await app.mails()).find(({ variables }) => variables.token);
  expect(mail?.recipient.split('@')[0]).toBe(email.split('@')[0]?.toLowerCase());
  const token = Buffer.from(mail?.variables.token ?? '', 'base64url');
  expect(await app.call(null, 'select api_steps.verify_email($1) as outcome', [token])).toEqual({
    outcome: 'VERIFIED',
  });
}

/** Of the newest account. */
const newest = async () =>
  (await admin.query<{ id: string }>('select id from identity.people order by id desc limit 1')).rows[0]?.id;

async function newestRole(): Promise<string | undefined> {
  const { rows } = await admin.query<{ name: string }>(
    `select string_agg(r.name, ',') as name from access.memberships m
       left join access.membership_roles mr on mr.organization_id = m.organization_id and mr.membership_id = m.id
       left join access.roles r on r.organization_id = mr.organization_id and r.id = mr.role_id
      where m.organization_id = $1 and m.person_id = $2 group by m.id`,
    [ada.organization, await newest()],
  );
  return rows[0]?.name;
}

const lastRefusal = async () =>
  (
    await admin.query<{ reasons: string[] }>(
      "select details -> 'reasons' as reasons from audit.events where action = 'access.refuse' and details ->> 'what' = 'domain.join' and organization_id = $1 order by id desc limit 1",
      [ada.organization],
    )
  ).rows[0]?.reasons;

const members = async () =>
  (
    await admin.query<{ n: number }>('select count(*)::int as n from access.memberships where organization_id = $1', [
      ada.organization,
    ])
  ).rows[0]?.n;

describe('who proves an address at a domain of the organization', () => {
  it('does not join while nobody chose a role; then with it, and that is recorded', async () => {
    await set(null);
    expect(await proves(fresh())).toBe(undefined);
    await set('viewer');
    expect(await proves('Somebody.Else@Corp.EXAMPLE')).toBe('viewer');
    const { rows } = await admin.query(
      "select actor_id, details ->> 'role' is not null as role from audit.events where action = 'member.join' and organization_id = $1",
      [ada.organization],
    );
    expect(rows).toEqual([{ actor_id: await newest(), role: true }]);
  });

  it('is at that very domain: not under it, not above it, not one that looks like it', async () => {
    for (const email of [
      'a@mail.corp.example',
      'b@notcorp.example',
      'c@corp.example.net',
      'd@cоrp.example',
      'e@corp.example.example',
    ]) {
      expect(await proves(email), email).toBe(undefined);
    }
    expect(await proves('f@bücher.example')).toBe('viewer');
    expect(await proves('g@xn--bcher-kva.example')).toBe('viewer');
    // DNS has no capital letters: those of other alphabets are not guessed.
    expect(await proves('h@BÜCHER.example')).toBe(undefined);
  });

  it('does not join by a domain that is not proved any more, though no job ran', async () => {
    const { id } = await own('lapsed.example');
    expect(await proves('one@lapsed.example')).toBe('viewer');
    await admin.query(
      "update access_private.domain_owners set holds_until = now() - interval '1 second' where domain_id = $1",
      [id],
    );
    expect(await proves('two@lapsed.example')).toBe(undefined);
    await app.call<Added & pg.QueryResultRow>(ada.credential, "select * from api.add_domain('pending.example')");
    expect(await proves('three@pending.example')).toBe(undefined);
  });

  it('does not join by one that operators named shared, nor an organization that nobody acts in', async () => {
    await own('became.example');
    await admin.query("select access.share_domain('became.example')");
    expect(await proves('one@became.example')).toBe(undefined);
    await admin.query('update access.organizations set closes_at = now() where id = $1', [ada.organization]);
    expect(await proves(fresh())).toBe(undefined);
    await admin.query("update access.organizations set closes_at = 'infinity' where id = $1", [ada.organization]);
    // Closing ended the sessions in it.
    const again = await app.signIn(ada.email, ada.tag, ada.organization);
    ada = { ...ada, credential: again.credential };
  });
});

describe('the role', () => {
  it('is none that permits more than members have', async () => {
    expect(await set('admin')).toMatchObject({ outcome: 'REFUSED', reasons: ['ABOVE_CEILING'] });
    expect(await set('owner')).toMatchObject({ outcome: 'REFUSED', reasons: ['ABOVE_CEILING'] });
    const role = (name: string, permissions: string[]) =>
      app.call(ada.credential, 'select outcome::text from api.create_role($1, $2, $3)', [name, '', permissions]);
    expect(await role('inviting', ['row.read', 'member.invite'])).toEqual({ outcome: 'CREATED' });
    expect(await role('reading', ['row.read'])).toEqual({ outcome: 'CREATED' });
    expect(await set('inviting')).toMatchObject({ outcome: 'REFUSED', reasons: ['ABOVE_CEILING'] });
    expect(await set('reading')).toMatchObject({ outcome: 'CHANGED' });
    expect(await proves(fresh())).toBe('reading');
  });

  it('that was widened since lets nobody in', async () => {
    await set('reading');
    const widen =
      "insert into access.role_permissions select organization_id, id, 'member.invite' from access.roles where name = 'reading'";
    const narrow =
      "delete from access.role_permissions p using access.roles r where r.id = p.role_id and r.name = 'reading' and p.permission = 'member.invite'";
    await admin.query(widen);
    expect(await proves(fresh())).toBe(undefined);
    expect(await lastRefusal()).toEqual(['ABOVE_CEILING']);
    await withoutGuard(db, JOIN, 'not access_private.below_ceiling(v_organization, v_role)', 'false', async () => {
      expect(await proves(fresh())).toBe('reading');
    });
    await admin.query(narrow);

    // Widened at this very moment: whoever joins waits, and looks again.
    const joinsMeanwhile = async () => {
      const other = await db.connect('admin');
      await other.query('begin');
      await other.query(widen);
      let over = false;
      const joining = proves(fresh()).finally(() => {
        over = true;
      });
      while (!over) {
        const { rowCount } = await admin.query(
          "select from pg_stat_activity where datname = $1 and wait_event_type = 'Lock'",
          [db.name],
        );
        if (rowCount) break;
      }
      await other.query('commit');
      await other.end();
      const role = await joining;
      await admin.query(narrow);
      return role;
    };
    expect(await joinsMeanwhile()).toBe(undefined);
    await withoutGuard(
      db,
      JOIN,
      /perform access_private\.take_turn[\s\S]*?'members'\);/,
      "v_role := access_private.setting_role(v_organization, 'domain.join_role'); v_room := true;",
      async () => expect(await joinsMeanwhile()).toBe('reading'),
    );
  });
});

describe('who was a member', () => {
  it('does not come back by address, with the same account or a new one; an invitation brings her back', async () => {
    const email = fresh();
    expect(await proves(email)).toBe('viewer');
    const id = await newest();
    const { rows } = await admin.query<{ id: string }>('select id from access.memberships where person_id = $1', [id]);
    expect(await app.call(ada.credential, 'select outcome::text from api.remove_member($1)', [rows[0]?.id])).toEqual({
      outcome: 'REMOVED',
    });
    const again = () => app.call<{ joined: string[] }>(null, 'select public.address_proved($1) as joined', [id]);
    expect(await again()).toEqual({ joined: [] });
    expect(await lastRefusal()).toEqual(['KEPT_OUT']);
    // Under another address, too.
    await admin.query("update identity_private.emails set lookup = sha256('another') where person_id = $1", [id]);
    expect(await again()).toEqual({ joined: [] });
    await admin.query('delete from identity.people where id = $1', [id]);
    expect(await proves(email)).toBe(undefined);
    await withoutGuard(
      db,
      JOIN,
      'when exists (select from access_private.kept_out k',
      'when false and exists (select from access_private.kept_out k',
      async () => {
        await admin.query('delete from identity.people where id = $1', [await newest()]);
        expect(await proves(email)).toBe('viewer');
      },
    );
  });

  it('is let in by an invitation, and kept out anew when that is over', async () => {
    const email = fresh();
    const tag = await app.register(email, 'Eve', null);
    await verify(email);
    expect(await newestRole()).toBe('viewer');
    const eve = await app.signIn(email, tag, ada.organization);
    const leave = (credential: Buffer) => app.call(credential, 'select outcome::text from api.leave_organization()');
    expect(await leave(eve.credential)).toEqual({ outcome: 'REMOVED' });
    const kept = async () =>
      (await admin.query('select from access_private.kept_out where person_id = $1', [eve.person_id])).rowCount;
    expect(await kept()).toBe(1);
    const { token } = await invited(app, ada, email, 'viewer');
    const outside = await app.signIn(email, tag);
    const person = { ...ada, credential: outside.credential };
    expect((await accept(app, person, token)).outcome).toBe('ACCEPTED');
    expect(await kept()).toBe(0);
    const inside = await app.signIn(email, tag, ada.organization);
    expect(await leave(inside.credential)).toEqual({ outcome: 'REMOVED' });
    expect(await kept()).toBe(1);
  });
});

describe('the plan', () => {
  it('counts: of three at once, one has room', async () => {
    await admin.query("update access.plan_limits set most = $1 where plan = 'default' and what = 'members'", [
      ((await members()) ?? 0) + 1,
    ]);
    const before = (await members()) ?? 0;
    const tokens: Buffer[] = [];
    for (let i = 0; i < 3; i += 1) {
      await app.register(fresh(), 'Somebody', null);
      const mail = (await app.mails()).find(({ variables }) => variables.token);
      tokens.push(Buffer.from(mail?.variables.token ?? '', 'base64url'));
    }
    const outcomes = await Promise.all(
      tokens.map((token) => app.call(null, 'select api_steps.verify_email($1) as outcome', [token])),
    );
    expect(outcomes).toEqual(tokens.map(() => ({ outcome: 'VERIFIED' })));
    expect(await members()).toBe(before + 1);
    expect(await lastRefusal()).toEqual(['LIMIT_REACHED']);
    await admin.query("update access.plan_limits set most = 10000 where plan = 'default' and what = 'members'");
  });
});
