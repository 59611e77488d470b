// SECURITY 2.2: whether row-level security is there, on everything, whoever asks (PG-10 to PG-13, PG-22).
import { beforeAll, describe, expect, it } from 'vitest';
import { attempt, CANARY, foreignTo, hostilePlace, kept, type Place } from './place.ts';

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

/** Every table, partition and view outside the catalogs, the host's too. */
async function relations(): Promise<{ name: string; kind: string }[]> {
  const { rows } = await place.admin.query(`select c.oid::regclass::text as name, c.relkind as kind from pg_class c
    join pg_namespace n on n.oid = c.relnamespace
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1`);
  return rows;
}

describe('every relation, asked by name', () => {
  it('PG-10 PG-12 has row-level security, ours forced, partitions and children too', async () => {
    const { rows } =
      await place.admin.query(`select c.oid::regclass::text as name, relrowsecurity, relforcerowsecurity from pg_class c
      join pg_namespace n on n.oid = relnamespace
      where relkind in ('r', 'p') and n.nspname !~ '^(pg_|information_schema|graphile_migrate)'
        and not (relrowsecurity and (relforcerowsecurity or n.nspname in ('clinic', 'graphile_worker')))
        -- Row-level security does not come down to partitions; ungranted, they are out of reach by name.
        and not (relispartition and relacl is null)
        -- graphile-worker's list of its own migrations.
        and c.oid <> 'graphile_worker.migrations'::regclass`);
    expect(rows).toEqual([]);
    const children =
      await place.admin.query(`select c.oid::regclass::text as name from pg_inherits i join pg_class c on c.oid = i.inhrelid
      where c.relkind in ('r', 'p') and not (relrowsecurity and relforcerowsecurity) and exists (
        select from aclexplode(c.relacl) a where a.grantee <> c.relowner)`);
    expect(children.rows).toEqual([]);
  });

  it('PG-10 PG-13 shows no attacker a row of somebody else, whole or in part', async () => {
    const all = await relations();
    expect(all.length).toBeGreaterThan(35);
    let looked = 0;
    await place.everyone(async (client, { name, who }) => {
      for (const relation of all) {
        const seen = await attempt(client, `select t::text as row from ${relation.name} t`);
        if (seen.code === '42501') continue;
        expect(seen.code, `${name}: ${relation.name}`).toBe('ok');
        looked += 1;
        const text = JSON.stringify(seen.rows);
        for (const canary of foreignTo(who)) expect(text, `${name}: ${relation.name}`).not.toContain(canary);
        const others = {
          ada: [place.bob],
          bob: [place.ada],
          anonymous: [place.ada, place.bob],
          worker: [place.ada, place.bob],
        };
        // Jobs name a mail, not a person.
        for (const other of others[who])
          expect(text, `${name}: ${relation.name}`).not.toMatch(
            new RegExp(`${other.id}|${other.organization}|${other.email}`),
          );
      }
    });
    expect(looked).toBeGreaterThan(60);
  });

  it('PG-10 and shows it to nobody who only has a login and its roles', async () => {
    const all = await relations();
    for (const role of RUNTIME) {
      const client = await place.db.connect(
        role === 'safetypin_jobs' ? 'jobs' : role === 'safetypin_auditor' ? 'auditor' : 'authenticator',
      );
      await client.query('begin');
      await client.query(`set local role ${role}`);
      for (const { name } of all.filter((one) => !/^(platform\.errors|graphile_worker\.)/.test(one.name))) {
        const { code, count } = await attempt(client, `select from ${name}`);
        expect(`${code} ${count}`, `${role}: ${name}`).toMatch(/^(42501|ok) 0$/);
      }
      await client.end();
    }
  });

  it('PG-12 a partition of the trail or of a host table is refused by its own name', async () => {
    const { rows } = await place.admin.query<{ name: string }>(
      'select inhrelid::regclass::text as name from pg_inherits i join pg_class c on c.oid = inhrelid where c.relkind = $1',
      ['r'],
    );
    expect(rows.length).toBeGreaterThan(4);
    await place.everyone(async (client, { name }) => {
      for (const partition of rows)
        for (const attack of [
          `select * from ${partition.name}`,
          `insert into ${partition.name} default values`,
          `delete from ${partition.name}`,
          `copy ${partition.name} to stdout`,
          `table only ${partition.name}`,
        ])
          expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
    });
  });

  it('PG-13 the probe sees: a view with the rights of its owner shows everything', async () => {
    await place.admin.query(
      'create view clinic.naive as select * from clinic.patients; grant select on clinic.naive to safetypin_member',
    );
    await place.one('ada', async (client) => {
      expect(JSON.stringify((await attempt(client, 'select * from clinic.naive')).rows)).toContain(CANARY.bob);
      expect((await attempt(client, 'select name from clinic.adults')).rows).toEqual([{ name: CANARY.ada }]);
    });
    await place.admin.query('drop view clinic.naive');
    const { rows } = await place.admin.query(`select oid::regclass::text as name from pg_class
      where relnamespace::regnamespace::text !~ '^(pg_|information_schema|graphile_worker)' and (relkind in ('m', 'f')
        or relkind = 'v' and not coalesce(reloptions, '{}') && '{security_invoker=true,security_invoker=on}')`);
    expect(rows).toEqual([]);
  });
});

describe('roles', () => {
  it('PG-11 no login reaches a role that is strong, by any chain of memberships', async () => {
    const version = Number(
      (await place.admin.query("select current_setting('server_version_num')::int as v")).rows[0].v,
    );
    // Before 16 a membership always allows SET ROLE; from 16 each says so, and what it may pass on.
    const edge = version >= 160000 ? 'm.set_option or m.inherit_option or m.admin_option' : 'true';
    const { rows } = await place.admin.query(
      `with recursive reach as (
        select oid as login, oid as role from pg_roles where rolname = any ($1)
        union select r.login, m.roleid from reach r join pg_auth_members m on m.member = r.role where ${edge})
      select login::regrole::text as login, string_agg(role::regrole::text, ' ' order by role::regrole::text) as reaches,
          bool_or(rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication) as strong
        from reach join pg_roles p on p.oid = role group by login order by 1`,
      [RUNTIME],
    );
    expect(rows).toEqual([
      { login: 'safetypin_anonymous', reaches: 'safetypin_anonymous', strong: false },
      { login: 'safetypin_auditor', reaches: 'safetypin_auditor', strong: false },
      {
        login: 'safetypin_authenticator',
        reaches: 'safetypin_anonymous safetypin_authenticator safetypin_member',
        strong: false,
      },
      { login: 'safetypin_jobs', reaches: 'safetypin_jobs', strong: false },
      { login: 'safetypin_member', reaches: 'safetypin_member', strong: false },
    ]);
    const passing = await place.admin.query(
      "select member::regrole::text from pg_auth_members where admin_option and member::regrole::text ~ '^safetypin_'",
    );
    expect(passing.rows).toEqual([]);
  });

  it('PG-11 nobody climbs', async () => {
    const strong = [
      'safetypin_owner',
      'safetypin_keeper',
      'safetypin_definer',
      'postgres',
      'pg_read_all_data',
      'pg_execute_server_program',
    ];
    await place.everyone(async (client, { name, who }) => {
      const self = who === 'worker' ? 'safetypin_jobs' : 'safetypin_authenticator';
      for (const attack of [
        ...strong.flatMap((role) => [
          `set role ${role}`,
          `set local role ${role}`,
          `grant ${role} to ${self}`,
          `set session authorization ${role}`,
          `select set_config('role', '${role}', true)`,
        ]),
        `alter role ${self} superuser`,
        `alter role ${self} bypassrls`,
        'create role climber',
        `alter role safetypin_owner login`,
        `alter role safetypin_keeper password 'known'`,
        'reassign owned by safetypin_owner to current_user',
        'alter table clinic.patients disable row level security',
        'alter table clinic.patients no force row level security',
        'drop policy safetypin_tenant_select on clinic.patients',
        'alter policy safetypin_tenant_select on clinic.patients using (true)',
        'set session_replication_role = replica',
        "load 'evil'",
      ])
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      const off = await attempt(client, 'set local row_security = off; select * from clinic.patients');
      expect(off.code, name).toBe('42501');
    });
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const client = await place.db.connect(login);
      for (const attack of [
        "alter system set session_preload_libraries = 'evil'",
        `alter database ${place.db.name} set row_security = off`,
        `drop database ${place.db.name}`,
        'create database climber',
      ])
        expect((await kept(client, attack)).code, `${login}: ${attack}`).toBe('42501');
      await client.end();
    }
  });
});

describe('timeouts', () => {
  it('PG-22 stand on every login, and no function of ours changes one', async () => {
    const version = Number(
      (await place.admin.query("select current_setting('server_version_num')::int as v")).rows[0].v,
    );
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const client = await place.db.connect(login);
      const wanted = [
        'statement_timeout',
        'lock_timeout',
        'idle_in_transaction_session_timeout',
        ...(login === 'authenticator' && version >= 170000 ? ['transaction_timeout'] : []),
      ];
      for (const setting of wanted)
        expect(
          (await client.query('select setting::int as ms from pg_settings where name = $1', [setting])).rows[0].ms,
          `${login} ${setting}`,
        ).toBeGreaterThan(0);
      await client.end();
    }
    const { rows } = await place.admin.query(`select p.oid::regprocedure::text as name from pg_proc p
      where pronamespace::regnamespace::text !~ '^(pg_|information_schema|extensions)' and (prosrc ~* '_timeout' or array_to_string(proconfig, ' ') ~* '_timeout')`);
    expect(rows).toEqual([]);
  });

  it('PG-22 end a statement that does not, for each attacker', async () => {
    await place.everyone(async (client, { name }) => {
      await client.query("set local statement_timeout = '50ms'");
      expect((await attempt(client, 'select pg_sleep(5)')).code, name).toBe('57014');
    });
  });
});
