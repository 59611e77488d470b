// AZ-06: a job acts with the rights of who asked for it, and never with more. JB-01: what may be enqueued, by whom.
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { EnvelopeSealer } from '../../src/keyring/envelope.ts';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { takeMemberships } from '../support/owners.ts';

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let jobs: pg.Client;
let envelopes: EnvelopeSealer;
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  jobs = await db.connect('jobs');
  envelopes = new EnvelopeSealer(db.pool('jobs', { max: 1 }), app.keys);
  await admin.query(`
    insert into platform.tasks (name, permissions, payload, needs_asker, description) values
      ('clinic__export', '{audit.read}', '{id}', true, 'What a task of a host application is like.'),
      ('clinic__notice', '{audit.read}', '{id}', false, 'Carries out what is decided.');
    -- What a definer function of an application does, for a task that the test names.
    create function api.try_enqueue(task text, payload json) returns bigint language sql volatile security definer
      set search_path = pg_catalog, pg_temp as 'select platform.enqueue(task, payload)';
    alter function api.try_enqueue(text, json) owner to safetypin_definer;
    grant execute on function api.try_enqueue(text, json) to safetypin_member, safetypin_anonymous`);
});

beforeEach(async () => {
  ada = await app.person('ada');
});

const enqueue = async (credential: Buffer | null, task: string, payload: unknown = { id: randomUUID() }) =>
  (
    await app.call<{ id: string }>(credential, 'select api.try_enqueue($1, $2) as id', [
      task,
      typeof payload === 'string' ? payload : JSON.stringify(payload),
    ])
  ).id;

interface Seen {
  person: string | null;
  organization: string | null;
  can: boolean;
  more: boolean;
}

const SEE =
  "select request.user_id() as person, request.organization_id() as organization, request.can('audit.read') as can, request.can('members.read') as more";

/** Runs a job as a worker does; `between` happens while it is open. */
async function inside(id: string, between: () => Promise<unknown> = async () => {}): Promise<Seen> {
  await jobs.query("update graphile_worker._private_jobs set locked_at = now(), locked_by = 'test' where id = $1", [
    id,
  ]);
  await jobs.query('begin');
  try {
    await jobs.query("select set_config('role', platform.open_job($1, $2), true)", [id, await envelopes.seal(null)]);
    await between();
    return (await jobs.query<Seen>(SEE)).rows[0] as Seen;
  } finally {
    await jobs.query('rollback');
  }
}

const hold = (permission: string, held: boolean) =>
  admin.query(
    held
      ? "insert into access_private.held_permissions values ($1, $2, $3, '{(,)}') on conflict do nothing"
      : 'delete from access_private.held_permissions where organization_id = $1 and person_id = $2 and permission = $3',
    [ada.organization, ada.id, permission],
  );

describe('AZ-06', () => {
  test('a job acts for who asked for it, in that organization, with what its task permits and nothing else', async () => {
    await hold('members.read', true);
    const id = await enqueue(ada.credential, 'clinic__export');
    expect(await inside(id)).toEqual({ person: ada.id, organization: ada.organization, can: true, more: false });
  });

  test('a task lends nobody a permission that they do not hold, or do not hold any more', async () => {
    const id = await enqueue(ada.credential, 'clinic__export');
    await hold('audit.read', false);
    expect((await inside(id)).can).toBe(false);
    await hold('audit.read', true);
    const open = await enqueue(ada.credential, 'clinic__export');
    expect((await inside(open, () => hold('audit.read', false))).can).toBe(false);
    await withoutGuard(
      db,
      'request.can(text)',
      /and \(j\.person_id is null or exists \([\s\S]*?\)\);/,
      ');',
      async () => {
        expect((await inside(id)).can).toBe(true);
      },
    );
  });

  const losses = {
    'the person is suspended': () =>
      admin.query("update identity.people set status = 'suspended' where id = $1", [ada.id]),
    'the person is erased': () => admin.query("update identity.people set status = 'erased' where id = $1", [ada.id]),
    'the person left the organization': () => takeMemberships(admin, ada.id),
    'the organization is suspended': () =>
      admin.query("update access.organizations set status = 'suspended' where id = $1", [ada.organization]),
  };
  test.each(Object.entries(losses))(
    'a job is refused when %s, and so is the rest of one that runs',
    async (_what, lose) => {
      const waiting = await enqueue(ada.credential, 'clinic__export');
      const running = await enqueue(ada.credential, 'clinic__export');
      expect(await inside(running, lose)).toEqual({ person: null, organization: null, can: false, more: false });
      expect(await refusal(inside(waiting))).toBe('CTXRV');
      await withoutGuard(
        db,
        'platform.open_job(bigint,bytea)',
        /if not request_private\.job_stands[\s\S]*?end if;/,
        '',
        async () => {
          // Even then it is nobody: each accessor asks again.
          expect(await inside(waiting)).toEqual({ person: null, organization: null, can: false, more: false });
          await withoutGuard(db, 'request_private.job_stands(uuid)', 'not t.needs_asker', 'true', async () => {
            expect((await inside(waiting)).person).toBe(ada.id);
          });
        },
      );
    },
  );

  test('what carries out a decision goes on, without the rights of who is gone', async () => {
    const id = await enqueue(ada.credential, 'clinic__notice');
    await takeMemberships(admin, ada.id);
    await hold('audit.read', false);
    expect(await inside(id)).toEqual({ person: ada.id, organization: ada.organization, can: false, more: false });
  });

  test('a job of nobody is nobody', async () => {
    const id = await enqueue(null, 'clinic__notice');
    expect(await inside(id)).toMatchObject({ person: null, organization: null });
  });
});

describe('JB-01', () => {
  const id = randomUUID();
  test.each([
    ['a task that is not known', 'clinic__nothing', { id }],
    ['a task that only the clock starts', 'platform__clean_up', {}],
    ['no payload', 'clinic__export', null],
    ['a list', 'clinic__export', [id]],
    ['a text', 'clinic__export', JSON.stringify(id)],
    ['nothing in it', 'clinic__export', {}],
    ['something more', 'clinic__export', { id, email: 'canary@example.com' }],
    ['another name', 'clinic__export', { ID: id }],
    ['a name twice, the first one a text', 'clinic__export', `{"id": "canary@example.com", "id": "${id}"}`],
    ['a name twice, the second one a text', 'clinic__export', `{"id": "${id}", "id": "canary@example.com"}`],
    ['a text in place of an id', 'clinic__export', { id: 'canary@example.com' }],
    ['an id with something behind it', 'clinic__export', { id: `${id}\ncanary@example.com` }],
    ['an id in another spelling', 'clinic__export', { id: id.toUpperCase() }],
    ['an object in place of an id', 'clinic__export', { id: { id } }],
    ['a number in place of an id', 'clinic__export', { id: 7 }],
    ['null in place of an id', 'clinic__export', { id: null }],
  ])('%s is not enqueued', async (_what, task, payload) => {
    expect(await refusal(enqueue(ada.credential, task, payload))).toBe('22023');
    const { rows } = await admin.query("select from graphile_worker._private_jobs where payload::text like '%canary%'");
    expect(rows).toEqual([]);
  });

  test('ids are, and with no more tries than the task says', async () => {
    const job = await enqueue(ada.credential, 'clinic__export', { id });
    const { rows } = await admin.query(
      'select payload, max_attempts from graphile_worker._private_jobs where id = $1',
      [job],
    );
    expect(rows).toEqual([{ payload: { id }, max_attempts: 16 }]);
  });

  test('of the functions that add jobs, run-time roles may call none; the worker those of graphile-worker, for its clock', async () => {
    const { rows } = await admin.query(
      `select r.rolname as role, p.oid::regprocedure::text as call
         from pg_proc p cross join (values ('safetypin_anonymous'), ('safetypin_member'), ('safetypin_authenticator'), ('safetypin_auditor'), ('safetypin_jobs')) r (rolname)
        where (p.pronamespace = 'graphile_worker'::regnamespace or p.oid = 'platform.enqueue(text,json)'::regprocedure)
          and has_function_privilege(r.rolname, p.oid, 'execute') and r.rolname <> 'safetypin_jobs'
           or p.oid = 'platform.enqueue(text,json)'::regprocedure and has_function_privilege(r.rolname, p.oid, 'execute')`,
    );
    expect(rows).toEqual([]);
  });
});
