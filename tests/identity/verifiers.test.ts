// F1: no function and no table that the application's login can reach, in whatever role and for whomever, gives what a
// password, code or token is checked with. The catalog is walked, not a list.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { Application, GOOD, type Person, sha256 } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { start, submit } from './guesses.ts';
import { mailTo, tokenOf } from './mailbox.ts';

const ROLES = ['safetypin_authenticator', 'safetypin_anonymous', 'safetypin_member'];
const OURS = "n.nspname not in ('pg_catalog', 'information_schema', 'extensions') and n.nspname not like 'pg\\_%'";

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
let bob: Person;
/** By type, what an attacker would put in: what belongs to ada, and what is nobody's. */
let inputs: Record<string, unknown[]>;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  [ada, bob] = [await app.person('ada'), await app.person('bob')];
  await app.register('waiting@example.com', 'Waiting', null);
  const verification = tokenOf(await mailTo(app, 'waiting@example.com'));
  await app.call(null, 'select api.request_password_reset($1)', [ada.email]);
  const reset = tokenOf(await mailTo(app, ada.email));
  const { attempt } = await start(app, ada.email);
  await submit(app, attempt, ada.tag);
  await app.call(ada.credential, "select api.invite_member('guest@example.com', 'member')");
  const invitation = (await app.mails()).find(({ kind }) => kind === 'invitation')?.variables.token ?? '';
  const rows = (table: string) => admin.query(`select t::text as row from ${table} t`);
  const [memberships, invitations] = [await rows('access.memberships'), await rows('access.invitations')];
  const ids = (
    await admin.query(`select id from identity_private.emails union select id from identity_private.mails union select id from identity_private.registrations
    union select id from access.memberships union select id from access.invitations
    union select id from keyring_private.data_keys`)
  ).rows.map(({ id }) => id);
  inputs = {
    text: [ada.email, 'waiting@example.com', 'identity.passwords.verifier', '123456', 'nobody@example.com', null],
    uuid: [attempt, ada.id, ada.session, ada.organization, ...ids, null],
    bytea: [
      ada.tag,
      sha256(ada.tag),
      verification,
      reset,
      Buffer.from(invitation, 'base64url'),
      ada.refreshToken,
      ada.credential,
      randomBytes(32),
      null,
    ],
    jsonb: [GOOD, {}, { memory: 19456, passes: 2, parallelism: 1, length: 32 }, null],
    integer: [1, 0, null],
    bigint: [1, null],
    boolean: [true, null],
    name: ['verifier', null],
    regclass: ['identity_private.passwords', null],
    oid: [1259, null],
    'uuid[]': [[ada.id], null],
    anyelement: ['verifier'],
    'bytea[]': [[sha256(ada.credential)], null],
    'text[]': [['verifier'], null],
    'name[]': [['verifier'], null],
    'timestamp with time zone': [new Date(), null],
    'timestamp with time zone[]': [[new Date()], null],
    'access.memberships': [...memberships.rows.map(({ row }) => row), null],
    'access.invitations': [...invitations.rows.map(({ row }) => row), null],
  };
});

/** All that anything is checked with, in hex: hashes, keyed hashes, keys, and sealed values. */
async function canaries(): Promise<string[]> {
  const { rows } = await admin.query(`select encode(v, 'hex') as hex from (
      select verifier from identity_private.passwords union all select verifier from identity_private.registrations
      union all select hash from identity_private.tokens union all select code_mac from identity_private.tokens
      union all select guess_mac from identity_private.attempts union all select lookup from identity_private.emails
      union all select address from access_private.invitation_addresses union all select lookup from access_private.invitation_addresses
      union all select address from identity_private.emails union all select display_name from identity_private.profiles
      union all select hash from sessions_private.credentials union all select hash from sessions_private.refresh_tokens
      union all select inner_pad from keyring_private.seal_keys union all select outer_pad from keyring_private.seal_keys
      union all select half from keyring_private.roots union all select check_value from keyring_private.roots
      union all select wrapped from keyring_private.data_keys union all select wrapped from keyring_private.index_keys) c (v)
    where v is not null`);
  return [
    ...rows.map(({ hex }) => hex as string),
    sha256(ada.tag).toString('hex'),
    ada.email,
    Buffer.from(ada.email).toString('hex'),
  ];
}

/** Runs something as the attacker may, takes it back, and returns all that was said: rows or error. */
async function said(role: string, credential: Buffer | null, text: string, values: unknown[]): Promise<string> {
  const client = await app.pool.connect();
  try {
    await client.query('begin');
    if (role !== 'safetypin_authenticator') await app.open(client, credential);
    const { rows } = await client.query(text, values);
    return JSON.stringify(rows, (_key, value) =>
      value?.type === 'Buffer' ? Buffer.from(value.data).toString('hex') : value,
    );
  } catch (error) {
    const { message, detail, hint, where } = error as pg.DatabaseError;
    return `error ${[message, detail, hint, where].join(' ')}`;
  } finally {
    await client.query('rollback');
    client.release();
  }
}

interface Callable {
  name: string;
  types: string[];
  role: string;
}

async function callable(): Promise<Callable[]> {
  const { rows } = await admin.query(
    `select format('%I.%I', n.nspname, p.proname) as name, r.role,
      array(select format_type(t, null) from unnest(p.proargtypes::oid[]) t) as types
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace cross join unnest($1::text[]) r (role)
    where ${OURS} and has_schema_privilege(r.role, n.oid, 'usage') and has_function_privilege(r.role, p.oid, 'execute')
      and p.prokind = 'f' and p.prorettype <> 'trigger'::regtype order by 1, 2`,
    [ROLES],
  );
  return rows;
}

/** Everything that all callable functions say to all inputs, as nobody and as bob. */
async function walk(only?: string): Promise<{ calls: number; answered: Set<string>; leaks: string[] }> {
  const secret = await canaries();
  const leaks: string[] = [];
  const answered = new Set<string>();
  let calls = 0;
  for (const { name, types, role } of (await callable()).filter((each) => only === undefined || each.name === only)) {
    const pools = types.map((type) => {
      const pool = inputs[type];
      if (pool === undefined)
        throw new Error(`${name} takes a ${type}: say in this test what an attacker would give it`);
      return pool;
    });
    const rounds = Math.max(1, ...pools.map((pool) => pool.length));
    for (let round = 0; round < rounds; round += 1) {
      const values = pools.map((pool, at) => pool[(round + (at > 0 ? at * (round % 3) : 0)) % pool.length]);
      const text = `select * from ${name}(${types.map((type, at) => `$${at + 1}::${type}`).join(', ')})`;
      const answer = await said(role, role === 'safetypin_member' ? bob.credential : null, text, values);
      calls += 1;
      if (!answer.startsWith('error')) answered.add(name);
      // What was given in may be named again.
      const given = values.map((value) => (Buffer.isBuffer(value) ? value.toString('hex') : String(value)));
      for (const canary of secret)
        if (answer.includes(canary) && !given.includes(canary))
          leaks.push(`${name} as ${role}: ${canary.slice(0, 12)}`);
    }
  }
  return { calls, answered, leaks };
}

it("no function says a hash, a key, a sealed value or somebody else's address to anybody", async () => {
  const { calls, answered, leaks } = await walk();
  expect(leaks).toEqual([]);
  expect(calls).toBeGreaterThan(300);
  for (const name of [
    'api_steps.start_sign_in',
    'api_steps.finish_sign_in',
    'api_steps.refresh_session',
    'api_steps.prepare_password_reset',
    'api."current_user"',
    'keyring.transport_key',
  ]) {
    expect(answered).toContain(name);
  }
});

it('and the walk would have seen one that does', async () => {
  await admin.query(`create function api_steps.careless(who uuid) returns table (verifier bytea, word text) language sql stable security definer set search_path = pg_catalog, pg_temp
    as $$ select w.verifier, 'x' from identity_private.passwords w where w.person_id = who $$`);
  await admin.query(
    'revoke all on function api_steps.careless(uuid) from public; grant execute on function api_steps.careless(uuid) to safetypin_anonymous',
  );
  const { leaks } = await walk('api_steps.careless');
  await admin.query('drop function api_steps.careless(uuid)');
  expect(leaks).toEqual([expect.stringContaining('api_steps.careless as safetypin_anonymous')]);
});

it('neither does a table: none of the roles may read a column of bytes in a private schema', async () => {
  const { rows } = await admin.query(
    `select r.role, c.oid::regclass::text as name, a.attname::text as column
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid cross join unnest($1::text[]) r (role)
    where ${OURS} and c.relkind in ('r', 'p', 'v', 'm', 'f') and a.attnum > 0 and not a.attisdropped
      and has_schema_privilege(r.role, n.oid, 'usage') and has_column_privilege(r.role, c.oid, a.attnum, 'select')
      and (a.atttypid = 'bytea'::regtype or n.nspname like '%\\_private')`,
    [ROLES],
  );
  // The canonical entry of an event, which whoever may read the event may check.
  expect(rows).toEqual(
    rows.filter(
      ({ role, name, column }) => role === 'safetypin_member' && name.startsWith('audit.events') && column === 'entry',
    ),
  );
});
