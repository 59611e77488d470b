// Using sessions (SS-03; F8): what a request does never stands in the way of the end of its session, and use is recorded apart.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, it } from 'vitest';
import { Application, sha256, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { held, logout, pause, works } from './tokens.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
});

const live = async (person: { id: string }) =>
  (
    await admin.query(
      'select count(*)::int as n from sessions.sessions where person_id = $1 and ends_at > clock_timestamp()',
      [person.id],
    )
  ).rows[0].n;

const record = async (credentials: Buffer[], at: Date[], client: pg.Pool | pg.ClientBase = app.pool): Promise<number> =>
  (await client.query('select sessions.record_activity($1, $2) as n', [credentials.map(sha256), at])).rows[0].n;

const lastUse = async (session: string): Promise<Date | undefined> =>
  (await admin.query('select last_used_at from sessions.activity where session_id = $1', [session])).rows[0]
    ?.last_used_at;

describe('a slow request', () => {
  it('does not delay the end of its own session, nor the recording of its use (F8)', async () => {
    const ada = await app.person('ada');
    const slow = await held(app, ada.credential, 'select count(*)::int as n from access.organizations');
    expect(slow.row).toEqual({ n: 1 });
    const query = slow.client.query('select pg_sleep(3)');
    let over = false;
    const end = query.then(() => {
      over = true;
    });
    const before = performance.now();
    expect(await record([ada.credential], [new Date()])).toBe(1);
    expect(await logout(app, ada.credential)).toBe('ENDED');
    expect(performance.now() - before).toBeLessThan(500);
    expect(await works(app, ada.credential)).toBe(false);
    expect(over).toBe(false);
    await end;
    expect((await slow.client.query('select count(*)::int as n from access.organizations')).rows).toEqual([{ n: 0 }]);
    await slow.end();
  });

  it('would delay it, had opening the request written the last use', async () => {
    const ada = await app.person('ada');
    const open = 'sessions.open_request(bytea,bytea,jsonb)';
    await admin.query("select platform_private.admit('safetypin_keeper', 'sessions.sessions', 'update')");
    const write =
      'update sessions.sessions s set authenticated_at = authenticated_at where s.id = (select c.session_id from sessions_private.credentials c where c.hash = sha256(credential)); v_context := request_private.write_context(';
    await withoutGuard(db, open, 'v_context := request_private.write_context(', write, async () => {
      const slow = await held(app, ada.credential, 'select 1');
      const elsewhere = await db.connect('admin');
      let over = false;
      const ending = elsewhere.query('select sessions_private.end_sessions($1, $2)', [ada.id, 'revoked']).then(() => {
        over = true;
      });
      await pause(600);
      expect(over).toBe(false);
      await slow.end();
      await ending;
    });
    await admin.query(
      'revoke update on sessions.sessions from safetypin_keeper; drop policy update_by_keeper on sessions.sessions',
    );
    expect(await live(ada)).toBe(0);
  });

  it('writes nothing: a request that only reads has no transaction id, and may be read-only', async () => {
    const ada = await app.person('ada');
    const reading = await held(app, ada.credential, 'select pg_current_xact_id_if_assigned() as id');
    expect(reading.row).toEqual({ id: null });
    await reading.end();
    const client = await app.pool.connect();
    await client.query('begin read only');
    await app.open(client, ada.credential);
    expect((await client.query('select count(*)::int as n from access.organizations')).rows).toEqual([{ n: 1 }]);
    await client.query('rollback');
    client.release();
  });
});

describe('recording use', () => {
  it('in two batches at once drops one, without waiting, and the next brings it again', async () => {
    const ada = await app.person('ada');
    const [one, two] = [await db.connect('authenticator'), await db.connect('authenticator')];
    await one.query('begin');
    expect(await record([ada.credential], [new Date()], one)).toBe(1);
    const before = performance.now();
    expect(await record([ada.credential], [new Date()], two)).toBe(0);
    expect(performance.now() - before).toBeLessThan(300);
    // Nor does a batch that is under way delay the end of a session in it.
    expect(await logout(app, ada.credential)).toBe('ENDED');
    expect(performance.now() - before).toBeLessThan(500);
    await one.query('commit');
    const bob = await app.person('bob');
    expect(await record([bob.credential], [new Date()], two)).toBe(1);
  });

  it('counts what is known and alive, the latest of each, never back and never ahead', async () => {
    const [ada, bob, gone] = [await app.person('ada'), await app.person('bob'), await app.person('gone')];
    await logout(app, gone.credential);
    const at = (seconds: number) => new Date(Date.now() + seconds * 1000);
    expect(
      await record(
        [ada.credential, ada.credential, bob.credential, gone.credential, randomBytes(32)],
        [at(-20), at(-10), at(500), at(0), at(0)],
      ),
    ).toBe(2);
    const first = (await lastUse(ada.session)) as Date;
    expect(Math.abs(first.getTime() - at(-10).getTime())).toBeLessThan(2000);
    expect(((await lastUse(bob.session)) as Date).getTime()).toBeLessThanOrEqual(Date.now() + 50);
    await record([ada.credential], [at(-3600)]);
    expect(await lastUse(ada.session)).toEqual(first);
    expect(await lastUse(gone.session)).toBeUndefined();
  });

  it('does not bring a session back that was idle too long, though its credential was seen again (SS-03)', async () => {
    const revived = async (): Promise<boolean> => {
      const ada = await app.person('ada');
      await admin.query(
        "update sessions.sessions set created_at = created_at - interval '14 days 1 second' where id = $1",
        [ada.session],
      );
      expect(await works(app, ada.credential)).toBe(false);
      await record([ada.credential], [new Date()]);
      return works(app, ada.credential);
    };
    expect(await revived()).toBe(false);
    await withoutGuard(
      db,
      'sessions.record_activity(bytea[],timestamptz[])',
      /where u\.at < greatest[\s\S]*?\)\s+group by/,
      'group by',
      async () => {
        expect(await revived()).toBe(true);
      },
    );
  });
});
