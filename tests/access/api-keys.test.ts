// API keys and service accounts: what a key has, and that it ends in the next statement, however it ends. Each refusal is
// seen to be the work of its guard: with the guard taken out, the attack goes through.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { newApiKey } from '../../src/sessions/api-key.ts';
import { join, setRole } from '../matrix/people.ts';
import { Application, type Person, refusal, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

interface Made {
  outcome: string;
  reasons: string[];
  id: string;
  credential: Buffer;
}

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
/** Owner of the organization; an admin, a member and a viewer in it; the owner of another. */
let owner: Person;
let boss: Person;
let member: Person;
let viewer: Person;
let stranger: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  owner = await app.person('ada');
  stranger = await app.person('bob');
  boss = await colleague('cleo', 'admin');
  member = await colleague('dora', 'member');
  viewer = await colleague('emil', 'viewer');
});

async function colleague(name: string, role: string): Promise<Person> {
  const person = await app.person(name);
  await join(admin, person.id, owner.organization, role);
  const { credential } = await app.signIn(person.email, person.tag, owner.organization);
  return { ...person, organization: owner.organization, credential };
}

async function make(
  by: Buffer,
  permissions: unknown,
  {
    account = null,
    until = null,
    name = 'a key',
  }: { account?: string | null; until?: Date | null; name?: string } = {},
): Promise<Made> {
  const key = newApiKey();
  const made = await app.call<Made>(by, 'select * from api_steps.create_api_key($1, $2, $3, $4, $5, $6)', [
    name,
    permissions,
    until,
    account,
    key.credentialHash,
    key.prefix,
  ]);
  return { ...made, credential: key.credential };
}

async function rotate(by: Buffer, id: string, overlap: number | null): Promise<Made> {
  const key = newApiKey();
  const made = await app.call<Made>(by, 'select * from api_steps.rotate_api_key($1, $2, $3, $4)', [
    id,
    overlap,
    key.credentialHash,
    key.prefix,
  ]);
  return { ...made, credential: key.credential };
}

const account = async (by: Buffer, permissions: string[], name = `robot ${randomBytes(6).toString('base64url')}`) =>
  app.call<Made>(by, 'select * from api.create_service_account($1, $2)', [name, permissions]);

const revoke = (by: Buffer, id: string) =>
  app.call<{ outcome: string; reasons: string[] }>(by, 'select * from api.revoke_api_key($1)', [id]);

const WHO = `select request.kind() as kind, request.user_id() as person, request.organization_id() as organization,
    request.owner_id() as owner, request.signed_in_id() as signed_in, request.session_id() as session, request.api_key_id() as key,
    request.service_account_id() as account, request.assurance() as assurance`;
const can = (credential: Buffer, permission: string) =>
  app.call<{ can: boolean }>(credential, 'select request.can($1) as can', [permission]).then((row) => row.can);

const REFUSED = (...reasons: string[]) => ({ outcome: 'REFUSED', reasons });

describe('what a key is', () => {
  it('asks as its person, with its own permissions and nothing besides', async () => {
    const key = await make(member.credential, ['row.read', 'row.create', 'row.read']);
    expect(key).toMatchObject({ outcome: 'CREATED', reasons: [] });
    expect(await app.call(key.credential, WHO)).toEqual({
      kind: 'key',
      person: member.id,
      organization: owner.organization,
      owner: null,
      signed_in: null,
      session: null,
      key: key.id,
      account: null,
      assurance: 1,
    });
    expect(await can(key.credential, 'row.read')).toBe(true);
    // She holds it; the key was not made for it.
    expect(await can(member.credential, 'row.update')).toBe(true);
    expect(await can(key.credential, 'row.update')).toBe(false);
    const { rows } = await admin.query(
      'select permissions, expires_at > now() + $2::interval as long from access.api_keys where id = $1',
      [key.id, '89 days'],
    );
    expect(rows).toEqual([{ permissions: ['row.create', 'row.read'], long: true }]);
  });

  it('sees nothing that is hers for being hers: sessions, profile, organizations, keys', async () => {
    const key = await make(owner.credential, ['row.read']);
    const counts = `select (select count(*) from sessions.sessions)::int as sessions, (select count(*) from identity.people)::int as people,
      (select count(*) from api.my_organizations())::int as organizations, (select count(*) from access.api_keys)::int as keys,
      (select id from api."current_user"()) as profile`;
    expect(await app.call(owner.credential, counts)).toMatchObject({ people: 1, organizations: 1, profile: owner.id });
    expect(await app.call(key.credential, counts)).toEqual({
      sessions: 0,
      people: 0,
      organizations: 0,
      keys: 0,
      profile: null,
    });
    await withoutGuard(db, 'api.my_organizations()', 'request.signed_in_id()', 'request.user_id()', async () => {
      expect(await app.call(key.credential, counts)).toMatchObject({ organizations: 1 });
    });
  });

  it('of a service account is nobody in person', async () => {
    const robot = await account(boss.credential, ['row.read', 'row.create']);
    const key = await make(boss.credential, ['row.read'], { account: robot.id });
    expect(await app.call(key.credential, WHO)).toMatchObject({
      kind: 'key',
      person: null,
      organization: owner.organization,
      key: key.id,
      account: robot.id,
    });
    expect(await can(key.credential, 'row.read')).toBe(true);
    expect(await can(key.credential, 'row.create')).toBe(false);
    // The account belongs to the organization: what becomes of its maker is nothing to it.
    await setRole(admin, boss.id, owner.organization, 'viewer');
    expect(await can(key.credential, 'row.read')).toBe(true);
    await setRole(admin, boss.id, owner.organization, 'admin');
    const removed = () => app.call(boss.credential, 'select * from api.remove_service_account($1)', [robot.id]);
    expect(await removed()).toEqual({ outcome: 'REMOVED', reasons: [] });
    expect(await refusal(can(key.credential, 'row.read'))).toBe('AUTHN');
    expect(await removed()).toEqual(REFUSED('NOT_FOUND'));
  });

  it('shows its reach, and its last use', async () => {
    const key = await make(boss.credential, ['row.read', 'service_account.read', 'member.read']);
    const reach = (by: Buffer) =>
      app.call<Record<string, unknown>>(by, 'select * from api.api_key_reach($1)', [key.id]);
    const used = async (credential: Buffer, at: Date) =>
      (await app.pool.query('select sessions.record_activity($1, $2) as n', [[sha256(credential)], [at]])).rows[0].n;
    expect(await reach(member.credential)).toMatchObject({ id: null });
    expect(await reach(stranger.credential)).toMatchObject({ id: null });
    expect(await reach(boss.credential)).toMatchObject({
      held: ['member.read', 'row.read', 'service_account.read'],
      reaches: ['select access.membership_roles', 'select access.memberships', 'select access.service_accounts'],
      is_live: true,
      last_used_at: null,
    });
    expect(await used(key.credential, new Date(Date.now() - 3_600_000))).toBe(0);
    const now = new Date();
    expect(await used(key.credential, now)).toBe(1);
    await setRole(admin, boss.id, owner.organization, 'viewer');
    expect(await app.call(key.credential, 'select id from api.api_key_reach()')).toEqual({ id: key.id });
    expect(await reach(key.credential)).toMatchObject({
      held: ['member.read', 'row.read'],
      reaches: ['select access.membership_roles', 'select access.memberships'],
      last_used_at: now,
    });
    await setRole(admin, boss.id, owner.organization, 'admin');
    expect(await revoke(boss.credential, key.id)).toEqual({ outcome: 'ENDED', reasons: [] });
    expect(await reach(boss.credential)).toMatchObject({ is_live: false });
    expect(await used(key.credential, new Date())).toBe(0);
  });

  it('leaves its name in the trail, of functions and of rows', async () => {
    const key = await make(owner.credential, ['row.read']);
    await app.call(key.credential, "select api_steps.record_fault(gen_random_uuid(), 'XX000', 'test')");
    const { rows } = await admin.query(
      "select actor_id, session_id, action from audit.events where details ->> 'apiKey' = $1",
      [key.id],
    );
    expect(rows).toEqual([{ actor_id: owner.id, session_id: null, action: 'request.fault' }]);
    const made = await admin.query("select action from audit.events where details ->> 'key' = $1", [key.id]);
    expect(made.rows).toEqual([{ action: 'api_key.create' }]);
  });
});

describe('making one', () => {
  it('takes what the maker holds, no more and for no longer', async () => {
    expect(await make(viewer.credential, ['row.read'])).toMatchObject(REFUSED('NOT_PERMITTED'));
    expect(await make(member.credential, ['row.read', 'row.delete'])).toMatchObject(REFUSED('NOT_HELD'));
    expect(await make(member.credential, ['row.read', 'no.such'])).toMatchObject(REFUSED('PERMISSION_UNKNOWN'));
    for (const permissions of [[], null, Array(1001).fill('row.read')]) {
      expect(await make(member.credential, permissions)).toMatchObject(REFUSED('VALUE_INVALID'));
    }
    expect(await make(member.credential, [null])).toMatchObject(REFUSED('PERMISSION_UNKNOWN'));
    for (const name of ['', ' ', 'a\nb', 'x'.repeat(101)]) {
      expect(await make(member.credential, ['row.read'], { name })).toMatchObject(REFUSED('NAME_INVALID'));
    }
    const years = new Date(Date.now() + 400 * 86_400_000);
    for (const until of [new Date(Date.now() - 1000), years]) {
      expect(await make(member.credential, ['row.read'], { until })).toMatchObject(REFUSED('WINDOW_INVALID'));
    }
    await withoutGuard(
      db,
      'api_steps.create_api_key(text,text[],timestamptz,uuid,bytea,text)',
      'not coalesce(request.can(u.p), false)',
      'false',
      async () => {
        const greedy = await make(member.credential, ['row.delete']);
        expect(greedy.outcome).toBe('CREATED');
        // And even that gives her nothing that she has not.
        expect(await can(greedy.credential, 'row.delete')).toBe(false);
      },
    );
  });

  it('of a service account takes more: it outlives its maker', async () => {
    expect(await account(member.credential, ['row.read'])).toMatchObject(REFUSED('NOT_PERMITTED'));
    expect(await account(boss.credential, ['organization.close'])).toMatchObject(REFUSED('NOT_HELD'));
    const name = 'nightly';
    const strong = await account(owner.credential, ['organization.close', 'row.read'], name);
    expect(strong.outcome).toBe('CREATED');
    expect(await account(owner.credential, ['row.read'], name)).toMatchObject(REFUSED('NAME_TAKEN'));
    expect(await make(member.credential, ['row.read'], { account: strong.id })).toMatchObject(REFUSED('NOT_PERMITTED'));
    expect(await make(boss.credential, ['organization.close'], { account: strong.id })).toMatchObject(
      REFUSED('NOT_HELD'),
    );
    expect(await make(boss.credential, ['row.create'], { account: strong.id })).toMatchObject(REFUSED('NOT_HELD'));
    expect(await make(stranger.credential, ['row.read'], { account: strong.id })).toMatchObject(REFUSED('NOT_FOUND'));
    // A role for an hour makes no key for a year.
    await admin.query(
      `update access.membership_roles mr set valid_until = clock_timestamp() + interval '1 hour' from access.memberships m
        where m.id = mr.membership_id and m.person_id = $1 and mr.organization_id = $2`,
      [boss.id, owner.organization],
    );
    expect(await account(boss.credential, ['row.read'])).toMatchObject(REFUSED('NOT_HELD'));
    expect(await make(boss.credential, ['row.read'], { account: strong.id })).toMatchObject(REFUSED('NOT_HELD'));
    const until = new Date(Date.now() + 60_000);
    expect(await make(boss.credential, ['row.read'], { account: strong.id, until })).toMatchObject({
      outcome: 'CREATED',
    });
    await withoutGuard(
      db,
      'api_steps.create_api_key(text,text[],timestamptz,uuid,bytea,text)',
      /or access_private.not_held\([^)]*\)[^)]*\)[^)]*\) <> '{}'/,
      '',
      async () => {
        expect(await make(boss.credential, ['row.read'], { account: strong.id })).toMatchObject({ outcome: 'CREATED' });
      },
    );
    await setRole(admin, boss.id, owner.organization, 'admin');
  });

  it('lasts as long as the organization lets keys last', async () => {
    await app.call(owner.credential, "select * from api.change_setting('api_key.seconds', '7200')");
    const hours = (n: number) => new Date(Date.now() + n * 3_600_000);
    expect(await make(member.credential, ['row.read'], { until: hours(3) })).toMatchObject(REFUSED('WINDOW_INVALID'));
    expect(await make(member.credential, ['row.read'], { until: hours(1) })).toMatchObject({ outcome: 'CREATED' });
    const { id } = await make(member.credential, ['row.read']);
    const { rows } = await admin.query(
      "select expires_at - created_at between '119 minutes' and '121 minutes' as it from access.api_keys where id = $1",
      [id],
    );
    expect(rows).toEqual([{ it: true }]);
    await app.call(owner.credential, "select * from api.reset_setting('api_key.seconds')");
  });

  it('has a limit that holds for twenty at once', async () => {
    await admin.query("update platform.limits set value = 3 where name = 'api_key.per_owner'");
    const robot = await account(boss.credential, ['row.read']);
    const made = await Promise.all(
      Array.from({ length: 20 }, () => make(boss.credential, ['row.read'], { account: robot.id })),
    );
    expect(made.filter(({ outcome }) => outcome === 'CREATED')).toHaveLength(3);
    expect(made.find(({ outcome }) => outcome === 'REFUSED')).toMatchObject(REFUSED('LIMIT_REACHED'));
    await admin.query("update platform.limits set value = 50 where name = 'api_key.per_owner'");
  });
});

describe('what a key cannot', () => {
  const MANAGE = [
    'api_key.create',
    'api_key.read',
    'api_key.revoke',
    'api_key.rotate',
    'service_account.create',
    'member.invite',
    'role.create',
  ];

  it('make keys, accounts, organizations or sessions, nor end them', async () => {
    const key = await make(owner.credential, MANAGE);
    const other = await make(owner.credential, ['row.read']);
    expect(key.outcome).toBe('CREATED');
    expect(await refusal(make(key.credential, ['row.read']))).toBe('AUTHN');
    expect(await refusal(rotate(key.credential, key.id, 0))).toBe('AUTHN');
    expect(await refusal(revoke(key.credential, other.id))).toBe('AUTHN');
    expect(await refusal(account(key.credential, ['row.read']))).toBe('AUTHN');
    expect(await refusal(app.call(key.credential, "select api.create_organization('mine')"))).toBe('AUTHN');
    expect(
      await refusal(
        app.call(key.credential, 'select * from api_steps.switch_organization($1, $2, $3)', [
          owner.organization,
          randomBytes(32),
          randomBytes(32),
        ]),
      ),
    ).toBe('AUTHN');
    expect(
      await app.call(
        key.credential,
        'select api.logout() as a, api.revoke_other_sessions() as b, api.revoke_session($1) as c',
        [owner.session],
      ),
    ).toEqual({
      a: 'REFUSED',
      b: 'REFUSED',
      c: 'REFUSED',
    });
    // Three guards, one behind the other.
    const asSession = ["request.kind() is distinct from 'session'", 'request.kind() is null'] as const;
    await withoutGuard(db, 'access_private.acting_in()', ...asSession, async () => {
      expect(await account(key.credential, ['row.read'])).toMatchObject(REFUSED('NOT_PERMITTED'));
      await withoutGuard(db, 'access_private.take_turn_to(text)', 'request.signed_in_id() is null or', '', async () => {
        expect(await account(key.credential, ['row.read'])).toMatchObject(REFUSED('NOT_HELD'));
        await withoutGuard(db, 'access_private.holding()', 'request.signed_in_id()', 'request.user_id()', async () => {
          expect(await account(key.credential, ['row.read'])).toMatchObject({ outcome: 'CREATED' });
        });
      });
    });
  });

  it('change anything by a function of the API, but ask for mails as anybody may', async () => {
    const { rows } = await admin.query<{ name: string; call: string }>(
      `select p.proname as name, format('select * from api.%I(%s)', p.proname, (
          select string_agg(format('%s::%s', case format_type(t, null)
              when 'uuid' then '''00000000-0000-7000-8000-000000000000''' when 'text[]' then '''{row.read}''' when 'integer' then '1'
              when 'text' then '''plain''' else 'null' end, format_type(t, null)), ', ' order by o)
            from unnest(p.proargtypes) with ordinality as u (t, o))) as call
         from pg_proc p where p.pronamespace = 'api'::regnamespace and p.provolatile = 'v' and has_function_privilege('safetypin_member', p.oid, 'execute')
         order by 1`,
    );
    const key = await make(
      owner.credential,
      (await admin.query('select name from access.permissions')).rows.map(({ name }) => name),
    );
    const answered: string[] = [];
    for (const { name, call } of rows) {
      try {
        const [row] = await app.rows(key.credential, call);
        if (!Object.values(row ?? {}).includes('REFUSED')) answered.push(name);
      } catch (error) {
        expect(['AUTHN', 'DENYD'], name).toContain((error as { code: string }).code);
      }
    }
    expect(rows.length).toBeGreaterThan(10);
    expect(answered).toEqual(['request_password_reset', 'resend_verification']);
  });

  it('open anything for the login of auditors, nor when its bytes are those of another kind', async () => {
    const key = await make(owner.credential, ['audit.read']);
    const auditor = await db.connect('auditor');
    const opening = async () => {
      await auditor.query('begin');
      try {
        return (await auditor.query('select sessions.open_request($1, null, $2) as role', [key.credential, {}])).rows[0]
          .role;
      } finally {
        await auditor.query('rollback');
      }
    };
    expect(await refusal(opening())).toBe('AUTHN');
    await withoutGuard(
      db,
      'request_private.key_context(bytea,jsonb)',
      "and session_user <> 'safetypin_auditor'",
      '',
      async () => {
        expect(await opening()).toBe('safetypin_auditor');
      },
    );
    // A session is not looked for among keys, nor a key among sessions.
    const long = Buffer.concat([Buffer.of(3), randomBytes(32)]);
    const short = randomBytes(32);
    await admin.query('insert into sessions_private.credentials (hash, session_id, expires_at) values ($1, $2, $3)', [
      sha256(long),
      owner.session,
      'infinity',
    ]);
    await admin.query(
      'insert into access_private.api_key_secrets (hash, organization_id, key_id) values ($1, $2, $3)',
      [sha256(short), owner.organization, key.id],
    );
    for (const credential of [
      long,
      short,
      key.credential.subarray(1),
      Buffer.concat([key.credential, Buffer.of(0)]),
      Buffer.alloc(0),
    ]) {
      expect(await refusal(can(credential, 'row.read'))).toBe('AUTHN');
    }
  });
});

describe('a key ends', () => {
  const open = async (credential: Buffer) => {
    const client = await db.connect('authenticator');
    await client.query('begin');
    await app.open(client, credential);
    const kind = async () =>
      (await client.query("select request.kind() as kind, request.can('row.read') as can")).rows[0];
    expect(await kind()).toEqual({ kind: 'key', can: true });
    return kind;
  };
  const OVER = { kind: null, can: false };

  it('in the next statement of an open transaction, by being revoked, running out, or losing whose it is', async () => {
    const ends: [string, (key: Made) => Promise<unknown>, () => Promise<unknown>][] = [
      ['revoked', (key) => revoke(member.credential, key.id), async () => {}],
      ['by an admin', (key) => revoke(boss.credential, key.id), async () => {}],
      [
        'expired',
        (key) => admin.query('update access.api_keys set expires_at = clock_timestamp() where id = $1', [key.id]),
        async () => {},
      ],
      [
        'suspended person',
        () => admin.query("update identity.people set status = 'suspended' where id = $1", [member.id]),
        () => admin.query("update identity.people set status = 'active' where id = $1", [member.id]),
      ],
      [
        'organization that closes',
        () =>
          admin.query('update access.organizations set closes_at = clock_timestamp() where id = $1', [
            owner.organization,
          ]),
        () => admin.query("update access.organizations set closes_at = 'infinity' where id = $1", [owner.organization]),
      ],
      [
        'left',
        () =>
          app.call(
            owner.credential,
            'select api.remove_member(m.id) from access.memberships m where m.person_id = $1',
            [member.id],
          ),
        () => join(admin, member.id, owner.organization, 'member'),
      ],
      [
        'organization that is suspended',
        () => admin.query("update access.organizations set status = 'suspended' where id = $1", [owner.organization]),
        () => admin.query("update access.organizations set status = 'active' where id = $1", [owner.organization]),
      ],
    ];
    for (const [how, end, undo] of ends) {
      const key = await make(member.credential, ['row.read']);
      const kind = await open(key.credential);
      await end(key);
      expect(await kind(), how).toEqual(OVER);
      expect(await refusal(can(key.credential, 'row.read')), how).toBe('AUTHN');
      await undo();
      const after = await refusal(can(key.credential, 'row.read'));
      // What is suspended comes back; what ended does not, and joining again brings no key back.
      expect(after, how).toBe(how.startsWith('suspended') || how.startsWith('organization') ? 'no refusal' : 'AUTHN');
      // Leaving and being suspended end sessions too.
      for (const one of how.startsWith('organization') ? [owner, boss, member, viewer] : [member]) {
        one.credential = (await app.signIn(one.email, one.tag, owner.organization)).credential;
      }
    }
  });

  it('and would not, without that guard', async () => {
    const stands = 'request_private.key_stands(uuid,uuid,bytea)';
    const key = await make(member.credential, ['row.read']);
    const kind = await open(key.credential);
    await revoke(member.credential, key.id);
    await withoutGuard(db, stands, 'k.revoked_at is null and', '', async () => {
      expect(await can(key.credential, 'row.read')).toBe(true);
    });
    expect(await kind()).toEqual(OVER);
  });

  it('to do what its person may not any more', async () => {
    const key = await make(member.credential, ['row.read', 'row.create']);
    const client = await db.connect('authenticator');
    await client.query('begin');
    await app.open(client, key.credential);
    const create = async () =>
      (await client.query("select request.can('row.create') as can, request.can('row.read') as may")).rows[0];
    expect(await create()).toEqual({ can: true, may: true });
    await setRole(admin, member.id, owner.organization, 'viewer');
    expect(await create()).toEqual({ can: false, may: true });
    await withoutGuard(
      db,
      'request.can(text)',
      /when k\.person_id is not null then exists \([\s\S]*?clock_timestamp\(\)\)/,
      'when k.person_id is not null then true',
      async () => {
        expect(await can(key.credential, 'row.create')).toBe(true);
      },
    );
    await setRole(admin, member.id, owner.organization, 'member');
  });
});

describe('rotating', () => {
  it('leaves the old secret its overlap, and one rotation of twenty at once overlaps', async () => {
    const key = await make(member.credential, ['row.read']);
    const all = await Promise.all(Array.from({ length: 20 }, () => rotate(member.credential, key.id, 600)));
    const [done, ...more] = all.filter(({ outcome }) => outcome === 'ROTATED');
    expect(more).toEqual([]);
    expect(all.find(({ outcome }) => outcome === 'REFUSED')).toMatchObject(REFUSED('OVERLAPPING'));
    expect(await can(key.credential, 'row.read')).toBe(true);
    expect(await can((done as Made).credential, 'row.read')).toBe(true);
    const { rows } = await admin.query(
      'select count(*)::int as n from access_private.api_key_secrets where key_id = $1',
      [key.id],
    );
    expect(rows).toEqual([{ n: 2 }]);
    // The overlap ends by the clock.
    await admin.query(
      "update access_private.api_key_secrets set expires_at = clock_timestamp() where key_id = $1 and expires_at < 'infinity'",
      [key.id],
    );
    expect(await refusal(can(key.credential, 'row.read'))).toBe('AUTHN');
    const at_once = await rotate(member.credential, key.id, 0);
    expect(await refusal(can((done as Made).credential, 'row.read'))).toBe('AUTHN');
    expect(await can(at_once.credential, 'row.read')).toBe(true);
    for (const overlap of [-1, 604_801, null]) {
      expect(await rotate(member.credential, key.id, overlap)).toMatchObject(REFUSED('WINDOW_INVALID'));
    }
    await revoke(member.credential, key.id);
    expect(await rotate(member.credential, key.id, 0)).toMatchObject(REFUSED('OVER'));
    expect(await revoke(member.credential, key.id)).toEqual(REFUSED('OVER'));
  });

  it('is for whose key it is: an admin who rotates it would become her', async () => {
    const key = await make(owner.credential, ['organization.close', 'row.read']);
    expect(await rotate(boss.credential, key.id, 0)).toMatchObject(REFUSED('NOT_PERMITTED'));
    expect(await rotate(member.credential, key.id, 0)).toMatchObject(REFUSED('NOT_FOUND'));
    expect(await rotate(stranger.credential, key.id, 0)).toMatchObject(REFUSED('NOT_FOUND'));
    await withoutGuard(
      db,
      'api_steps.rotate_api_key(uuid,integer,bytea,text)',
      'v_key.person_id is not null and v_key.person_id is distinct from v_person',
      'false',
      async () => {
        const stolen = await rotate(boss.credential, key.id, 0);
        expect(await app.call(stolen.credential, WHO)).toMatchObject({ person: owner.id });
        expect(await can(stolen.credential, 'organization.close')).toBe(true);
      },
    );
  });

  it('of a service account is for who could make it', async () => {
    const robot = await account(owner.credential, ['organization.close', 'row.read']);
    const strong = await make(owner.credential, ['organization.close'], { account: robot.id });
    const weak = await make(owner.credential, ['row.read'], { account: robot.id });
    expect(await rotate(boss.credential, strong.id, 0)).toMatchObject(REFUSED('NOT_HELD'));
    expect(await rotate(boss.credential, weak.id, 0)).toMatchObject({ outcome: 'ROTATED' });
    expect(await rotate(member.credential, weak.id, 0)).toMatchObject(REFUSED('NOT_FOUND'));
  });
});

describe('revoking', () => {
  it('is for whose key it is, wherever she is, and for api_key.revoke', async () => {
    const key = await make(member.credential, ['row.read']);
    expect(await revoke(viewer.credential, key.id)).toEqual(REFUSED('NOT_FOUND'));
    expect(await revoke(stranger.credential, key.id)).toEqual(REFUSED('NOT_FOUND'));
    const elsewhere = await app.signIn(
      member.email,
      member.tag,
      (
        await app.call<{ id: string }>(member.credential, 'select id from api.my_organizations() where id <> $1', [
          owner.organization,
        ])
      ).id,
    );
    expect(elsewhere.outcome).toBe('SIGNED_IN');
    expect(await revoke(elsewhere.credential, key.id)).toEqual({ outcome: 'ENDED', reasons: [] });
    const { rows } = await admin.query(
      "select organization_id from audit.events where action = 'api_key.revoke' and details ->> 'key' = $1",
      [key.id],
    );
    expect(rows).toEqual([{ organization_id: owner.organization }]);
  });
});

describe('nobody reads', () => {
  it('a secret, nor the keys of others without api_key.read', async () => {
    const key = await make(owner.credential, ['row.read']);
    for (const table of ['access_private.api_key_secrets']) {
      expect(await refusal(app.rows(owner.credential, `select * from ${table}`))).toBe('42501');
    }
    const seen = (by: Buffer) =>
      app.rows(by, 'select id from access.api_keys where id = $1', [key.id]).then((rows) => rows.length);
    expect([
      await seen(owner.credential),
      await seen(boss.credential),
      await seen(member.credential),
      await seen(stranger.credential),
    ]).toEqual([1, 1, 0, 0]);
    expect(await refusal(app.rows(owner.credential, 'update access.api_keys set permissions = null'))).toBe('42501');
    expect(await refusal(app.rows(owner.credential, "insert into access.service_accounts (name) values ('x')"))).toBe(
      '42501',
    );
  });
});

describe('beside a key', () => {
  it('a role that is being taken makes no key of a service account any more', async () => {
    const robot = await account(owner.credential, ['row.delete', 'row.read']);
    const signature = 'access_private.take_turn_to(text)';
    const raced = async (): Promise<string> => {
      const taking = await db.connect('admin');
      await taking.query('begin');
      await setRole(taking, boss.id, owner.organization, 'viewer');
      const making = make(boss.credential, ['row.delete'], { account: robot.id });
      const over = new AbortController();
      const done = making.finally(() => over.abort());
      const first = await waiting(taking, over.signal);
      await taking.query('commit');
      await taking.end();
      const made = await done;
      await setRole(admin, boss.id, owner.organization, 'admin');
      return first ? made.outcome : 'made before';
    };
    expect(await raced()).toBe('REFUSED');
    await admin.query("update access.plan_limits set most = 1000000 where what = 'api_keys'");
    await withoutGuard(
      db,
      signature,
      /perform access_private\.take_turn\(access_private\.acting_in\(\)\);/,
      '',
      async () => {
        await withoutGuard(
          db,
          'access_private.room(uuid,text)',
          /perform access_private\.take_turn\(room\.organization_id\);/,
          '',
          async () => {
            expect(await raced()).toBe('made before');
          },
        );
      },
    );
  });

  /** Whether somebody waits for what this connection holds, before it is all over. */
  async function waiting(holder: pg.Client, over: AbortSignal): Promise<boolean> {
    const { rows } = await holder.query('select pg_backend_pid() as pid');
    while (!over.aborted) {
      const { rows: found } = await admin.query('select from pg_stat_activity where $1 = any (pg_blocking_pids(pid))', [
        rows[0].pid,
      ]);
      if (found.length > 0) return true;
    }
    return false;
  }

  it('a job that it sets going has no more than the key', async () => {
    const key = await make(owner.credential, ['row.read', 'audit.read']);
    await admin.query("update platform.tasks set permissions = '{audit.read,row.update}' where name = 'mail__send'");
    const lent = async (by: Buffer) => {
      await app.call(by, 'select api.request_password_reset($1)', [viewer.email]);
      const { rows } = await admin.query(
        'select person_id, permissions from platform_private.job_contexts order by job_id desc limit 1',
      );
      return rows[0];
    };
    expect(await lent(owner.credential)).toEqual({ person_id: owner.id, permissions: ['audit.read', 'row.update'] });
    expect(await lent(key.credential)).toEqual({ person_id: owner.id, permissions: ['audit.read'] });
    const robot = await account(owner.credential, ['row.read']);
    const service = await make(owner.credential, ['row.read'], { account: robot.id });
    expect(await lent(service.credential)).toEqual({ person_id: null, permissions: [] });
    await admin.query("update platform.tasks set permissions = '{}' where name = 'mail__send'");
  });

  it('its row goes long after its end, and its secrets with it', async () => {
    const [old, young, live] = [
      await make(owner.credential, ['row.read']),
      await make(owner.credential, ['row.read']),
      await make(owner.credential, ['row.read']),
    ];
    await admin.query("update access.api_keys set revoked_at = clock_timestamp() - interval '91 days' where id = $1", [
      old.id,
    ]);
    await admin.query('update access.api_keys set expires_at = clock_timestamp() where id = $1', [young.id]);
    const { rows } = await admin.query("select id from graphile_worker.add_job('access__clean_up')");
    await admin.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1", [
      rows[0].id,
    ]);
    const jobs = await db.connect('jobs');
    await jobs.query('begin');
    await jobs.query("select set_config('role', platform.open_job($1, null), true)", [rows[0].id]);
    expect((await jobs.query('select access.clean_up(100) as n')).rows[0].n).toBe(1);
    await jobs.query('commit');
    const left = await admin.query(
      'select distinct key_id from access_private.api_key_secrets where key_id = any ($1)',
      [[old.id, young.id, live.id]],
    );
    expect(left.rows.map(({ key_id: id }) => id).sort()).toEqual([young.id, live.id].sort());
    expect(await can(live.credential, 'row.read')).toBe(true);
  });
});

describe('rows of a table under rules', () => {
  it('a personal key adds in its person’s name, and reaches what it has the permission for', async () => {
    const dba = await db.connect('owner');
    await dba.query(`create schema notes;
      create table notes.notes (
        organization_id uuid not null, id uuid not null default platform.uuid_v7(), author_id uuid not null, text text, primary key (organization_id, id));
      select access.protect('notes.notes', owner => 'author_id')`);
    const add = (by: Buffer, author?: string) =>
      refusal(
        author === undefined
          ? app.rows(by, "insert into notes.notes (text) values ('x')")
          : app.rows(by, "insert into notes.notes (text, author_id) values ('x', $1)", [author]),
      );
    const seen = (by: Buffer) => app.rows(by, 'select author_id from notes.notes').then((rows) => rows.length);
    const [writer, reader] = [
      await make(member.credential, ['row.create']),
      await make(member.credential, ['row.read']),
    ];
    expect(await add(owner.credential)).toBe('no refusal');
    expect(await add(member.credential)).toBe('no refusal');
    expect(await add(writer.credential)).toBe('no refusal');
    expect(await add(writer.credential, owner.id)).toBe('42501');
    expect(await add(reader.credential)).toBe('42501');
    // She would see her own without a permission; her key sees all with it, and none without.
    expect([await seen(reader.credential), await seen(writer.credential)]).toEqual([3, 0]);
    expect(
      (await app.rows(writer.credential, 'update notes.notes set text = null returning id').catch(() => [])).length,
    ).toBe(0);
    // A service account has no name of its own in there.
    const robot = await account(owner.credential, ['row.create', 'row.assign']);
    const plain = await make(owner.credential, ['row.create'], { account: robot.id });
    const assigning = await make(owner.credential, ['row.create', 'row.assign'], { account: robot.id });
    expect([await add(plain.credential), await add(plain.credential, owner.id)]).toEqual(['42501', '42501']);
    expect(await add(assigning.credential, owner.id)).toBe('no refusal');
    // A key of another organization meets nothing.
    const foreign = await make(stranger.credential, ['row.read', 'row.create']);
    expect(await seen(foreign.credential)).toBe(0);
    await withoutGuard(db, 'request.owner_id()', "where c.kind <> '3'", '', async () => {
      expect(await seen(writer.credential)).toBe(2);
    });
  });

  it('opens a sensitive column with its permission, and the trail says by which key', async () => {
    const dba = await db.connect('owner');
    await dba.query(`create schema ward;
      create table ward.people (
        organization_id uuid not null, id uuid not null default platform.uuid_v7(), number text, primary key (organization_id, id));
      select access.protect('ward.people');
      select access.define_permission('number.read', 'Read numbers.', '{owner,admin}');
      select keyring.seal_column('ward.people', 'number', subject => 'id', class => 'sensitive', permission => 'number.read')`);
    const all = ['row.read', 'row.create', 'number.read'];
    const robot = await account(owner.credential, all);
    const keys = [await make(owner.credential, all), await make(owner.credential, all, { account: robot.id })];
    const blind = await make(owner.credential, ['row.read', 'row.create']);
    const read = (by: Buffer) =>
      app.rows<{ number: string }>(by, 'select ward.people_number(p) as number from ward.people p');
    for (const { id, credential } of keys) {
      await app.rows(credential, "insert into ward.people (number) values ('078-05-1120')");
      expect((await read(credential)).map(({ number }) => number)).toContain('078-05-1120');
      const { rows } = await admin.query(
        "select action, actor_id, session_id from audit.events where details ->> 'apiKey' = $1 and action = 'value.open'",
        [id],
      );
      expect(rows[0]).toEqual({
        action: 'value.open',
        actor_id: id === keys[0]?.id ? owner.id : null,
        session_id: null,
      });
    }
    expect(await read(blind.credential)).toEqual([{ number: null }, { number: null }]);
  });
});
