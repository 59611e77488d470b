// The ground of all domains: ids, limits, the register of errors, the roles.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { refusal } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  admin = await db.connect('admin');
});

describe('platform.uuid_v7', () => {
  it('gives UUIDs of version 7 (RFC 9562): the time in front, the rest random, none twice', async () => {
    const before = Date.now();
    const { rows } = await admin.query('select platform.uuid_v7()::text as id from generate_series(1, 5000)');
    const after = Date.now();
    const ids = rows.map(({ id }) => id as string);
    expect(new Set(ids).size).toBe(5000);
    const randomBits = new Set<string>();
    for (const id of ids) {
      expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
      const time = Number.parseInt(id.slice(0, 13).replace('-', ''), 16);
      expect(time).toBeGreaterThanOrEqual(before - 1);
      expect(time).toBeLessThanOrEqual(after + 1);
      randomBits.add(id.slice(15));
    }
    expect(randomBits.size).toBe(5000);
  });

  it('sorts by time', async () => {
    const first = (await admin.query('select platform.uuid_v7()::text as id')).rows[0].id;
    await new Promise((resolve) => setTimeout(resolve, 3));
    const second = (await admin.query('select platform.uuid_v7()::text as id')).rows[0].id;
    expect(first < second).toBe(true);
  });
});

describe('platform.limits', () => {
  it('refuses what is outside its bounds, and a change is recorded with who made it', async () => {
    const set = (value: number) =>
      admin.query("update platform.limits set value = $1 where name = 'password.minimum_length'", [value]);
    expect(await refusal(set(7))).toBe('23514');
    expect(await refusal(set(1000))).toBe('23514');
    await set(20);
    const { rows } = await admin.query(
      "select database_role, row_id, details->'changed'->'value' as value from audit.events where relation = 'platform.limits'",
    );
    expect(rows).toEqual([{ database_role: 'postgres', row_id: 'password.minimum_length', value: [15, 20] }]);
    expect((await admin.query("select platform.limit_value('password.minimum_length') as v")).rows).toEqual([
      { v: '20' },
    ]);
  });

  it('are out of reach for every login', async () => {
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const client = await db.connect(login);
      expect(await refusal(client.query('select * from platform.limits'))).toBe('42501');
      expect(await refusal(client.query('update platform.limits set value = maximum'))).toBe('42501');
    }
  });
});

describe('roles', () => {
  it('only the three logins log in, none is strong, and none can become an owner (PG-11)', async () => {
    const { rows } = await admin.query(`select rolname, rolcanlogin from pg_roles where rolname like 'safetypin\\_%'
      and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb or rolreplication or rolcanlogin) order by 1`);
    expect(rows.map(({ rolname }) => rolname)).toEqual([
      'safetypin_auditor',
      'safetypin_authenticator',
      'safetypin_jobs',
    ]);
    const reach = await admin.query(`with recursive reach as (
        select m.member as login, m.roleid from pg_auth_members m
        union select r.login, m.roleid from reach r join pg_auth_members m on m.member = r.roleid)
      select l.rolname as login, r.rolname as role from reach
        join pg_roles l on l.oid = reach.login join pg_roles r on r.oid = reach.roleid
        where l.rolname like 'safetypin\\_%' order by 1, 2`);
    expect(reach.rows).toEqual([
      { login: 'safetypin_authenticator', role: 'safetypin_anonymous' },
      { login: 'safetypin_authenticator', role: 'safetypin_member' },
    ]);
  });

  it('have their timeouts on the logins (PG-22)', async () => {
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const client = await db.connect(login);
      const { rows } = await client.query(`select name from pg_settings where name in
        ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout') and setting::int > 0 order by 1`);
      expect(rows.length).toBe(3);
    }
  });
});
