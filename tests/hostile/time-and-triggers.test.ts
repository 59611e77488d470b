// SECURITY 2.5 as far as it touches what exists: what runs, as whom, and by which clock (PG-60, PG-64 to PG-67).
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { attempt, CANARY, hostilePlace, kept, type Place } from './place.ts';

let place: Place;
beforeAll(async () => {
  place = await hostilePlace();
});

it('PG-60 triggers that guard and record are always on, and no run-time role can switch one off', async () => {
  const { rows } = await place.admin.query(`select g.tgrelid::regclass::text as name, g.tgname from pg_trigger g
    where not g.tgisinternal and g.tgname ~ '^(_2|_8|!!seal)' and g.tgenabled <> 'A'`);
  expect(rows).toEqual([]);
  const { rows: granted } =
    await place.admin.query(`select p.parname, a.grantee::regrole::text from pg_parameter_acl p, aclexplode(p.paracl) a
    where a.grantee = 0 or a.grantee::regrole::text ~ '^safetypin_'`);
  expect(granted).toEqual([]);
  await place.everyone(async (client, { name }) => {
    for (const attack of [
      'set session_replication_role = replica',
      'set local session_replication_role = local',
      "select set_config('session_replication_role', 'replica', true)",
      "update pg_settings set setting = 'replica' where name = 'session_replication_role'",
      'alter table clinic.patients disable trigger user',
      'alter table audit.events disable trigger _200_refuse_change',
      'set local lo_compat_privileges = on',
      "set local session_preload_libraries = 'x'",
      "set local log_statement = 'none'",
      "set local track_functions = 'all'",
    ])
      expect((await attempt(client, attack)).code, `${name}: ${attack}`).toBe('42501');
  });
});

it('PG-60 a change by an administrator who plays a replica is recorded all the same', async () => {
  const client = await place.db.connect('admin');
  const events = async () =>
    (await place.admin.query("select count(*)::int as n from audit.events where relation = 'clinic.patients'")).rows[0]
      .n;
  const before = await events();
  await client.query('set session_replication_role = replica');
  await client.query('update clinic.patients set age = age + 0, weight = 71 where name = $1', [CANARY.ada]);
  expect(await events()).toBe(before + 1);
  // What the trigger would be without `enable always`.
  await place.admin.query('alter table clinic.patients enable trigger _800_audit');
  await client.query('update clinic.patients set weight = 72 where name = $1', [CANARY.ada]);
  expect(await events()).toBe(before + 1);
  await place.admin.query('alter table clinic.patients enable always trigger _800_audit');
  await client.end();
});

it('PG-64 what is taken back to a savepoint leaves neither row nor event nor job, and no half of them', async () => {
  const count = async (client: pg.ClientBase, what: string) => Number((await client.query(what)).rows[0].n);
  const observe = async () => ({
    patients: await count(place.admin, 'select count(*) as n from clinic.patients'),
    organizations: await count(place.admin, 'select count(*) as n from access.organizations'),
    sessions: await count(place.admin, 'select count(*) as n from sessions.sessions where ended_because is null'),
    events: await count(place.admin, 'select count(*) as n from audit.events'),
    jobs: await count(place.admin, 'select count(*) as n from graphile_worker._private_jobs'),
    mails: await count(place.admin, 'select count(*) as n from identity_private.mails'),
  });
  const listener = await place.db.connect('admin');
  await listener.query('listen "jobs:insert"');
  let heard = 0;
  listener.on('notification', () => {
    heard += 1;
  });
  const before = await observe();
  const calls: [string, unknown[]][] = [
    ["insert into clinic.patients (name) values ('half')", []],
    ["select api.create_organization('half')", []],
    ['select api.request_password_reset($1)', [place.ada.email]],
    ['select api.resend_verification($1)', [place.ada.email]],
    ['select api.revoke_other_sessions()', []],
    ['select api.logout()', []],
  ];
  for (const [call, values] of calls) {
    await place.app.as(place.ada.credential, async (client) => {
      expect((await attempt(client, call, values)).code, call).toBe('ok');
      // In a block of its own that fails, as a function of a host would.
      const block =
        values.length === 0
          ? call.replace(/^select/, 'perform')
          : `perform api.request_password_reset('${place.ada.email}')`;
      await client.query(`do $do$ begin ${block}; raise exception 'back'; exception when others then null; end $do$`);
    });
    expect(await observe(), call).toEqual(before);
  }
  await listener.query('select');
  expect(heard).toBe(0);
  // A change and its event stay together when only the later half is taken back.
  await place.app.as(place.ada.credential, async (client) => {
    await client.query("insert into clinic.patients (name) values ('kept')");
    await attempt(client, "insert into clinic.patients (name) values ('gone')");
  });
  const { rows } = await place.admin.query(
    "select details -> 'row' ->> 'name' as name from audit.events where details -> 'row' ->> 'name' in ('kept', 'gone')",
  );
  expect(rows).toEqual([{ name: 'kept' }]);
  await place.admin.query("delete from clinic.patients where name = 'kept'");
});

it('PG-65 no transaction is prepared for later, and no trigger of ours waits for the commit', async () => {
  for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
    const client = await place.db.connect(login);
    await client.query('begin');
    await client.query('select pg_current_xact_id()');
    expect((await kept(client, "prepare transaction 'planted'")).code, login).toMatch(/^(55000|42501)$/);
    await client.end();
  }
  const { rows } = await place.admin.query(`select tgrelid::regclass::text as name, tgname from pg_trigger
    where tgdeferrable and not tgisinternal and tgrelid::regclass::text !~ '^clinic\\.'`);
  expect(rows).toEqual([]);
  const constraints = await place.admin.query(`select conrelid::regclass::text as name, conname from pg_constraint
    where condeferrable and connamespace::regnamespace::text !~ '^(pg_|information_schema|clinic)'`);
  expect(constraints.rows).toEqual([]);
});

it('PG-65 a change whose constraint is checked at commit belongs to who made it, whatever role she leaves it under', async () => {
  const room = `room ${crypto.randomUUID()}`;
  await place.app.as(place.ada.credential, async (client) => {
    await client.query('insert into clinic.visits (patient_id, room) select id, $1 from clinic.patients', [room]);
    await client.query("select set_config('safetypin.context', '', true)");
    await client.query('reset role');
  });
  const { rows } = await place.admin.query("select actor_id from audit.events where details -> 'row' ->> 'room' = $1", [
    room,
  ]);
  expect(rows).toEqual([{ actor_id: place.ada.id }]);
});

it('PG-66 nothing that maintenance runs as somebody stronger belongs to a run-time role (CVE-2020-25695, CVE-2022-1552, CVE-2024-0985)', async () => {
  await place.everyone(async (client, { name }) => {
    for (const attack of [
      'create index planted on clinic.patients (lower(name))',
      'create materialized view clinic.planted as select 1',
      'refresh materialized view clinic.adults',
      'alter table clinic.patients alter column age set default 7',
      'alter table clinic.patients add constraint planted check (age > 0)',
      'create policy planted on clinic.patients using (true)',
      "alter function api.logout() set search_path = ''",
      'alter view clinic.adults set (security_invoker = false)',
      'create or replace view clinic.adults as select * from clinic.patients',
      'alter default privileges for role safetypin_owner grant select on tables to public',
    ])
      expect((await attempt(client, attack)).code, `${name}: ${attack}`).toMatch(/^(42501|42809)$/);
  });
});

it('PG-67 no rule asks when the transaction began, except the seal, which is bound to it', async () => {
  const { rows } = await place.admin.query<{ name: string }>(`select p.oid::regprocedure::text as name from pg_proc p
    where pronamespace::regnamespace::text ~ '^(access|api|audit|identity|keyring|platform|sessions|request)' and prokind <> 'a'
      and regexp_replace(pg_get_functiondef(p.oid), '--[^\\n]*', '', 'g') ~* '\\m(now|transaction_timestamp)\\s*\\(|\\mcurrent_(timestamp|date|time)\\M|\\mlocaltime' order by 1`);
  expect(rows.filter(({ name }) => !name.startsWith('request_private.'))).toEqual([]);
  const policies = await place.admin.query(`select polname from pg_policy
    where coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), '') ~* 'now\\(|current_timestamp'`);
  expect(policies.rows).toEqual([]);
});

it('PG-67 a session that ends while a transaction is held open is over in that transaction', async () => {
  const eve = await place.app.person('eve');
  const look = async (client: pg.ClientBase) => {
    const { rows } = await client.query(
      'select request.user_id() as who, (select count(*)::int from access.organizations) as n',
    );
    return rows[0];
  };
  await place.admin.query(
    "update sessions.sessions set ends_at = clock_timestamp() + interval '600 ms' where id = $1",
    [eve.session],
  );
  const held = async () => {
    const client = await place.app.pool.connect();
    await client.query('begin');
    await place.app.open(client, eve.credential);
    const first = await look(client);
    await new Promise((resolve) => setTimeout(resolve, 700));
    const second = await look(client);
    await client.query('rollback');
    client.release();
    return [first, second];
  };
  expect(await held()).toEqual([
    { who: eve.id, n: 1 },
    { who: null, n: 0 },
  ]);
  await place.admin.query(
    "update sessions.sessions set ends_at = clock_timestamp() + interval '600 ms' where id = $1",
    [eve.session],
  );
  // The same with the clock of the transaction's start: it lives on.
  const { rows } = await place.admin.query("select pg_get_viewdef('request_private.session_context') as text");
  const define = (text: string) =>
    place.admin.query(
      `create or replace view request_private.session_context with (security_invoker = true) as ${text}`,
    );
  const weakened = rows[0].text.replace('clock_timestamp()', 'now()');
  expect(weakened).not.toBe(rows[0].text);
  await define(weakened);
  try {
    expect((await held())[1]).toEqual({ who: eve.id, n: 1 });
  } finally {
    await define(rows[0].text);
  }
});
