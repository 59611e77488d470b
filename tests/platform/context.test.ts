// The sealed context (PG-50 to PG-53; F8, F9, F14, F15): who asks comes from it and from nothing else.
import type pg from 'pg';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { takeMemberships } from '../support/owners.ts';

let db: TestDatabase;
let app: Application;
let ada: Person;
let bob: Person;

/** Tables of ours that hold somebody's rows and that a member may name; catalogs are for everybody who is signed in. */
const TABLES = [
  'access.domains',
  'access.organizations',
  'access.roles',
  'access.role_permissions',
  'access.memberships',
  'access.membership_roles',
  'access.invitations',
  'access.permissions',
  'access.service_accounts',
  'access.api_keys',
  'access.api_key_use',
  'audit.events',
  'audit.actions',
  'identity.people',
  'sessions.sessions',
];

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  ada = await app.person('ada');
  bob = await app.person('bob');
});

async function count(client: pg.ClientBase, table: string): Promise<number> {
  return Number((await client.query(`select count(*) from ${table}`)).rows[0].count);
}

async function visible(client: pg.ClientBase): Promise<Record<string, number>> {
  const seen: Record<string, number> = {};
  for (const table of TABLES) seen[table] = await count(client, table);
  return seen;
}

const NOTHING = Object.fromEntries(TABLES.map((table) => [table, 0]));

describe('without a live credential', () => {
  it('a member with any settings sees no row of any table', async () => {
    const client = await db.connect('authenticator');
    const settings = [
      '',
      'null',
      '{}',
      '00',
      'ff'.repeat(300),
      'zz'.repeat(300),
      '\\x00'.repeat(200),
      'ü'.repeat(400),
      ada.id,
      ada.credential.toString('hex'),
    ];
    for (const value of settings) {
      await client.query('begin');
      await client.query('set local role safetypin_member');
      for (const name of [
        'safetypin.context',
        'safetypin.user_id',
        'request.user_id',
        'jwt.claims.person_id',
        'safetypin.organization_id',
        'safetypin.envelope',
      ]) {
        await client.query('select set_config($1, $2, true)', [name, value]);
      }
      expect(await visible(client), `context ${value.slice(0, 20)}`).toEqual(NOTHING);
      await client.query('rollback');
    }
  });

  it('the tables that the test looks into are all a member may read that are not the catalogs', async () => {
    const admin = await db.connect('admin');
    const { rows } =
      await admin.query(`select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname in ('platform', 'keyring', 'audit', 'identity', 'access', 'sessions', 'api', 'request') and c.relkind in ('r', 'p', 'v', 'm')
        and has_any_column_privilege('safetypin_member', c.oid, 'select') order by 1`);
    expect(
      rows.map(({ name }) => name).filter((name) => !['platform.errors', 'sessions.activity'].includes(name)),
    ).toEqual([...TABLES].sort());
  });

  it('an unknown, a cut and a changed credential open nothing', async () => {
    const flipped = Buffer.from(ada.credential);
    flipped[31] = (flipped[31] ?? 0) ^ 1;
    for (const credential of [
      Buffer.alloc(32),
      flipped,
      ada.credential.subarray(1),
      ada.credential.subarray(0, 31),
      Buffer.concat([ada.credential, Buffer.alloc(1)]),
      Buffer.alloc(0),
    ]) {
      expect(await refusal(app.rows(credential, 'select 1'))).toBe('AUTHN');
    }
  });

  it('nobody becomes an internal role, the auditor or a job', async () => {
    const client = await db.connect('authenticator');
    for (const role of [
      'safetypin_owner',
      'safetypin_keeper',
      'safetypin_definer',
      'safetypin_auditor',
      'safetypin_jobs',
      'postgres',
    ]) {
      expect(await refusal(client.query(`set role ${role}`)), role).toBe('42501');
    }
    expect(await refusal(client.query('set session authorization safetypin_member'))).toBe('42501');
  });

  it('the login itself reads and writes nothing but the register of errors', async () => {
    const client = await db.connect('authenticator');
    const { rows } =
      await client.query(`select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
      where n.nspname not like 'pg\\_%' and n.nspname <> 'information_schema' and c.relkind in ('r', 'p', 'v', 'm')
        and has_schema_privilege(n.oid, 'usage') and (has_table_privilege(c.oid, 'delete') or has_any_column_privilege(c.oid, 'select, insert, update'))`);
    expect(rows).toEqual([{ name: 'platform.errors' }]);
  });
});

describe('a context is good in its own transaction of its own backend', () => {
  async function stolen(): Promise<{ victim: pg.PoolClient; context: string }> {
    const victim = await app.pool.connect();
    await victim.query('begin');
    await app.open(victim, ada.credential);
    expect(await count(victim, 'access.organizations')).toBe(1);
    return {
      victim,
      context: (await victim.query("select current_setting('safetypin.context') as value")).rows[0].value,
    };
  }

  async function seenWith(client: pg.ClientBase, context: string): Promise<number> {
    await client.query('set local role safetypin_member');
    await client.query("select set_config('safetypin.context', $1, true)", [context]);
    return count(client, 'access.organizations');
  }

  it('copied to another backend it shows nothing', async () => {
    const { victim, context } = await stolen();
    const thief = await db.connect('authenticator');
    await thief.query('begin');
    expect(await seenWith(thief, context)).toBe(0);
    for (const client of [victim, thief]) await client.query('rollback');
    victim.release();
  });

  it('kept for the next transaction of the same backend it shows nothing', async () => {
    const { victim, context } = await stolen();
    await victim.query('commit');
    await victim.query('begin');
    expect(await seenWith(victim, context)).toBe(0);
    await victim.query('rollback');
    victim.release();
  });

  const PID_AND_TIME = /\(substr\(b?\.?body, 3, 24\) = .*?'hex'::text\)\)/;

  it('and would have shown rows in both, had the seal not named backend and transaction', async () => {
    await withoutGuard(db, 'request_private.sealed_context', PID_AND_TIME, 'true', async () => {
      const { victim, context } = await stolen();
      const thief = await db.connect('authenticator');
      await thief.query('begin');
      expect(await seenWith(thief, context)).toBe(1);
      await victim.query('commit');
      await victim.query('begin');
      expect(await seenWith(victim, context)).toBe(1);
      for (const client of [victim, thief]) await client.query('rollback');
      victim.release();
    });
  });

  /** Two transactions in one message share now(): the first opens, the second puts the first's context back. */
  async function twoInOneMessage(first: 'in the message' | 'before it'): Promise<string> {
    const client = await db.connect('authenticator');
    const literal = (value: Buffer) => `'\\x${value.toString('hex')}'`;
    const open = `select set_config('role', sessions.open_request(${literal(ada.credential)}, ${literal(await app.envelopes.seal(ada.credential))}, '{}'), true);
      select set_config('keep.it', current_setting('safetypin.context'), false);`;
    const replay = `commit; begin; set local role safetypin_member;
      select set_config('safetypin.context', current_setting('keep.it'), true);
      select count(*)::text as rows from access.organizations; rollback;`;
    try {
      if (first === 'before it') {
        await client.query('begin');
        const results = (await client.query(open + replay)) as unknown as pg.QueryResult[];
        return results.find(({ rows }) => rows[0] && 'rows' in rows[0])?.rows[0].rows;
      }
      const results = (await client.query(`begin; ${open} ${replay}`)) as unknown as pg.QueryResult[];
      return results.find(({ rows }) => rows[0] && 'rows' in rows[0])?.rows[0].rows;
    } catch (error) {
      return (error as { code: string }).code;
    }
  }

  it('a request cannot be opened in the message that began its transaction, and so not be replayed in the next one', async () => {
    expect(await twoInOneMessage('in the message')).toBe('CTXTX');
    expect(await twoInOneMessage('before it')).toBe('0');
    const lone = await db.connect('authenticator');
    expect(await refusal(lone.query("select sessions.open_request(null, null, '{}')"))).toBe('CTXTX');
  });

  it('which would have shown rows without that rule', async () => {
    await withoutGuard(
      db,
      'request_private.write_context(text,bytea)',
      'statement_timestamp() <= transaction_timestamp()',
      'false',
      async () => {
        expect(await twoInOneMessage('in the message')).toBe('1');
      },
    );
  });

  it('made up without the key, or with one bit changed, it shows nothing', async () => {
    const { victim, context } = await stolen();
    for (const position of [0, 63, 64, 66, 70, 100, 180, 210, context.length - 1]) {
      const changed =
        context.slice(0, position) + (context[position] === '0' ? '1' : '0') + context.slice(position + 1);
      expect(await seenWith(victim, changed), `position ${position}`).toBe(0);
    }
    expect(await seenWith(victim, '0'.repeat(64) + context.slice(64))).toBe(0);
    expect(await seenWith(victim, context)).toBe(1);
    await victim.query('rollback');
    victim.release();
  });

  it('a transaction has one context', async () => {
    expect(
      await refusal(
        app.as(ada.credential, async (client) => {
          await client.query('reset role');
          await app.open(client, bob.credential);
        }),
      ),
    ).toBe('CTXAG');
  });

  it('a savepoint takes role and context back together', async () => {
    const client = await app.pool.connect();
    await client.query('begin');
    await client.query('savepoint before');
    await app.open(client, ada.credential);
    await client.query('rollback to savepoint before');
    const { rows } = await client.query(
      "select current_user::text as role, coalesce(current_setting('safetypin.context', true), '') as context",
    );
    expect(rows).toEqual([{ role: 'safetypin_authenticator', context: '' }]);
    await client.query('rollback');
    client.release();
  });

  it('settings of the client do not break the seal', async () => {
    await app.as(ada.credential, async (client) => {
      await client.query(
        "set local timezone = 'Asia/Tokyo'; set local bytea_output = 'escape'; set local datestyle = 'German'; set local search_path = pg_temp; set local statement_timeout = 0; set local extra_float_digits = 0; set local standard_conforming_strings = off",
      );
      expect(await count(client, 'access.organizations')).toBe(1);
    });
  });
});

describe('a context ends', () => {
  it('with its session: the next statement of the open transaction sees nothing', async () => {
    const eve = await app.person('eve');
    await app.as(eve.credential, async (client) => {
      expect(await count(client, 'access.organizations')).toBe(1);
      expect(await app.call(eve.credential, 'select api.logout() as outcome')).toEqual({ outcome: 'ENDED' });
      expect(await visible(client)).toEqual(NOTHING);
      expect((await client.query('select request.user_id() as id')).rows).toEqual([{ id: null }]);
    });
    expect(await refusal(app.rows(eve.credential, 'select 1'))).toBe('AUTHN');
  });

  it('at its deadline, in repeatable read too, where it does not see the revocation', async () => {
    const eve = await app.person('eve');
    const admin = await db.connect('admin');
    await admin.query("update platform.limits set value = 5 where name = 'request.seconds'");
    const client = await app.pool.connect();
    await client.query('begin isolation level repeatable read');
    await app.open(client, eve.credential);
    await app.call(eve.credential, 'select api.logout()');
    expect(await count(client, 'access.organizations')).toBe(1);
    await new Promise((resolve) => setTimeout(resolve, 5200));
    expect(await visible(client)).toEqual(NOTHING);
    await client.query('rollback');
    client.release();
    await admin.query("update platform.limits set value = 30 where name = 'request.seconds'");
  });

  it.each([
    [
      'the person is suspended',
      (admin: pg.Client, p: Person) =>
        admin.query("update identity.people set status = 'suspended' where id = $1", [p.id]),
    ],
    [
      'the organization is suspended',
      (admin: pg.Client, p: Person) =>
        admin.query("update access.organizations set status = 'suspended' where id = $1", [p.organization]),
    ],
    ['the membership is removed', (admin: pg.Client, p: Person) => takeMemberships(admin, p.id)],
  ])('when %s', async (_what, take: (admin: pg.Client, p: Person) => Promise<unknown>) => {
    const eve = await app.person('eve');
    const admin = await db.connect('admin');
    await app.as(eve.credential, async (client) => {
      expect(await count(client, 'access.organizations')).toBe(1);
      await take(admin, eve);
      expect(await visible(client)).toEqual(NOTHING);
    });
    expect(await refusal(app.rows(eve.credential, 'select 1'))).toBe('AUTHN');
    expect(
      (
        await admin.query('select ended_because is not null as ended from sessions.sessions where id = $1', [
          eve.session,
        ])
      ).rows,
    ).toEqual([{ ended: true }]);
  });

  it('when the session was idle too long, or reached its absolute end however much it was used', async () => {
    const eve = await app.person('eve');
    const admin = await db.connect('admin');
    await admin.query(
      "update sessions.sessions set created_at = created_at - interval '14 days 1 second' where id = $1",
      [eve.session],
    );
    expect(await refusal(app.rows(eve.credential, 'select 1'))).toBe('AUTHN');
    await app.db
      .pool('authenticator')
      .query('select sessions.record_activity($1, $2)', [
        [(await import('../support/actors.ts')).sha256(eve.credential)],
        [new Date(Date.now() - 5000)],
      ]);
    expect(await refusal(app.rows(eve.credential, 'select 1'))).toBe('no refusal');
    await admin.query('update sessions.sessions set ends_at = clock_timestamp() where id = $1', [eve.session]);
    expect(await refusal(app.rows(eve.credential, 'select 1'))).toBe('AUTHN');
  });
});

describe('plans and workers', () => {
  it('one named statement alternating two tenants gives each her own, through the switch to a generic plan', async () => {
    const client = await app.pool.connect();
    for (const plans of ['auto', 'force_generic_plan', 'force_custom_plan']) {
      for (let i = 0; i < 14; i += 1) {
        const who = i % 2 ? ada : bob;
        await client.query('begin');
        await app.open(client, who.credential);
        await client.query(`set local plan_cache_mode = ${plans}`);
        const { rows } = await client.query({ name: 'organizations', text: 'select id from access.organizations' });
        expect(rows).toEqual([{ id: who.organization }]);
        await client.query('commit');
      }
    }
    client.release();
  });

  it('a plan with parallel workers sees what one without does (PG-56)', async () => {
    await app.as(ada.credential, async (client) => {
      await client.query(
        `set local ${inject('postgres') < 16 ? 'force_parallel_mode' : 'debug_parallel_query'} = on; set local parallel_setup_cost = 0; set local parallel_tuple_cost = 0; set local min_parallel_table_scan_size = 0`,
      );
      expect(await count(client, 'access.organizations')).toBe(1);
      expect(await count(client, 'access.memberships')).toBe(1);
    });
  });

  it('accessors are stable and parallel restricted, and policies call them once per statement', async () => {
    const admin = await db.connect('admin');
    const { rows } = await admin.query(
      "select proname from pg_proc where pronamespace = 'request'::regnamespace and (provolatile <> 's' or proparallel <> 'r')",
    );
    expect(rows).toEqual([]);
    const policies = await admin.query(`select polrelid::regclass, polname from pg_policy where
      regexp_replace(coalesce(pg_get_expr(polqual, polrelid), '') || coalesce(pg_get_expr(polwithcheck, polrelid), ''), 'SELECT request\\.', '', 'g') ~ 'request\\.'`);
    expect(policies.rows).toEqual([]);
  });
});

describe('audit knows who acts', () => {
  it('an update that strikes its own context out is refused (F9)', async () => {
    const owner = await db.connect('owner');
    await owner.query(`create schema if not exists shop; create table shop.items (organization_id uuid not null, id uuid default platform.uuid_v7(), name text, primary key (organization_id, id));
      select access.protect('shop.items');`);
    const attack = (client: pg.ClientBase) =>
      client.query("update shop.items set name = 'changed' returning set_config('safetypin.context', '', true)");
    await app.as(ada.credential, (client) => client.query("insert into shop.items (name) values ('one')"));
    expect(await refusal(app.as(ada.credential, attack))).toBe('CTXNO');
    expect(await app.call(ada.credential, 'select name from shop.items')).toEqual({ name: 'one' });
    await withoutGuard(
      db,
      'audit_private.append(text,uuid,uuid,jsonb,text,text,uuid,text)',
      'if not found and session_user',
      'if false and session_user',
      async () => {
        expect(await refusal(app.as(ada.credential, attack))).toBe('no refusal');
        expect(await app.call(ada.credential, 'select name from shop.items')).toEqual({ name: 'changed' });
      },
    );
  });
});
