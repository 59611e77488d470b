// SECURITY 2.3: what a server tells about its other users beside rows (PG-37 to PG-45).
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

describe('counting', () => {
  it('PG-37 nobody may read, draw from or set a sequence, and ids that clients see are not counted', async () => {
    const { rows } = await place.admin.query<{ name: string }>(
      "select oid::regclass::text as name from pg_class where relkind = 'S' and relnamespace::regnamespace::text !~ '^pg_'",
    );
    expect(rows.length).toBeGreaterThan(1);
    await place.everyone(async (client, { name, who }) => {
      for (const { name: sequence } of rows)
        for (const attack of [
          `select nextval('${sequence}')`,
          `select currval('${sequence}')`,
          `select setval('${sequence}', 1)`,
          `select last_value from ${sequence}`,
        ]) {
          const { code } = await attempt(client, attack);
          expect(code, `${name}: ${attack}`).toBe('42501');
        }
      expect((await attempt(client, 'select lastval()')).code, name).toBe('55000');
      const seen = await attempt(
        client,
        "select sequencename, last_value from pg_sequences where last_value is not null and schemaname !~ '^pg_'",
      );
      expect(seen.rows, `${name} ${who}`).toEqual([]);
    });
    const counted =
      await place.admin.query(`select a.attrelid::regclass::text as name from pg_attribute a join pg_class c on c.oid = a.attrelid
      where (a.attidentity <> '' or pg_get_serial_sequence(c.oid::regclass::text, a.attname) is not null) and c.relkind in ('r', 'p')
        and has_table_privilege('safetypin_member', c.oid, 'select') and c.relnamespace::regnamespace::text !~ '^pg_'`);
    expect(counted.rows).toEqual([]);
  });

  it('PG-40 counts and sizes are her own, and what the server knows of a whole table names no organization', async () => {
    await place.everyone(async (client, { name, who }) => {
      const isPerson = who === 'ada' || who === 'bob';
      for (const [statement, answer] of [
        ['select count(*)::int as n from clinic.patients', { n: 1 }],
        [
          'select count(distinct name)::int as n, max(age) as n2 from clinic.patients',
          { n: 1, n2: who === 'bob' ? 42 : 41 },
        ],
        [
          'select sum(age)::int as n from clinic.patients group by rollup (organization_id) limit 1',
          { n: who === 'bob' ? 42 : 41 },
        ],
        ['select count(*)::int as n from clinic.patients tablesample bernoulli (100)', { n: 1 }],
        ['select count(*)::int as n from access.organizations', { n: 1 }],
        ["select count(*)::int as n from clinic.patients where ctid < '(4294967295,0)'", { n: 1 }],
      ] as const) {
        const got = await attempt(client, statement);
        if (isPerson) expect(got.rows[0], `${name}: ${statement}`).toEqual(answer);
        else expect(got.code, `${name}: ${statement}`).toBe('42501');
      }
      // One number for all organizations together: neither table nor index belongs to one of them.
      const known = await attempt(
        client,
        "select c::text as row, pg_relation_size(oid) from pg_class c where relnamespace::regnamespace::text = 'clinic'",
      );
      const all = JSON.stringify(known.rows);
      for (const person of [place.ada, place.bob]) expect(all, name).not.toContain(person.organization);
      for (const canary of [CANARY.ada, CANARY.bob]) expect(all, name).not.toContain(canary);
    });
    const { rows } = await place.admin.query(`select c.oid::regclass::text as name from pg_class c
      left join pg_index i on i.indexrelid = c.oid
      where pg_get_expr(i.indpred, i.indrelid) ~ '[0-9a-f]{8}-' or (c.relispartition and pg_get_expr(c.relpartbound, c.oid) ~ '[0-9a-f]{8}-')`);
    expect(rows).toEqual([]);
  });
});

describe('what others do', () => {
  it("PG-38 an error names no value of another organization's row", async () => {
    for (const who of ['ada', 'bob', 'anonymous', 'worker'] as const)
      await place.one(who, async (client, { name }) => {
        for (const attack of [
          `insert into clinic.patients (name, age) values ('${CANARY[who === 'ada' ? 'ada' : 'bob']}', 1)`,
          'insert into clinic.patients (name, age) select name, age from clinic.patients',
          'insert into clinic.patients (name, age) values (null, -1)',
          'insert into clinic.patients (name, age) select name, -1 from clinic.patients',
          'update clinic.patients set age = -1',
          'select name::int from clinic.patients',
          'select name::uuid from clinic.adults',
          'select (notes ->> 0)::int, (notes ->> $$note$$)::int from clinic.patients',
          'insert into clinic.visits (patient_id) select id from clinic.visits',
          "select 'x'::regclass",
          'delete from access.organizations',
          'select * from clinic.measures_all',
        ]) {
          const got = await attempt(client, attack);
          expect(got.code, `${name}: ${attack}`).not.toBe('none');
          for (const canary of foreignTo(who))
            if (!attack.includes(canary)) expect(JSON.stringify(got), `${name}: ${attack}`).not.toContain(canary);
        }
      });
  });

  it('PG-39 a row that another organization holds is neither waited for nor seen in the locks', async () => {
    const bob = await place.app.pool.connect();
    await bob.query('begin');
    await place.app.open(bob, place.bob.credential);
    await bob.query('select from clinic.patients for update');
    await bob.query("update clinic.visits set room = 'held'");
    try {
      await place.one('ada', async (client, { name }) => {
        await client.query(
          "set local lock_timeout = '300ms'; set local enable_indexscan = off; set local enable_bitmapscan = off",
        );
        for (const attack of [
          'select name from clinic.patients for update',
          'select name from clinic.patients for update nowait',
          'select name from clinic.patients for update skip locked',
          'update clinic.patients set age = 1 returning name',
        ])
          expect((await attempt(client, attack)).rows, `${name}: ${attack}`).toEqual([{ name: CANARY.ada }]);
        expect((await attempt(client, 'lock table clinic.patients in share row exclusive mode')).code, name).toMatch(
          /^(55P03|42501)$/,
        );
        // Who waits for whom is there for everybody, by numbers: no query, no address, no row.
        const locks = await attempt(client, 'select l::text as row from pg_locks l');
        expect(JSON.stringify(locks.rows), name).not.toMatch(new RegExp(`${CANARY.bob}|${place.bob.organization}`));
      });
    } finally {
      await bob.query('rollback');
      bob.release();
    }
    const { rows } = await place.admin.query(
      "select from pg_proc where proname in ('pgrowlocks', 'get_raw_page', 'pgstattuple', 'pg_buffercache_pages')",
    );
    expect(rows).toEqual([]);
  });

  it('PG-43 a role of the API sees no statement of others; the login sees statements without values', async () => {
    const bob = await place.app.pool.connect();
    await bob.query('begin');
    await place.app.open(bob, place.bob.credential);
    await bob.query({
      name: 'bobs',
      text: 'select name from clinic.patients where name = $1',
      values: ['bob-looks-for'],
    });
    try {
      await place.everyone(async (client, { name, who }) => {
        const statements = async () =>
          JSON.stringify(
            (await attempt(client, 'select pid, query from pg_stat_activity where pid <> pg_backend_pid()')).rows,
          );
        const seen = await attempt(
          client,
          "select query from pg_stat_activity where pid <> pg_backend_pid() and usename <> 'safetypin_jobs' and query <> ''",
        );
        expect(new Set(seen.rows.map(({ query }) => query)), name).toEqual(new Set(['<insufficient privilege>']));
        expect((await attempt(client, "select from pg_prepared_statements where name = 'bobs'")).rows, name).toEqual(
          [],
        );
        if (who !== 'worker') await client.query('reset role');
        // As the login itself: the text of the statement, never a value, and never what opens a session.
        const asLogin = await statements();
        if (who !== 'worker') expect(asLogin, name).toContain('where name = $1');
        for (const secret of [
          'bob-looks-for',
          place.bob.credential.toString('hex'),
          place.bob.tag.toString('hex'),
          place.bob.email,
        ])
          expect(asLogin, name).not.toContain(secret);
        expect(
          (
            await attempt(
              client,
              'select context from pg_stat_ssl, pg_stat_gssapi, pg_show_all_settings() as s (name) where false',
            )
          ).code,
          name,
        ).not.toBe('ok');
        const settings = await attempt(client, "select setting from pg_settings where name ~ 'safetypin'");
        expect(JSON.stringify(settings.rows), name).not.toContain(place.bob.organization);
      });
      const available = await place.admin.query("select from pg_extension where extname = 'pg_stat_statements'");
      expect(available.rowCount).toBe(0);
    } finally {
      await bob.query('rollback');
      bob.release();
    }
  });
});

describe('ways around tables', () => {
  it('PG-41 nobody makes, reads or writes a large object: they have no row-level security', async () => {
    const { rows } =
      await place.admin.query(`select r.rolname, p.oid::regprocedure::text as name from pg_proc p, pg_roles r
      where r.rolname like 'safetypin\\_%' and p.pronamespace = 'pg_catalog'::regnamespace and p.proname ~ '^(lo_|lo(read|write)$)'
        and has_function_privilege(r.oid, p.oid, 'execute')`);
    expect(rows).toEqual([]);
    const { oid } = (await place.admin.query("select lo_from_bytea(0, 'theirs') as oid")).rows[0];
    await place.everyone(async (client, { name }) => {
      for (const attack of [
        'select lo_create(0)',
        'select lo_creat(-1)',
        "select lo_from_bytea(0, 'x')",
        `select lo_open(${oid}, 393216)`,
        `select lo_get(${oid})`,
        `select lo_put(${oid}, 0, 'x')`,
        `select lo_unlink(${oid})`,
        'select loread(0, 10)',
        "select lowrite(0, 'x')",
        "select lo_import('/etc/passwd')",
        `select lo_export(${oid}, '/tmp/x')`,
        'select from pg_largeobject',
      ]) {
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      }
      await client.query('reset role');
      expect((await attempt(client, 'select lo_create(0)')).code, `${name}, as the login`).toBe('42501');
    });
  });

  it('PG-42 nobody reads or writes a file of the server, runs a program, or is in a role that may', async () => {
    const { rows } = await place.admin.query(
      `with recursive reach as (
        select oid as start, oid as role from pg_roles where rolname = any ($1)
        union select r.start, m.roleid from reach r join pg_auth_members m on m.member = r.role)
      select start::regrole::text, role::regrole::text from reach where role::regrole::text ~ '^pg_'`,
      [RUNTIME],
    );
    expect(rows).toEqual([]);
    await place.everyone(async (client, { name }) => {
      for (const attack of [
        "copy (select 1) to '/tmp/safetypin-planted'",
        "copy clinic.patients from '/etc/passwd'",
        "copy (select 1) to program 'id'",
        "copy clinic.patients from program 'id'",
        "select pg_read_file('postgresql.conf')",
        "select pg_read_binary_file('PG_VERSION')",
        "select pg_ls_dir('.')",
        "select pg_stat_file('PG_VERSION')",
        'select * from pg_ls_logdir()',
        'select * from pg_ls_waldir()',
        'select * from pg_hba_file_rules',
        'select * from pg_file_settings',
        'select rolpassword from pg_authid',
        'select * from pg_shadow',
        'select pg_reload_conf()',
        'select pg_switch_wal()',
        'checkpoint',
        'select * from pg_user_mapping',
        'vacuum clinic.patients',
      ]) {
        const { code } = await attempt(client, attack);
        expect(['42501', '25001'], `${name}: ${attack}: ${code}`).toContain(code);
      }
      const others = await attempt(
        client,
        "select pg_cancel_backend(pid) as ended from pg_stat_activity where usename = 'postgres' and pid <> pg_backend_pid() limit 1",
      );
      expect(others.code, name).toBe('42501');
    });
  });

  it('PG-44 grants on tables are of select, insert, update and delete alone', async () => {
    const { rows } =
      await place.admin.query(`select c.oid::regclass::text as name, a.grantee::regrole::text as role, a.privilege_type
      from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
      where n.nspname !~ '^(pg_|information_schema)' and c.relkind in ('r', 'p', 'v') and a.grantee <> c.relowner
        and a.privilege_type not in ('SELECT', 'INSERT', 'UPDATE', 'DELETE')`);
    expect(rows).toEqual([]);
    await place.everyone(async (client, { name }) => {
      for (const table of [
        'clinic.patients',
        'access.organizations',
        'audit.events',
        'graphile_worker._private_jobs',
        'sessions.sessions',
      ])
        for (const attack of [
          `truncate ${table} cascade`,
          `create trigger planted before insert on ${table} for each row execute function suppress_redundant_updates_trigger()`,
          `create index planted on ${table} ((1))`,
          `create rule planted as on insert to ${table} do instead nothing`,
          `alter table ${table} add planted int`,
          `cluster ${table} using planted`,
          `comment on table ${table} is 'x'`,
          `alter table ${table} replica identity full`,
          `alter table ${table} disable trigger all`,
          `drop table ${table} cascade`,
          `reindex table ${table}`,
        ])
          expect(['42501', '25001'], `${name}: ${attack}`).toContain((await attempt(client, attack)).code);
    });
  });

  it('PG-45 nobody replicates: no publication, no slot, no login that may', async () => {
    const { rows } =
      await place.admin.query(`select 'publication ' || pubname as what from pg_publication union all select 'subscription ' || subname from pg_subscription
      union all select 'slot ' || slot_name from pg_replication_slots where database = current_database()
      union all select 'role ' || rolname from pg_roles where rolreplication and rolname like 'safetypin\\_%'`);
    expect(rows).toEqual([]);
    await place.everyone(async (client, { name }) => {
      for (const attack of [
        'create publication planted',
        'create publication planted for table clinic.patients',
        'create publication planted for all tables',
        "create subscription planted connection 'host=localhost' publication p with (connect = false)",
        "select pg_create_logical_replication_slot('planted', 'pgoutput')",
        "select pg_create_physical_replication_slot('planted')",
        'select * from pg_replication_origin_status',
        "select pg_replication_origin_create('planted')",
        "select * from pg_logical_slot_peek_changes('planted', null, null)",
      ])
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
    });
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const { Client } = (await import('pg')).default;
      const walsender = new Client({ ...place.db.config(login), replication: 'database' } as never);
      await expect(walsender.connect(), login).rejects.toMatchObject({ code: '42501' });
    }
  });

  it('PG-45 the probe sees: a publication gives everything of everybody, whatever the policies say', async () => {
    await place.admin.query('create publication naive for table clinic.patients');
    const { rows } = await place.admin.query(
      "select tablename, rowfilter from pg_publication_tables where pubname = 'naive'",
    );
    expect(rows).toEqual([{ tablename: 'patients', rowfilter: null }]);
    await place.admin.query('drop publication naive');
    expect((await kept(place.admin, 'select from pg_publication')).count).toBe(0);
  });
});
