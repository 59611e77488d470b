// SECURITY 2.2: whether policies say what they mean, against every command (PG-14 to PG-16, PG-18 to PG-21).
import { beforeAll, describe, expect, it } from 'vitest';
import { attempt, CANARY, hostilePlace, type Place, type Who } from './place.ts';

let place: Place;
beforeAll(async () => {
  place = await hostilePlace();
});

const RUNTIME = [
  'safetypin_authenticator',
  'safetypin_anonymous',
  'safetypin_member',
  'safetypin_jobs',
  'safetypin_auditor',
];
const TENANT_TABLES = ['clinic.patients', 'clinic.visits', 'clinic.measures'];

describe('policies', () => {
  it('PG-14 of one table, command and role: one permissive, and none of a client that says true to a write', async () => {
    const { rows } =
      await place.admin.query(`select polrelid::regclass::text as name, command, role::regrole::text as role, count(*)
      from pg_policy, unnest(polroles) as r (role), unnest(case polcmd when '*' then '{r,a,w,d}' else array[polcmd::text] end) as c (command)
      where polpermissive group by 1, 2, 3 having count(*) > 1`);
    expect(rows).toEqual([]);
    const open = await place.admin.query(
      `select polrelid::regclass::text as name, polname from pg_policy
      where polpermissive and polcmd <> 'r' and polroles && (select array_agg(oid) from pg_roles where rolname = any ($1) and rolname <> 'safetypin_jobs')
        and 'true' in (pg_get_expr(polqual, polrelid), pg_get_expr(polwithcheck, polrelid))`,
      [RUNTIME],
    );
    expect(open.rows).toEqual([]);
  });

  const foreignOf = (who: Who) => (who === 'ada' ? place.bob : place.ada);

  it('PG-15 a row cannot be put into, moved to or copied over to another organization', async () => {
    for (const who of ['ada', 'bob'] as const)
      await place.one(who, async (client, { name }) => {
        const other = `'${foreignOf(who).organization}'`;
        for (const table of TENANT_TABLES)
          for (const attack of [
            `update ${table} set organization_id = ${other}`,
            `update ${table} set (organization_id) = (select ${other}::uuid)`,
            `insert into ${table} (organization_id) values (${other})`,
            `insert into ${table} (organization_id, id) select ${other}, id from ${table}`,
            `insert into ${table} select (jsonb_populate_record(t, '{"organization_id": ${other.replaceAll("'", '"')}}')).* from ${table} t`,
            `copy ${table} (organization_id) from stdin`,
          ])
            expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      });
    for (const who of ['anonymous', 'worker'] as const)
      await place.one(who, async (client, { name }) => {
        for (const table of TENANT_TABLES)
          for (const attack of [
            `update ${table} set id = id`,
            `delete from ${table}`,
            `insert into ${table} default values`,
          ])
            expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      });
  });

  it('PG-15 and its policy refuses it where a host grants the column by mistake', async () => {
    await place.admin.query('grant insert, update on clinic.patients to safetypin_member');
    try {
      await place.one('ada', async (client, { name }) => {
        const other = place.bob.organization;
        for (const attack of [
          `update clinic.patients set organization_id = '${other}'`,
          `insert into clinic.patients (organization_id, name) values ('${other}', 'planted')`,
          `insert into clinic.patients (organization_id, name) values ('${other}', '${CANARY.bob}') on conflict do nothing`,
          `insert into clinic.patients (organization_id, name) values ('${other}', '${CANARY.bob}') on conflict (organization_id, name) do update set name = 'taken'`,
          `insert into clinic.patients (name) values ('${CANARY.ada}') on conflict (organization_id, name) do update set organization_id = '${other}'`,
          `merge into clinic.patients p using (select 1) s on true when matched then update set organization_id = '${other}'`,
          `merge into clinic.patients p using (select 1) s on false when not matched then insert (organization_id, name) values ('${other}', 'planted')`,
        ])
          expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      });
    } finally {
      await place.admin
        .query("revoke all on clinic.patients from safetypin_member; select access.protect('clinic.patients')")
        .catch(() => {});
      await place.owner.query("select access.protect('clinic.patients')");
    }
  });

  it('PG-16 MERGE and upsert over rows of another organization touch none (CVE-2023-39418)', async () => {
    const before = (await place.admin.query('select p::text from clinic.patients p order by 1')).rows;
    for (const who of ['ada', 'bob'] as const)
      await place.one(who, async (client, { name }) => {
        const theirs = CANARY[who === 'ada' ? 'bob' : 'ada'];
        const attacks: [string, string, number][] = [
          [
            `merge into clinic.patients p using (select 1) s on true when matched and p.name = '${theirs}' then delete`,
            'ok',
            0,
          ],
          [
            `merge into clinic.patients p using (select 1) s on p.name = '${theirs}' when matched then update set age = 1 when not matched then do nothing`,
            'ok',
            0,
          ],
          [
            'merge into clinic.patients p using (select 1) s on p.age > 0 when matched then update set age = 1',
            'ok',
            1,
          ],
          // Reads no column, so PostgreSQL asks no policy of select: it meets the others' rows, and fails for them.
          ['merge into clinic.patients p using (select 1) s on true when matched then update set age = 1', '42501', 0],
          ['merge into clinic.patients p using (select 1) s on true when matched then delete', '42501', 0],
          [
            `merge into clinic.patients p using (select 1) s on p.name = '${theirs}' when matched then delete when not matched then insert (name) values ('${theirs}')`,
            'ok',
            1,
          ],
          [`insert into clinic.patients (name) values ('${theirs}') on conflict do nothing`, 'ok', 1],
          [
            `insert into clinic.patients (name) values ('${theirs}') on conflict (organization_id, name) do update set age = 99`,
            'ok',
            1,
          ],
          [
            `insert into clinic.patients (name) values ('${CANARY[who]}') on conflict (organization_id, name) do update set age = 99`,
            'ok',
            1,
          ],
        ];
        for (const [attack, code, count] of attacks) {
          const got = await attempt(client, attack);
          expect([got.code, got.count], `${name}: ${attack} ${got.message}`).toEqual([code, count]);
        }
      });
    for (const who of ['anonymous', 'worker'] as const)
      await place.one(who, async (client, { name }) => {
        for (const attack of [
          'merge into clinic.patients p using (select 1) s on true when matched then delete',
          "insert into clinic.patients (name) values ('x') on conflict do nothing",
        ])
          expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      });
    expect((await place.admin.query('select p::text from clinic.patients p order by 1')).rows).toEqual(before);
  });

  it('PG-18 a policy works for a role without rights on what it asks, neither failing nor falling silent', async () => {
    await place.one('ada', async (client, { name }) => {
      for (const helper of [
        'access_private.held_permissions',
        'sessions_private.credentials',
        'keyring_private.seal_keys',
        'platform_private.job_contexts',
      ])
        expect((await attempt(client, `select from ${helper}`)).code, `${name}: ${helper}`).toBe('42501');
      const { rows } = await place.admin.query<{
        name: string;
      }>(`select distinct c.oid::regclass::text as name from pg_policy p join pg_class c on c.oid = p.polrelid
        where 'safetypin_member'::regrole = any (p.polroles) and p.polcmd = 'r'`);
      const seen: string[] = [];
      for (const table of rows) {
        const { code, count } = await attempt(client, `select from ${table.name}`);
        expect(code, `${name}: ${table.name}`).toBe('ok');
        if (count > 0) seen.push(table.name);
      }
      expect(seen).toEqual(
        expect.arrayContaining([
          'access.organizations',
          'access.roles',
          'audit.events',
          'identity.people',
          'sessions.sessions',
          ...TENANT_TABLES,
        ]),
      );
    });
    const { rows } = await place.admin.query(`select polrelid::regclass::text as name, polname from pg_policy
      where coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), '') ~ '\\mFROM\\M' and polpermissive
        and polrelid::regclass::text <> 'sessions.activity'`);
    expect(rows).toEqual([]);
  });

  it('PG-19 an empty or garbled context is nobody: no row, and no error that would be an outage', async () => {
    const tables = [
      ...TENANT_TABLES,
      'access.organizations',
      'access.memberships',
      'audit.events',
      'identity.people',
      'sessions.sessions',
      'sessions.activity',
    ];
    const garbage = [
      null,
      '',
      ' ',
      'null',
      '{}',
      '[]',
      '0',
      'not-a-uuid',
      "'",
      '\\x',
      'zz'.repeat(200),
      'g'.repeat(400),
      '0'.repeat(337),
      'ff'.repeat(500),
      'ü'.repeat(338),
    ];
    await place.one('ada', async (client, { name }) => {
      const own = await client.query("select current_setting('safetypin.context') as context");
      for (const value of [
        ...garbage,
        `${own.rows[0].context}0`,
        own.rows[0].context.slice(0, -1),
        own.rows[0].context.toUpperCase(),
      ]) {
        await client.query("select set_config('safetypin.context', $1, true)", [value]);
        for (const table of tables) {
          const { code, count } = await attempt(client, `select from ${table}`);
          expect([code, count], `${name}: ${table} under ${String(value).slice(0, 20)}`).toEqual(['ok', 0]);
        }
        const said = await attempt(
          client,
          "select request.user_id() as u, request.organization_id() as o, request.can('row.read') as c, request.kind() as k",
        );
        expect(said.rows, name).toEqual([{ u: null, o: null, c: false, k: null }]);
        expect((await attempt(client, "insert into clinic.patients (name) values ('x')")).code, name).toMatch(
          /^(42501|23502)$/,
        );
      }
      await client.query("select set_config('safetypin.context', $1, true)", [own.rows[0].context]);
      expect((await attempt(client, 'select from clinic.patients')).count, name).toBe(1);
    });
    // What is left of a setting when its transaction is over.
    const client = await place.app.pool.connect();
    await client.query('begin; set local role safetypin_member');
    for (const table of tables) expect((await attempt(client, `select from ${table}`)).count, table).toBe(0);
    await client.query('rollback');
    client.release();
  });

  it('PG-20 are on where they stand, and stand where something is granted', async () => {
    const { rows } = await place.admin.query(
      `select c.oid::regclass::text as name from pg_class c
      where c.relkind in ('r', 'p') and (
        not c.relrowsecurity and exists (select from pg_policy p where p.polrelid = c.oid)
        or c.relnamespace::regnamespace::text !~ '^(pg_|information_schema|graphile_)' and not c.relispartition
          and exists (select from aclexplode(c.relacl) a where a.grantee::regrole::text = any ($1)
            and not exists (select from pg_policy p where p.polrelid = c.oid and (a.grantee = any (p.polroles) or 0 = any (p.polroles)))))`,
      [RUNTIME],
    );
    expect(rows).toEqual([]);
  });

  it('PG-21 ask nothing that a user can write', async () => {
    const { rows } = await place.admin.query(`select polrelid::regclass::text as name, polname from pg_policy p
      cross join lateral (select coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), '') as condition) c
      where condition ~ '(->|#>|jsonb?_|current_setting|metadata|\\mCURRENT_USER\\M|SESSION_USER)'`);
    expect(rows).toEqual([]);
    // What the conditions compare with: no command of a client writes it.
    await place.one('ada', async (client, { name }) => {
      for (const attack of [
        "update identity.people set status = 'active'",
        'update access.memberships set person_id = person_id',
        'update sessions.sessions set assurance = 3',
        'update clinic.patients set organization_id = organization_id',
        'insert into access.role_permissions select * from access.role_permissions',
        'update access.organizations set id = id',
        "insert into access.permissions (name, description) values ('a.b', 'c')",
        'delete from access.rules',
      ])
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
    });
  });
});
