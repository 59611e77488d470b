// PG-06: whatever text reaches a function stays a value. Functions and their arguments come from the catalog.
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { type Argument, type Call, type Callable, callable, callOf, plain } from './functions.ts';
import { NAUGHTY, NOT_UTF8 } from './naughty.ts';
import { hostilePlace, kept, type Place } from './place.ts';
import { bound, simple } from './raw.ts';

let place: Place;
beforeAll(async () => {
  place = await hostilePlace();
});

const ROLES = [
  'safetypin_member',
  'safetypin_anonymous',
  'safetypin_authenticator',
  'safetypin_jobs',
  'safetypin_auditor',
];
const tried = new Set<string>();
/** At less than the full scale each argument gets every fifth string, and every eighth for another role's turn. */
const sampled = loadConfig({}).testScale < 1;
type Shape = (value: string) => unknown;

/** The ways in which a text fits into an argument; none for numbers, times and ids. */
const shapes: Readonly<Record<string, readonly Shape[]>> = {
  text: [(value) => value],
  name: [(value) => value],
  'text[]': [(value) => [value]],
  bytea: [(value) => Buffer.from(value)],
  'bytea[]': [(value) => [Buffer.from(value)]],
  json: [(value) => JSON.stringify({ id: value, [value]: value })],
  jsonb: [(value) => JSON.stringify({ characters: value, requestId: value, ip: value, [value]: value })],
};

/** Begins as the role would: in an open request where it has one. */
async function begin(client: pg.ClientBase, role: string): Promise<void> {
  await client.query('begin');
  if (role === 'safetypin_anonymous') await place.app.open(client, null);
  if (role === 'safetypin_member') await place.app.open(client, place.ada.credential);
}

/** Pipelined, it does not wait for one answer before it sends the next statement: there are thousands. */
async function connect(role: string, pipeline = true): Promise<pg.PoolClient> {
  const login = role === 'safetypin_jobs' ? 'jobs' : role === 'safetypin_auditor' ? 'auditor' : 'authenticator';
  const client = await place.db.pool(login, { max: 1, pipeline } as pg.PoolConfig).connect();
  whenFileEnds(() => client.release(true));
  return client;
}

const STATE = `select current_user::text as role, session_user::text as login, current_setting('search_path') as path,
  coalesce((select jsonb_object_agg(relname, n_tup_ins + n_tup_upd + n_tup_del) filter (where n_tup_ins + n_tup_upd + n_tup_del > 0)
     from pg_stat_xact_user_tables), '{}') as written`;

interface Effect {
  code: string;
  /** Rows written, by table. */
  written: Record<string, number>;
  state: string;
}

/** Calls one after the other in one transaction, each undone before the next; all sent at once. */
async function effects(client: pg.ClientBase, role: string, calls: readonly Call[]): Promise<Effect[]> {
  await begin(client, role);
  // PostgreSQL goes on counting what was rolled back, so the difference is what a call wrote.
  let before = (await client.query(STATE)).rows[0];
  const asked = calls.map(({ text, values }) => {
    client.query('savepoint call').catch(() => {});
    const called = kept(client, text, values);
    const state = kept(client, STATE);
    client.query('rollback to savepoint call').catch(() => {});
    return { called, state };
  });
  const found: Effect[] = [];
  for (const { called, state } of asked) {
    const { code } = await called;
    const after = (await state).rows[0] ?? before;
    const more = Object.entries<number>(after.written).map(
      ([table, n]) => [table, n - (before.written[table] ?? 0)] as const,
    );
    const { role: as, login, path } = after;
    found.push({ code, written: Object.fromEntries(more.filter(([, n]) => n > 0)), state: `${as}, ${login}, ${path}` });
    before = after;
  }
  await client.query('rollback');
  return found;
}

async function rowCounts(): Promise<Record<string, string>> {
  const { rows } = await place.admin.query<{ name: string }>(
    `select oid::regclass::text as name from pg_class where relkind = 'r' and relnamespace::regnamespace::text !~ '^(pg_|information_schema)'`,
  );
  const counts: Record<string, string> = {};
  for (const { name } of rows) counts[name] = (await place.admin.query(`select count(*) from ${name}`)).rows[0].count;
  return counts;
}

/** A bad value may be refused where a good one is not, by a refusal of the register; it may not do more than a good one. */
const REFUSALS = /^(22\w{3}|23514|AUTHN|DENYD|P0002|GWB\w\w)$/;
/** What add_job writes depends on the names that the worker's login gives, which nobody else can. */
const QUEUE = /^_private_/;

describe.each(ROLES)('PG-06 as %s', (role) => {
  it('a naughty string in any text argument of any function does what a plain one does, or less', async () => {
    const functions = await callable(place.admin, role);
    const client = await connect(role);
    const before = await rowCounts();
    const found: string[] = [];
    let calls = 0;
    const check = (one: Callable, argument: Argument, value: unknown, got: Effect, good: Effect) => {
      const where = `${one.signature}, ${argument.name} = ${String(value).slice(0, 40)}`;
      if (got.code !== good.code && !REFUSALS.test(got.code)) found.push(`${where}: ${good.code} became ${got.code}`);
      if (got.state !== good.state) found.push(`${where}: ${good.state} became ${got.state}`);
      for (const [table, rows] of Object.entries(got.written))
        if (rows > (good.written[table] ?? 0) && !QUEUE.test(table)) found.push(`${where}: ${rows} rows of ${table}`);
    };
    for (const one of functions.filter(({ name }) => name !== 'sessions.open_request')) {
      for (const [i, argument] of one.args.entries()) {
        for (const shape of shapes[argument.type] ?? []) {
          const usual = callOf(one, place);
          const share = sampled ? (tried.has(one.signature) ? 8 : 5) : 1;
          const strings = NAUGHTY.filter((_, n) => n % share === i % share);
          const bad = strings.map((value) => ({ text: usual.text, values: usual.values.with(i, shape(value)) }));
          const [good, ...got] = await effects(client, role, [usual, ...bad]);
          for (const [at, result] of got.entries()) check(one, argument, strings[at], result, good as Effect);
          calls += got.length;
        }
      }
      tried.add(one.signature);
    }
    expect(found).toEqual([]);
    expect(await rowCounts()).toEqual(before);
    expect(calls).toBeGreaterThan(5);
  }, 120_000);

  it('bytes that are not UTF-8 never reach a function (CVE-2025-1094)', async () => {
    const client = await connect(role, false);
    await client.query(`set role ${role}`);
    for (const one of await callable(place.admin, role)) {
      // A null of no type is refused before any bytes are looked at.
      if (one.args.some(({ type }) => type === 'anyelement')) continue;
      const call = callOf(one, place);
      for (const [i, argument] of one.args.entries()) {
        if (!/^(text|name|jsonb?)$/.test(argument.type)) continue;
        for (const bytes of NOT_UTF8) {
          const values = one.args.map((_, at) => (at === i ? bytes : null));
          expect(await bound(client, call.text, values), `${one.signature} ${bytes.toString('hex')}`).toBe('22021');
        }
      }
    }
    for (const bytes of NOT_UTF8.filter((one) => !one.includes(0))) {
      const literal = Buffer.concat([Buffer.from("select '"), bytes, Buffer.from("'; reset role; --'")]);
      expect(await simple(client, literal), bytes.toString('hex')).toBe('22021');
    }
    expect((await client.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
  });
});

it('PG-06 the attack is seen: a function that puts its argument into SQL is found by the same list', async () => {
  await place.admin.query(`create function access.careless(q text) returns bigint language plpgsql security definer
    set search_path = pg_catalog, pg_temp as $$ declare v bigint; begin
      execute 'select count(*) from access.organizations where name = ''' || q || '''' into v; return v; end $$;
    grant execute on function access.careless(text) to safetypin_member`);
  try {
    const [careless] = (await callable(place.admin, 'safetypin_member')).filter(
      ({ name }) => name === 'access.careless',
    );
    const client = await connect('safetypin_member');
    const codes = new Set<string>();
    const calls = NAUGHTY.map((value) => callOf(careless as Callable, place, { 0: value }));
    for (const { code } of await effects(client, 'safetypin_member', calls)) codes.add(code);
    expect([...codes]).toContain('42601');
  } finally {
    await place.admin.query('drop function access.careless(text)');
  }
});

it('PG-06 a function that builds SQL is reviewed, and none that lends its rights is within reach of a client', async () => {
  // Without rights of its own a function can do nothing that its caller could not write down himself.
  const { rows } = await place.admin.query(`select p.oid::regprocedure::text as name,
      p.prosecdef and (has_function_privilege('safetypin_member', p.oid, 'execute') or has_function_privilege('safetypin_anonymous', p.oid, 'execute')
        or has_function_privilege('safetypin_jobs', p.oid, 'execute')) as reachable
    from pg_proc p where pronamespace::regnamespace::text ~ '^(access|api|audit|identity|keyring|platform|sessions|request)'
      and regexp_replace(prosrc, '--[^\\n]*', '', 'g') ~* '\\mexecute\\M(?!\\s+(function|procedure|on)\\M)' order by 1`);
  expect(rows.length).toBeGreaterThan(1);
  expect(rows.filter(({ reachable }) => reachable)).toEqual([]);
});

it('PG-06 each argument of the API has a plain value to start from', async () => {
  for (const role of ROLES)
    for (const { args, signature } of await callable(place.admin, role))
      for (const argument of args)
        if (!/job_spec|interval/.test(argument.type))
          expect(plain(argument, place), `${signature} ${argument.name}`).not.toBeNull();
});
