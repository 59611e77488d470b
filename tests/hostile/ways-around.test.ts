// SECURITY 2.3: ways to data that lead past its tables (PG-41, PG-42, PG-44, PG-45).
import { beforeAll, describe, expect, it } from 'vitest';
import { provisionContents } from '../../src/platform/migrate/provision.ts';
import { attempt, CANARY, hostilePlace, kept, type Place } from './place.ts';

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

  it('PG-41 an administrator who does not own them, as on a managed server, is told to have them closed', async () => {
    const managed = `managed_${place.db.name}`;
    await place.admin.query(
      `create role ${managed}; grant safetypin_owner to ${managed}; grant execute on function lo_create(oid) to public`,
    );
    const client = await place.db.connect('admin');
    const said: string[] = [];
    try {
      await client.query(`set role ${managed}`);
      await provisionContents(client, place.db.name, (line) => said.push(line));
      expect(said.join(' ')).toContain('lo_');
      await client.query('reset role');
      said.length = 0;
      await provisionContents(client, place.db.name, (line) => said.push(line));
      expect(said).toEqual([]);
      expect(
        (await client.query("select has_function_privilege('public', 'lo_create(oid)', 'execute') as open")).rows,
      ).toEqual([{ open: false }]);
    } finally {
      await client.query(`reset role; drop role ${managed}`);
    }
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

  it("PG-42 nobody ends another's statement or connection, not even as the login that all share", async () => {
    const bob = await place.app.pool.connect();
    await bob.query('begin');
    await place.app.open(bob, place.bob.credential);
    const { pid } = (await bob.query('select pg_backend_pid() as pid')).rows[0];
    try {
      await place.everyone(async (client, { name }) => {
        for (const role of ['its own', "the login's"]) {
          if (role === "the login's") await client.query('reset role');
          for (const attack of ['pg_terminate_backend', 'pg_cancel_backend'])
            expect((await attempt(client, `select ${attack}(${pid})`)).code, `${name}: ${attack} as ${role}`).toBe(
              '42501',
            );
        }
      });
      expect((await bob.query('select name from clinic.patients')).rows).toEqual([{ name: CANARY.bob }]);
    } finally {
      await bob.query('rollback').catch(() => {});
      bob.release();
    }
    const { rows } = await place.admin.query(
      "select has_function_privilege('pg_signal_backend', 'pg_terminate_backend(int, bigint)', 'execute') as operators",
    );
    expect(rows).toEqual([{ operators: true }]);
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
