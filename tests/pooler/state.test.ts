// Games with roles and transactions inside a request, and what they leave on the connection: nothing.
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { createRequests, type RequestClient, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let application: Application;
let ada: Person;
let bob: Person;
let pool: pg.Pool;
let requests: Requests;

beforeAll(async () => {
  db = await cloneDatabase();
  application = await Application.beside(db);
  ada = await application.person('ada');
  bob = await application.person('bob');
  pool = db.pool('authenticator', { max: 1, pipeline: true });
  requests = createRequests({ pool, sealer: application.envelopes });
});

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

const ORGANIZATIONS = { text: 'select id::text from access.organizations' };

/** Everything a session can hold that a later one could meet. */
async function baseline(): Promise<object> {
  const { rows } = await pool.query(`select current_user::text, session_user::text,
    (select jsonb_object_agg(name, setting order by name) from pg_settings
      where source = 'session' and name not in ('application_name', 'client_encoding')) as changed,
    coalesce(current_setting('safetypin.context', true), '') || coalesce(current_setting('safetypin.envelope', true), '') as context,
    (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks,
    (select count(*)::int from pg_class where relpersistence = 't') as temporary,
    (select count(*)::int from pg_cursors where name <> '') as cursors,
    (select count(*)::int from pg_prepared_statements where from_sql) as prepared,
    (select count(*)::int from pg_listening_channels()) as channels`);
  return rows[0];
}

const NOTHING = {
  current_user: 'safetypin_authenticator',
  session_user: 'safetypin_authenticator',
  changed: null,
  context: '',
  locks: 0,
  temporary: 0,
  cursors: 0,
  prepared: 0,
  channels: 0,
};

describe('games with roles and transactions (PG-52)', () => {
  const other = () => bob.organization;
  // Statements of one request, and what the last of them gives: rows of others never, whatever role it runs as.
  const GAMES: readonly (readonly [string, readonly string[], string])[] = [
    ['reset role', ['reset role'], '42501'],
    ['set role none', ['set role none'], '42501'],
    ['another role of the login', ['set local role safetypin_anonymous'], '42501'],
    ['the owner', ['set local role safetypin_owner'], '42501'],
    ['another session user', ['set session authorization safetypin_owner'], '42501'],
    ['its own session user', ['set session authorization safetypin_authenticator', 'reset role'], '42501'],
    ['a setting of role by name', ["select set_config('role', 'safetypin_owner', true)"], '42501'],
    ['reset all', ['reset all'], 'none'],
    ['discard all', ['discard all'], '25001'],
    ['a savepoint around it', ['savepoint s', 'reset role', 'rollback to s'], 'own'],
    ['an end of the transaction', ['commit'], '42501'],
    ['an end and a new one', ['commit', 'begin', 'set local role safetypin_member'], 'none'],
    ['a rollback and a new one', ['rollback', 'begin', 'set local role safetypin_member'], 'none'],
    ['a chained transaction', ['commit and chain', 'set local role safetypin_member'], 'none'],
    ["another's context", ['@context', 'set local role safetypin_member'], 'none'],
  ];

  test.each(GAMES)('%s opens nothing, and is over with the request', async (_name, statements, expected) => {
    const foreign = await application.as(
      bob.credential,
      async (c) => (await c.query("select current_setting('safetypin.context') as c")).rows[0].c,
    );
    const play = requests.inRequest(source(ada), async (c: RequestClient) => {
      for (const text of statements) {
        if (text === '@context') {
          await c.query({ text: "select set_config('safetypin.context', $1, true)", values: [foreign] });
        } else await c.query({ text });
      }
      return (await c.query<{ id: string }>(ORGANIZATIONS)).rows.map(({ id }) => id);
    });
    const seen = await play.catch((error: { code?: string }) => error.code);
    expect(seen).toEqual({ own: [ada.organization], none: [] }[expected] ?? expected);
    expect(JSON.stringify(seen)).not.toContain(other());
    expect(await baseline()).toEqual(NOTHING);
    // The next asker is served, on the same connection.
    const next = await requests.inRequest(
      source(bob),
      async (c) => (await c.query<{ id: string }>(ORGANIZATIONS)).rows,
    );
    expect(next).toEqual([{ id: bob.organization }]);
  });

  test('what a request sets for the session does stay: no door leads there, and our own code sets nothing so', async () => {
    // The adaptor is no filter of SQL. It need not be one: clients have no SQL, and our functions set for the transaction only.
    await requests.inRequest(source(ada), (c) => c.query({ text: "set statement_timeout = '29s'" }));
    expect(await baseline()).not.toEqual(NOTHING);
    await pool.query('reset all');
    const admin = await db.connect('admin');
    const { rows } = await admin.query(`select p.oid::regprocedure::text as name from pg_proc p
      where p.pronamespace::regnamespace::text ~ '^(platform|keyring|audit|identity|access|sessions|request|api)'
        and (p.prosrc ~* 'set_config\\([^;]*,\\s*false\\s*\\)' or p.prosrc ~* '^\\s*set\\s+(?!local)(session|role|[a-z_.]+\\s*(=|to)\\s)'
          or p.prosrc ~* '\\mpg_(try_)?advisory_lock')`);
    await admin.end();
    expect(rows).toEqual([]);
  });
});

describe('text that PostgreSQL refuses', () => {
  test('never reaches the client as it is, whichever way it came', async () => {
    const { ErrorRegister } = await import('../../src/platform/errors.ts');
    const admin = await db.connect('admin');
    const register = new ErrorRegister(
      (await admin.query('select sqlstate, code, http_status, message from platform.errors')).rows,
    );
    await admin.end();
    const ways = [
      { text: "select convert_from('\\xff', 'UTF8')" },
      { text: 'select convert_from($1::bytea, $2)', values: [Buffer.from([0xc3, 0x28]), 'UTF8'] },
      { text: 'select chr(0)' },
      { text: "select jsonb '\"\\u0000\"' #>> '{}'" },
      { text: 'select jsonb \'"\\ud800"\'' },
      { text: 'select $1::text', values: ['a\0b'] },
      { text: 'select $1::jsonb', values: ['{"a":"\\u0000"}'] },
      { text: 'select $1::text[]', values: [['\ud800']] },
      { text: 'select $1::uuid', values: ['\udfff'] },
    ];
    for (const way of ways) {
      let error: unknown;
      await requests
        .inRequest(source(ada), (c) => c.query(way))
        .catch((thrown: unknown) => {
          error = thrown;
        });
      const { code, status, message } = register.explain(error);
      expect([way.text, code, status]).toEqual([way.text, 'BAD_INPUT', 400]);
      expect(message).toMatch(/^(The text is not valid Unicode|The input is (not valid|too large))\.$/);
    }
  });
});
