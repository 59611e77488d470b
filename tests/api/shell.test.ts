// What a shell's operator was told to record, and who may read it: the SQL behind `safetypin shell`.
import { randomUUID } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, describe, expect, test } from 'vitest';
import { Application, type Person, refusal, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

const CANARY = 'select name from patients where ssn = $$078-05-1120$$';
const RECORD = 'select api_steps.record_statement($1)';
const READ = 'select audit.statement($1) as text';

let db: TestDatabase;
let admin: pg.Client;
let app: Application;
let ada: Person;
let bob: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  admin = await db.connect('admin');
  app = await Application.beside(db);
  ada = await app.person('ada');
  bob = await app.person('bob');
});

/** The newest event of a shell, as anybody reads it who has the table. */
async function newest(): Promise<{ id: string; action: string; actor_id: string; whole: string }> {
  const { rows } = await admin.query(
    `select id, action, actor_id, e::text || encode(entry, 'escape') as whole
      from audit.events e where action like 'shell.%' order by occurred_at desc limit 1`,
  );
  return rows[0];
}

describe('a statement of a shell', () => {
  test('CR-03 is sealed for its operator, whole, in the event and in its entry', async () => {
    await app.call(ada.credential, RECORD, [CANARY]);
    const event = await newest();
    expect(event).toMatchObject({ action: 'shell.statement', actor_id: ada.id });
    expect(event.whole).not.toContain('078-05-');
    expect(await app.call(ada.credential, READ, [event.id])).toEqual({ text: CANARY });
    const SEALED =
      "encode(keyring_private.seal(\n      'audit.events.statement', v_organization, v_id, v_actor, append.statement), 'hex')";
    await withoutGuard(
      db,
      'audit_private.append(text,uuid,uuid,jsonb,text,text,uuid,text)',
      SEALED,
      'append.statement',
      async () => {
        await app.call(ada.credential, RECORD, [CANARY]);
        expect((await newest()).whole).toContain('078-05');
      },
    );
  });

  test('is refused where it cannot be sealed: with no half of the key from the application', async () => {
    const before = (await newest()).id;
    const bare = app.pool.connect().then(async (client) => {
      try {
        await client.query('begin');
        const open = "select set_config('role', sessions.open_request($1, null, '{}'), true)";
        await client.query(open, [ada.credential]);
        await client.query(RECORD, ['select 1']);
      } finally {
        await client.query('rollback');
        client.release();
      }
    });
    expect(await refusal(bare)).toBe('KEYNO');
    expect((await newest()).id).toBe(before);
  });

  test('is bounded, and is something', async () => {
    expect(await refusal(app.call(ada.credential, RECORD, ['x'.repeat(64_000)]))).toBe('no refusal');
    expect(await app.call(ada.credential, READ, [(await newest()).id])).toEqual({ text: 'x'.repeat(64_000) });
    expect(await refusal(app.call(ada.credential, RECORD, ['x'.repeat(64_001)]))).toBe('54000');
    // Bytes are what is kept.
    expect(await refusal(app.call(ada.credential, RECORD, ['€'.repeat(21_334)]))).toBe('54000');
    for (const nothing of [null, '', '  '])
      expect(await refusal(app.call(ada.credential, RECORD, [nothing]))).toBe('22023');
  });

  test('SS-05 SS-06 is refused to nobody, to an ended session and to a suspended person, and each leaves no record', async () => {
    const before = (await newest()).id;
    const steps = [
      'select api_steps.start_shell()',
      `select api_steps.record_statement('x')`,
      'select api_steps.end_shell()',
    ];
    for (const step of steps) expect(await refusal(app.call(null, step))).toBe('42501');
    const eve = await app.person('eve');
    await app.call(eve.credential, 'select api.logout()');
    const fred = await app.person('fred');
    await admin.query("update identity.people set status = 'suspended' where id = $1", [fred.id]);
    for (const { credential } of [eve, fred]) {
      for (const step of steps) expect(await refusal(app.call(credential, step))).toBe('AUTHN');
    }
    // Whoever has the login's password can take the role, and is nobody all the same.
    const thief = await db.connect('authenticator');
    for (const step of steps) {
      await thief.query('begin; set local role safetypin_member');
      expect(await refusal(thief.query(step))).toBe('AUTHN');
      await thief.query('rollback');
    }
    expect((await newest()).id).toBe(before);
  });

  test('SS-05 of a session that ends in the middle is refused in its open transaction', async () => {
    const gina = await app.person('gina');
    const work = app.as(gina.credential, async (client) => {
      await client.query(RECORD, ['select 1']);
      await admin.query(
        "update sessions.sessions set ends_at = clock_timestamp(), ended_because = 'revoked' where id = $1",
        [gina.session],
      );
      await client.query(RECORD, ['select 2']);
    });
    expect(await refusal(work)).toBe('AUTHN');
  });
});

describe('reading what was recorded', () => {
  test('AZ-01 is for who may read the trail of that organization, and nobody else', async () => {
    await app.call(ada.credential, RECORD, [CANARY]);
    const { id } = await newest();
    expect(await app.call(bob.credential, READ, [id])).toEqual({ text: null });
    expect(await app.call(bob.credential, READ, [randomUUID()])).toEqual({ text: null });
    expect(await refusal(app.call(null, READ, [id]))).toBe('42501');
    await withoutGuard(
      db,
      'audit.statement(uuid)',
      'e.organization_id = request.organization_id() and',
      '',
      async () => {
        expect(await app.call(bob.credential, READ, [id])).toEqual({ text: CANARY });
      },
    );
    const held = "select from access_private.held_permissions where person_id = $1 and permission = 'audit.read'";
    await admin.query(held.replace('select', 'delete'), [ada.id]);
    expect(await refusal(app.call(ada.credential, READ, [id]))).toBe('DENYD');
    await withoutGuard(db, 'audit.statement(uuid)', "not request.can('audit.read')", 'false', async () => {
      expect(await app.call(ada.credential, READ, [id])).toEqual({ text: CANARY });
    });
  });

  test('ends with the key of who gave it', async () => {
    const hugo = await app.person('hugo');
    await app.call(hugo.credential, RECORD, [CANARY]);
    const { id } = await newest();
    expect(await app.call(hugo.credential, READ, [id])).toEqual({ text: CANARY });
    await admin.query('select keyring_private.destroy_data_key($1)', [hugo.id]);
    expect(await refusal(app.call(hugo.credential, READ, [id]))).toBe('KEYER');
  });
});

test('a shell begins and ends as events of its own, and takes its session with it', async () => {
  const ivy = await app.person('ivy');
  expect(await app.call(ivy.credential, 'select * from api_steps.start_shell()')).toEqual({
    organization: "ivy's organization",
    request_seconds: 30,
  });
  expect(await newest()).toMatchObject({ action: 'shell.start', actor_id: ivy.id });
  await app.call(ivy.credential, 'select api_steps.end_shell()');
  expect(await newest()).toMatchObject({ action: 'shell.end', actor_id: ivy.id });
  expect(await refusal(app.call(ivy.credential, 'select 1'))).toBe('AUTHN');
});
