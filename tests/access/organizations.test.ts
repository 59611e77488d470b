// Renaming, closing, suspending and handing over an organization (AZ-02, AZ-04).
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { changeOrganization, listOrganizations } from '../../src/access/command.ts';
import { join } from '../matrix/people.ts';
import { refresh, switchTo } from '../sessions/tokens.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let owner: pg.Client;
const people = new Map<string, Person>();

/** Somebody, with an organization of her own besides. */
const someone = async (name: string): Promise<Person> => {
  const person = people.get(name) ?? (await app.person(name));
  people.set(name, person);
  return person;
};

/** An organization with an owner and whoever is named, everybody signed in there. */
async function organization<Name extends string>(members: Record<Name, string>) {
  const founder = await someone('founder');
  const { id } = await app.call<{ id: string }>(
    founder.credential,
    "select id from api.create_organization('Ärzte & Söhne')",
  );
  const entered = async (name: string, role: string | null) => {
    const person = await someone(name);
    if (role) await join(admin, person.id, id, role);
    const signIn = await app.signIn(person.email, person.tag, id);
    return { ...person, organization: id, session: signIn.session_id, ...signIn };
  };
  const founding = await entered('founder', null);
  const others = {} as Record<Name, typeof founding>;
  for (const [name, role] of Object.entries<string>(members)) others[name as Name] = await entered(name, role);
  const { slug } = (await admin.query('select slug from access.organizations where id = $1', [id])).rows[0];
  return { id, slug: slug as string, founder: founding, ...others };
}

const refused = (reason: string) => ({ outcome: 'REFUSED', reasons: [reason] });
const done = { outcome: 'CHANGED', reasons: [] };

const close = (who: Person) => app.call(who.credential, 'select outcome, reasons from api.close_organization()');
const reopen = (who: Person) => app.call(who.credential, 'select outcome, reasons from api.reopen_organization()');
const transfer = (who: Person, membership: string) =>
  app.call(who.credential, 'select * from api.transfer_ownership($1)', [membership]);
const membership = async (person: Person, organization: string): Promise<string> =>
  (
    await admin.query('select id from access.memberships where person_id = $1 and organization_id = $2', [
      person.id,
      organization,
    ])
  ).rows[0].id;
const roles = async (organization: string): Promise<Record<string, string[]>> =>
  Object.fromEntries(
    (
      await admin.query(
        `select m.person_id, array_agg(r.name order by r.name) as names from access.memberships m
           join access.membership_roles mr on mr.organization_id = m.organization_id and mr.membership_id = m.id
           join access.roles r on r.organization_id = m.organization_id and r.id = mr.role_id
          where m.organization_id = $1 group by 1`,
        [organization],
      )
    ).rows.map(({ person_id, names }) => [[...people.values()].find(({ id }) => id === person_id)?.name, names]),
  );
const events = async (organization: string) =>
  (
    await admin.query(
      "select action from audit.events where organization_id = $1 and action ~ '^organization' order by id",
      [organization],
    )
  ).rows.map(({ action }) => action);

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  owner = await db.connect('owner');
});

describe('a slug', () => {
  test.each([
    ['Ärzte & Söhne', /^arzte-sohne-[a-z2-7]{6}$/],
    ['  Straße Ærø Łódź  ', /^strasse-aero-lodz-[a-z2-7]{6}$/],
    ['北京', /^organization-[a-z2-7]{6}$/],
    ["'; drop table x; --", /^drop-table-x-[a-z2-7]{6}$/],
    ['x'.repeat(200), /^x{40}-[a-z2-7]{6}$/],
  ])('of %s is ASCII', async (name, form) => {
    expect((await admin.query('select access_private.slug($1) as slug', [name])).rows[0].slug).toMatch(form);
  });

  test('is made by the server and says nothing about whose there are', async () => {
    const first = await organization({});
    const second = await organization({});
    expect(second.slug).toMatch(/^arzte-sohne-[a-z2-7]{6}$/);
    expect(second.slug).not.toBe(first.slug);
    for (const statement of [
      `update access.organizations set slug = '${first.slug}'`,
      `insert into access.organizations (name, slug) values ('x', '${first.slug}')`,
      `select access_private.slug('x')`,
    ]) {
      expect(await refusal(app.rows(first.founder.credential, statement)), statement).toBe('42501');
    }
  });
});

test('an organization is renamed by who may, from what was read; its slug stays', async () => {
  const { founder, vera, slug } = await organization({ vera: 'viewer' });
  const rename = (who: Person, name: string, version: number) =>
    app.call(who.credential, 'select * from api.rename_organization($1, $2)', [name, version]);
  expect(await rename(vera, 'Mine', 1)).toEqual({ ...refused('NOT_PERMITTED'), version: null });
  expect(await rename(founder, '  ', 1)).toEqual({ ...refused('NAME_INVALID'), version: null });
  expect(await refusal(rename(founder, 'New', 7))).toBe('STALE');
  const both = await Promise.allSettled([rename(founder, 'One', 1), rename(founder, 'Two', 1)]);
  expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(await rename(founder, ' New ', 2)).toEqual({ ...done, version: 3 });
  expect(await app.rows(vera.credential, 'select name, slug from api.current_organization()')).toEqual([
    { name: 'New', slug },
  ]);
  expect(await refusal(rename({ ...founder, credential: null } as never, 'x', 3))).toBe('42501');
  await withoutGuard(
    db,
    'api.rename_organization(text, integer)',
    "not coalesce(request.can('organization.update'), false)",
    'false',
    async () => expect(await rename(vera, 'Mine', 3)).toEqual({ ...done, version: 4 }),
  );
});

describe('closing', () => {
  test('takes effect after its grace, and is taken back before', async () => {
    const { id, founder, anna } = await organization({ anna: 'admin' });
    for (const attempt of [close, reopen]) expect(await attempt(anna)).toEqual(refused('NOT_PERMITTED'));
    expect(await reopen(founder)).toEqual(refused('NOT_CLOSING'));
    expect(await close(founder)).toEqual(done);
    expect(await close(founder)).toEqual(refused('CLOSING'));
    const { days } = await app.call<{ days: number }>(
      anna.credential,
      'select round(extract(epoch from closes_at - clock_timestamp()) / 86400)::integer as days from api.current_organization()',
    );
    expect(days).toBe(30);
    expect(await reopen(founder)).toEqual(done);
    expect(await events(id)).toEqual(['organization.create', 'organization.close', 'organization.reopen']);
    await withoutGuard(
      db,
      'api.close_organization()',
      "not access_private.take_turn_to('organization.close')",
      'false',
      async () => expect(await close(anna)).toEqual(done),
    );
  });

  test('is over by the clock, in an open transaction and for those who signed in meanwhile', async () => {
    const { id, founder, anna } = await organization({ anna: 'admin' });
    await app.as(anna.credential, async (client) => {
      const sees = async () => (await client.query('select from access.organizations')).rowCount;
      expect(await sees()).toBe(1);
      expect(await close(founder)).toEqual(done);
      const late = await app.signIn(founder.email, founder.tag, id);
      const ends =
        'select distinct s.ends_at <= o.closes_at as same from sessions.sessions s join access.organizations o on o.id = s.organization_id where o.id = $1';
      expect((await admin.query(ends, [id])).rows).toEqual([{ same: true }]);
      // The clock is moved on by moving what it is compared with.
      await admin.query(
        "update access.organizations set closes_at = clock_timestamp() + interval '0.3 seconds' where id = $1",
        [id],
      );
      await admin.query('select pg_sleep(0.3)');
      expect(await sees()).toBe(0);
      expect(
        (await client.query("select request.can('organization.read') as can, request.user_id() as id")).rows,
      ).toEqual([{ can: false, id: null }]);
      expect(await refusal(app.rows(late.credential, 'select 1'))).toBe('AUTHN');
    });
    expect((await refresh(app, anna.refreshToken)).outcome).toBe('REFUSED');
    expect((await switchTo(app, await someone('founder'), id)).outcome).toBe('REFUSED');
    const elsewhere = await app.signIn(anna.email, anna.tag, id);
    expect(elsewhere.organization_id).not.toBe(id);
    expect(await refusal(reopen(founder))).toBe('AUTHN');
  });

  test('would not be over in an open transaction, did sessions not end with it', async () => {
    const { founder, anna } = await organization({ anna: 'admin' });
    await withoutGuard(
      db,
      'sessions_private.tg_organizations__end_sessions()',
      'new.closes_at < old.closes_at',
      'false',
      async () => {
        await admin.query("update platform.limits set value = 0 where name = 'organization.grace_seconds'");
        await app.as(anna.credential, async (client) => {
          expect(await close(founder)).toEqual(done);
          expect((await client.query("select request.can('organization.read') as can")).rows).toEqual([{ can: true }]);
        });
      },
    );
    await admin.query("update platform.limits set value = 2592000 where name = 'organization.grace_seconds'");
  });

  test('is written down by a job, that nothing waits for', async () => {
    const { id } = await organization({});
    await admin.query('update access.organizations set closes_at = clock_timestamp() where id = $1', [id]);
    const jobs = await db.connect('jobs');
    expect(await refusal(jobs.query('select access.close_organizations(1)'))).toBe('DENYD');
    const job = (await admin.query("select id from graphile_worker.add_job('access__close_organizations')")).rows[0].id;
    await admin.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1", [
      job,
    ]);
    await jobs.query('begin');
    await jobs.query("select set_config('role', platform.open_job($1, null), true)", [job]);
    // Those of other tests, too.
    expect((await jobs.query('select access.close_organizations(1000) as count')).rows[0].count).toBeGreaterThan(0);
    expect((await jobs.query('select access.close_organizations(1000) as count')).rows).toEqual([{ count: 0 }]);
    await jobs.query('commit');
    expect((await admin.query('select status from access.organizations where id = $1', [id])).rows).toEqual([
      { status: 'closed' },
    ]);
    expect(await events(id)).toEqual(['organization.create', 'organization.end']);
  });
});

describe('operators', () => {
  test('suspend an organization: its sessions end in the next statement; it is resumed', async () => {
    const { id, slug, founder } = await organization({});
    await app.as(founder.credential, async (client) => {
      expect((await client.query('select from access.organizations')).rowCount).toBe(1);
      expect((await owner.query('select access.suspend_organization($1) as done', [slug])).rows).toEqual([
        { done: true },
      ]);
      expect((await client.query('select from access.organizations')).rowCount).toBe(0);
    });
    expect((await owner.query('select access.suspend_organization($1) as done', [slug])).rows).toEqual([
      { done: false },
    ]);
    expect(await refusal(app.rows(founder.credential, 'select 1'))).toBe('AUTHN');
    expect((await app.signIn(founder.email, founder.tag, id)).organization_id).not.toBe(id);
    expect((await owner.query('select access.resume_organization($1) as done', [slug])).rows).toEqual([{ done: true }]);
    expect((await app.signIn(founder.email, founder.tag, id)).organization_id).toBe(id);
    expect(await refusal(owner.query("select access.suspend_organization('none')"))).toBe('P0002');
    expect(await events(id)).toEqual(['organization.create', 'organization.suspend', 'organization.resume']);
  });

  test('give a plan that there is', async () => {
    const { id, slug, founder } = await organization({});
    await owner.query("set row_security = on; insert into access.plans values ('tiny', 'Little.')");
    expect((await owner.query("select access.give_plan($1, 'tiny') as done", [slug])).rows).toEqual([{ done: true }]);
    expect(await refusal(owner.query("select access.give_plan($1, 'none')", [slug]))).toBe('P0002');
    expect((await owner.query('select * from access.list_organizations()')).rows).toContainEqual(
      expect.objectContaining({ slug, plan: 'tiny', members: 1, status: 'active', closes_at: null }),
    );
    expect(await events(id)).toContain('organization.plan');
    for (const call of [
      "give_plan('x', 'tiny')",
      "suspend_organization('x')",
      "resume_organization('x')",
      'list_organizations()',
    ]) {
      expect(await refusal(app.rows(founder.credential, `select access.${call}`)), call).toBe('42501');
    }
  });
});

test('the command line lists, suspends and resumes by slug, and says why not', async () => {
  const { slug } = await organization({});
  const said: string[] = [];
  const print = (line: string) => said.push(line);
  const no = (what: 'suspend' | 'resume' | 'plan', values: string[]) =>
    changeOrganization(db.access, what, values, print).then(
      () => 'done',
      (error: Error) => error.message,
    );
  await changeOrganization(db.access, 'suspend', [slug], print);
  expect(await no('suspend', [slug])).toBe(`${slug}: not active`);
  await listOrganizations(db.access, print);
  await changeOrganization(db.access, 'resume', [slug], print);
  expect(await no('plan', [slug, 'default'])).toBe(`${slug}: had that plan already`);
  expect(await no('plan', [slug])).toMatch(/needs the slug .* and the name of a plan$/);
  expect(await no('resume', ['none'])).toBe('no organization none');
  expect(said[0]).toBe(`${slug}: suspended; its sessions are over`);
  expect(said[1]).toMatch(new RegExp(`^ ${slug} +\\| Ärzte & Söhne +\\| suspended \\| default`, 'm'));
  expect(said[2]).toBe(`${slug}: resumed`);
});

describe('handing over', () => {
  test('makes another member an owner, and an admin of who had nothing else', async () => {
    const { id, founder, anna, vera } = await organization({ anna: 'admin', vera: 'viewer' });
    const to = await membership(vera, id);
    expect(await transfer(anna, to)).toEqual(refused('NOT_PERMITTED'));
    expect(await transfer(founder, await membership(founder, id))).toEqual(refused('NOT_FOUND'));
    const elsewhere = await someone('stranger');
    expect(await transfer(founder, await membership(elsewhere, elsewhere.organization))).toEqual(refused('NOT_FOUND'));
    await admin.query("update identity.people set status = 'suspended' where id = $1", [vera.id]);
    expect(await transfer(founder, to)).toEqual(refused('NOT_ACTIVE'));
    await admin.query("update identity.people set status = 'active' where id = $1", [vera.id]);
    expect(await transfer(founder, to)).toEqual(done);
    expect(await roles(id)).toEqual({ founder: ['admin'], anna: ['admin'], vera: ['owner', 'viewer'] });
    expect(await transfer(founder, await membership(anna, id))).toEqual(refused('NOT_PERMITTED'));
    expect(await events(id)).toContain('organization.transfer');
    const { rows } = await admin.query(
      "select action, count(*)::integer as count from audit.events where organization_id = $1 and action ~ '^role[.]' group by 1 order by 1",
      [id],
    );
    expect(rows).toEqual([
      { action: 'role.grant', count: 2 },
      { action: 'role.revoke', count: 1 },
    ]);
  });

  test('is for who owns it without an end: nobody hands on more', async () => {
    const { id, anna, vera } = await organization({ anna: 'admin', vera: 'viewer' });
    await admin.query(
      `insert into access.role_permissions select organization_id, id, 'organization.transfer' from access.roles
        where organization_id = $1 and name = 'admin'`,
      [id],
    );
    const to = await membership(vera, id);
    expect(await transfer(anna, to)).toEqual(refused('NOT_HELD'));
    await admin.query(
      `insert into access.membership_roles (organization_id, membership_id, role_id, valid_until)
        select organization_id, $2, id, now() + interval '1 hour' from access.roles where organization_id = $1 and name = 'owner'`,
      [id, await membership(anna, id)],
    );
    expect(await transfer(anna, to)).toEqual(refused('NOT_HELD'));
    await withoutGuard(
      db,
      'api.transfer_ownership(uuid)',
      /when access_private\.not_held[\s\S]*?'NOT_HELD'/,
      '',
      async () => expect(await transfer(anna, to)).toEqual(done),
    );
    expect((await roles(id)).vera).toContain('owner');
  });

  test('by one owner twice at once happens once; two owners to each other leave one', async () => {
    const { id, founder, anna, vera } = await organization({ anna: 'admin', vera: 'viewer' });
    const [toAnna, toVera] = [await membership(anna, id), await membership(vera, id)];
    const twice = await Promise.all([transfer(founder, toAnna), transfer(founder, toVera)]);
    expect(twice).toContainEqual(done);
    expect(twice).toContainEqual(refused('NOT_PERMITTED'));
    expect(Object.values(await roles(id)).filter((names) => names.includes('owner'))).toHaveLength(1);

    for (const isolation of ['read committed', 'repeatable read']) {
      const pair = await organization({ anna: 'owner' });
      const [one, other] = [await membership(pair.founder, pair.id), await membership(pair.anna, pair.id)];
      const during = async (who: Person, to: string) => {
        const client = await app.pool.connect();
        try {
          await client.query(`begin isolation level ${isolation}`);
          await app.open(client, who.credential);
          await client.query('select api.transfer_ownership($1)', [to]);
          await client.query('select pg_sleep(0.05)');
        } finally {
          await client.query('commit');
          client.release();
        }
      };
      const both = await Promise.allSettled([during(pair.founder, other), during(pair.anna, one)]);
      const failed = both.filter(({ status }) => status === 'rejected').length;
      // 40001, if they met.
      expect(failed, isolation).toBeLessThanOrEqual(isolation === 'read committed' ? 0 : 1);
      expect(
        Object.values(await roles(pair.id)).filter((names) => names.includes('owner')),
        isolation,
      ).toHaveLength(1);
    }
  });
});
