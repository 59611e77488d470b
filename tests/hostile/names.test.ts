// SECURITY 2.1: whose objects a name finds, and with whose rights a function runs (PG-01 to PG-05, PG-07, PG-08).
import { beforeAll, describe, expect, it } from 'vitest';
import { callable, callOf } from './functions.ts';
import { attempt, hostilePlace, type Place } from './place.ts';

let place: Place;
beforeAll(async () => {
  place = await hostilePlace();
});

/** Objects of a caller's own under the names that functions use: types that spy, and tables with other rows. */
const SHADOWS = `
  create function pg_temp.spy(anyelement) returns boolean language plpgsql as $$
  begin raise notice 'spied as %', current_user; return true; end $$;
  create domain pg_temp.text as pg_catalog.text check (pg_temp.spy(value));
  create domain pg_temp.uuid as pg_catalog.uuid check (pg_temp.spy(value));
  create domain pg_temp.bytea as pg_catalog.bytea check (pg_temp.spy(value));
  create domain pg_temp.jsonb as pg_catalog.jsonb check (pg_temp.spy(value));
  create domain pg_temp.integer as pg_catalog.int4 check (pg_temp.spy(value));
  create domain pg_temp.bigint as pg_catalog.int8 check (pg_temp.spy(value));
  create domain pg_temp.boolean as pg_catalog.bool check (pg_temp.spy(value));
  create domain pg_temp.timestamptz as pg_catalog.timestamptz check (pg_temp.spy(value));`;

describe('a function finds what its author meant', () => {
  it('PG-01 each function of ours has the one safe search_path, and no definer function elsewhere lacks it', async () => {
    const { rows } = await place.admin.query(`select p.oid::regprocedure::text as name from pg_proc p
      where (prosecdef or pronamespace::regnamespace::text !~ '^(pg_|information_schema|extensions|public|graphile_)')
        and pronamespace::regnamespace::text not in ('pg_catalog', 'information_schema')
        and not coalesce(proconfig, '{}') @> '{"search_path=pg_catalog, pg_temp"}'
        -- The names in a body of the form "return …" were resolved when it was made.
        and (prosecdef or prosqlbody is null)`);
    expect(rows).toEqual([]);
  });

  it('PG-01 a caller with a search_path of her own gets what everybody gets', async () => {
    await place.everyone(async (client, { name }) => {
      const before = await attempt(client, 'select request.user_id() as u, request.organization_id() as o');
      await client.query('set local search_path = pg_temp, clinic, public');
      const after = await attempt(client, 'select request.user_id() as u, request.organization_id() as o');
      expect(after, name).toEqual(before);
    });
  });

  it('PG-02 nobody may make a temporary object', async () => {
    const { rows } = await place.admin.query(`select rolname from pg_roles
      where rolname like 'safetypin\\_%' and rolname <> 'safetypin_owner' and has_database_privilege(oid, current_database(), 'temp')`);
    expect(rows).toEqual([]);
    await place.everyone(async (client, { name }) => {
      for (const attack of [
        'create temporary table patients (id int)',
        "create domain pg_temp.text as pg_catalog.text check (value <> '')",
        "create function pg_temp.leak(t text) returns boolean language sql as 'select true'",
        'create temporary view patients as select 1',
        'create temporary sequence s',
      ])
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
      await client.query('reset role');
      expect((await attempt(client, 'create temporary table patients (id int)')).code, name).toBe('42501');
    });
  });

  it('PG-02 and if somebody could: types and tables of hers are found by a naive function, by none of ours', async () => {
    await place.admin.query(`grant temporary on database ${place.db.name} to public;
      create table clinic.naive_rows (v text);
      create function clinic.naive() returns text language plpgsql security definer set search_path = '' as
        $$ declare v text := 'x'; begin return v; end $$;
      create function clinic.naive_table() returns bigint language sql security definer set search_path = clinic as
        $$ select count(*) from naive_rows $$;
      grant execute on function clinic.naive(), clinic.naive_table() to safetypin_member`);
    const tables = await place.admin.query<{ name: string; schema: string }>(
      `select relname as name, relnamespace::regnamespace::text as schema from pg_class
        where relkind in ('r', 'p') and relnamespace::regnamespace::text ~ '^(access|api|audit|identity|keyring|platform|sessions|request)'`,
    );
    const functions = await callable(place.admin, 'safetypin_member');
    try {
      await place.one('ada', async (client) => {
        const spied: string[] = [];
        client.on('notice', ({ message }) => spied.push(String(message)));
        const calls = functions.filter(({ name }) => !/logout|revoke_/.test(name)).map((one) => callOf(one, place));
        const ask = async () => {
          const said = [];
          for (const { text, values } of calls) said.push((await attempt(client, text, values)).code);
          return said;
        };
        // So that the casts of the calls themselves mean the caller's types to nobody.
        await client.query('set local search_path = pg_catalog, pg_temp');
        const honest = await ask();
        await client.query(SHADOWS);
        await client.query(
          tables.rows
            .map(({ name }) => `create temporary table if not exists "${name}" (id pg_catalog.int4);`)
            .join(''),
        );
        await client.query(
          'create temporary table naive_rows (v pg_catalog.int4); insert into naive_rows values (1), (2)',
        );
        expect((await client.query('select clinic.naive()')).rowCount).toBe(1);
        expect(spied.splice(0)).toContain('spied as postgres');
        expect((await client.query('select clinic.naive_table() as n')).rows).toEqual([{ n: '2' }]);
        expect(await ask()).toEqual(honest);
        expect(honest.filter((code) => code === 'ok').length).toBeGreaterThan(15);
        expect(spied).toEqual([]);
        const { rows } = await client.query('select request.user_id() as u, request.can($1) as c', ['row.read']);
        expect(rows).toEqual([{ u: place.ada.id, c: true }]);
        client.removeAllListeners('notice');
      });
    } finally {
      await place.admin.query(`revoke temporary on database ${place.db.name} from public;
        drop function clinic.naive(); drop function clinic.naive_table(); drop table clinic.naive_rows`);
    }
  });
});

describe('nobody plants anything', () => {
  const PLANTS = [
    'create function %S.plant() returns int language sql as $$ select 1 $$',
    'create table %S.plant (id int)',
    'create view %S.plant as select 1',
    'create type %S.plant as (a int)',
    'create domain %S.plant as int',
    'create sequence %S.plant',
    'create operator %S.=== (leftarg = uuid, rightarg = uuid, function = uuid_eq)',
    'create collation %S.plant from "C"',
    'create statistics %S.plant on organization_id, name from clinic.patients',
  ];

  it('PG-03 no run-time role may create in any schema', async () => {
    const { rows: schemas } = await place.admin.query<{ name: string }>(
      "select nspname as name from pg_namespace where nspname !~ '^pg_(temp|toast)'",
    );
    const { rows } = await place.admin.query(`select r.rolname, n.nspname from pg_roles r, pg_namespace n
      where r.rolname like 'safetypin\\_%' and r.rolname <> 'safetypin_owner' and n.nspname !~ '^pg_(temp|toast)'
        and has_schema_privilege(r.oid, n.oid, 'create')`);
    expect(rows).toEqual([]);
    await place.everyone(async (client, { name, connection }) => {
      for (const { name: schema } of connection === 'fresh' ? schemas : [{ name: 'public' }, { name: 'clinic' }])
        for (const plant of PLANTS) {
          const { code } = await attempt(client, plant.replace('%S', schema));
          expect(['42501'], `${name}: ${plant} in ${schema}`).toContain(code);
        }
      for (const attack of ['create schema plant', 'create publication plant'])
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
    });
  });

  it('PG-07 no operator, cast, type or anything else belongs to a run-time role, and none can make one', async () => {
    const { rows } = await place.admin.query(`select pg_describe_object(classid, objid, objsubid) as what
      from pg_shdepend d join pg_database b on b.datname = current_database()
      where d.refclassid = 'pg_authid'::regclass and d.deptype = 'o' and d.dbid in (0, b.oid)
        and d.refobjid::regrole::text ~ '^safetypin_(authenticator|anonymous|member|jobs|auditor)$'`);
    expect(rows).toEqual([]);
    await place.everyone(async (client, { name }) => {
      for (const attack of [
        'create cast (text as uuid) with inout as implicit',
        'create cast (jsonb as integer) with inout as assignment',
        'create access method plant type table handler heap_tableam_handler',
        'create operator class clinic.plant for type uuid using btree as operator 1 <',
        "create text search configuration clinic.plant (parser = 'default')",
        'create event trigger plant on ddl_command_end execute function audit_private.refuse_change()',
      ])
        expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
    });
  });

  it('PG-08 no extension reaches outside, and nobody can add one', async () => {
    const { rows } = await place.admin.query('select extname from pg_extension order by 1');
    expect(rows.map(({ extname }) => extname)).toEqual(['pgcrypto', 'plpgsql']);
    await place.everyone(async (client, { name }) => {
      for (const extension of [
        'citext',
        'hstore',
        'dblink',
        'postgres_fdw',
        'file_fdw',
        'refint',
        'adminpack',
        'plperl',
      ])
        expect((await attempt(client, `create extension ${extension}`)).code, `${name}: ${extension}`).toMatch(
          /^(42501|0A000|58P01)$/,
        );
      expect((await attempt(client, 'alter extension pgcrypto update')).code, name).toBe('42501');
    });
  });
});

describe('a function runs for whom it is meant, with rights that fit', () => {
  it('PG-04 PUBLIC may execute nothing of ours, now or later', async () => {
    const { rows } = await place.admin.query(`select p.oid::regprocedure::text as name
      from pg_proc p, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
      where a.grantee = 0 and pronamespace::regnamespace::text !~ '^(pg_catalog|information_schema|extensions|graphile_migrate)$'`);
    expect(rows).toEqual([]);
    for (const role of ['safetypin_owner', 'safetypin_keeper', 'safetypin_definer']) {
      await place.admin.query('begin');
      await place.admin.query(`grant create on schema clinic to ${role}; set local role ${role};
        create function clinic.next_one() returns int language sql as 'select 1'; reset role`);
      const found = await place.admin.query(
        `select has_function_privilege('safetypin_member', 'clinic.next_one()', 'execute') as may`,
      );
      await place.admin.query('rollback');
      expect(found.rows, role).toEqual([{ may: false }]);
    }
  });

  it('PG-04 a function that is not granted is refused, by whatever way it is named', async () => {
    const closed = await place.admin.query<{ signature: string; name: string; args: string }>(
      `select p.oid::regprocedure::text as signature, format('%I.%I', nspname, proname) as name,
          (select coalesce(string_agg('null::' || format_type(t, null), ', ' order by o), '') from unnest(proargtypes) with ordinality u(t, o)) as args
         from pg_proc p join pg_namespace n on n.oid = pronamespace
        where nspname ~ '^(access|api|audit|identity|keyring|platform|sessions|request|graphile_worker)' and prorettype <> 'trigger'::regtype
          and not has_function_privilege('safetypin_member', p.oid, 'execute')
          and not has_function_privilege('safetypin_anonymous', p.oid, 'execute') and not has_function_privilege('safetypin_jobs', p.oid, 'execute')`,
    );
    expect(closed.rows.length).toBeGreaterThan(30);
    await place.everyone(async (client, { name, connection }) => {
      if (connection === 'pooled') return;
      for (const one of closed.rows)
        expect((await attempt(client, `select ${one.name}(${one.args})`)).code, `${name}: ${one.signature}`).toBe(
          '42501',
        );
    });
  });

  it('PG-05 the owners of definer functions cannot log in, are not strong, and pass no policy by themselves', async () => {
    const { rows } =
      await place.admin.query(`select distinct r.rolname, r.rolcanlogin, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb, r.rolreplication
      from pg_proc p join pg_roles r on r.oid = p.proowner
      where prosecdef and p.pronamespace::regnamespace::text <> 'clinic' order by 1`);
    const weak = {
      rolcanlogin: false,
      rolsuper: false,
      rolbypassrls: false,
      rolcreaterole: false,
      rolcreatedb: false,
      rolreplication: false,
    };
    // The owner has one, reviewed in the lints: it makes partitions.
    expect(rows).toEqual(
      ['safetypin_definer', 'safetypin_keeper', 'safetypin_owner'].map((rolname) => ({ rolname, ...weak })),
    );
    for (const role of ['safetypin_definer', 'safetypin_keeper']) {
      await place.admin.query('begin');
      await place.admin.query(`set local role ${role}`);
      expect((await attempt(place.admin, 'select * from clinic.patients')).code, role).toBe('42501');
      expect((await attempt(place.admin, 'alter table identity.people disable row level security')).code, role).toBe(
        '42501',
      );
      await place.admin.query('rollback');
    }
  });
});
