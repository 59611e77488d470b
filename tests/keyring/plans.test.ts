// What whoever calls can ask to see of the plans inside of our functions: settings that any login may set print them, and
// variables are constants there. No key, and nothing of anybody else, may be among them (PG-61, CR-09, F7).
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { Application, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { asInPlans } from '../support/hunt.ts';
import { keysOf } from './keys.ts';

let db: TestDatabase;
let app: Application;

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
});

/** Calls something and returns all that the server said beside the answer, without its blanks. */
async function overheard(
  work: (client: pg.ClientBase) => Promise<unknown>,
  credential: Buffer | null,
): Promise<string> {
  const client = await db.connect('authenticator');
  let said = '';
  client.on('notice', ({ message, detail }) => {
    said += `${message}${detail ?? ''}`;
  });
  await client.query("set client_min_messages = 'log'; set plan_cache_mode = 'force_custom_plan'");
  await client.query('set debug_print_plan = on; set debug_print_parse = on; set debug_print_rewritten = on');
  await client.query('begin');
  await app.open(client, credential);
  await work(client);
  await client.query('rollback');
  await client.end();
  return said.replace(/\s+/g, '');
}

async function found(said: string, where = db, whose = app): Promise<string[]> {
  const keys = await keysOf(where, whose);
  return [...keys].filter(([, key]) => said.includes(asInPlans(key))).map(([name]) => name);
}

it('the first call of an application, which makes the index keys, shows no key', async () => {
  const bind = async (client: pg.ClientBase) => {
    await client.query('select keyring.bind_application()');
  };
  const admin = await db.connect('admin');
  const emptied = async () => {
    await admin.query('create table if not exists public.kept as select * from keyring_private.index_keys');
    await admin.query('delete from keyring_private.index_keys');
    try {
      return await overheard(bind, null);
    } finally {
      await admin.query('insert into keyring_private.index_keys select * from public.kept on conflict do nothing');
    }
  };
  const said = await emptied();
  expect(said).toContain('PLANNEDSTMT');
  expect(await found(said)).toEqual([]);
  // The key in a variable, as it first was, is the key-encryption key in the hands of the caller.
  const variable =
    'declare v_key bytea := keyring_private.key_encryption_key((select max(version) from keyring_private.roots)); $1 wrap(v_key,';
  await withoutGuard(db, 'keyring.bind_application()', /declare([\s\S]*)wrap\(kek\.key,/, variable, async () => {
    expect(await found(await emptied())).toEqual(['key-encryption key 1']);
  });
});

it('nor does any step from the first mail to a new password, nor what belongs to somebody else', async () => {
  const clone = await cloneDatabase();
  const admin = await clone.connect('admin');
  const everything = ['client_min_messages = log', 'plan_cache_mode = force_custom_plan', 'debug_print_plan = on'];
  for (const setting of everything) await admin.query(`alter database ${clone.name} set ${setting}`);
  const loud = await Application.beside(clone);
  let said = '';
  const heardOf = new WeakSet();
  loud.pool.on('acquire', (client) => {
    if (heardOf.has(client)) return;
    heardOf.add(client);
    client.on('notice', ({ message, detail }) => {
      said += `${message}${detail ?? ''}`;
    });
  });
  const grace = await loud.person('grace');
  await loud.rows(grace.credential, 'select * from api."current_user"()');
  await loud.rows(grace.credential, 'select * from api.create_organization($1)', ['Second']);
  await loud.call(null, 'select * from api_steps.refresh_session($1, $2, $3)', [
    grace.refreshToken,
    randomBytes(32),
    randomBytes(32),
  ]);
  expect(await found(said.replace(/\s+/g, ''), clone, loud)).toEqual([]);
  expect(said.length).toBeGreaterThan(1_000_000);
  // Whoever knows an address asks for what only its owner is to get.
  said = '';
  await loud.call(null, 'select api.request_password_reset($1)', [grace.email]);
  await loud.call(null, 'select api.resend_verification($1)', [grace.email]);
  const attempt = (
    await loud.call<{ attempt: string }>(null, 'select * from api_steps.start_sign_in($1)', [grace.email])
  ).attempt;
  await loud.call(null, 'select api_steps.submit_sign_in($1, $2)', [attempt, randomBytes(32)]);
  await loud.call(null, 'select * from api_steps.finish_sign_in($1, $2, null, $3, $4)', [
    attempt,
    randomBytes(32),
    randomBytes(32),
    randomBytes(32),
  ]);
  const heard = said.replace(/\s+/g, '');
  expect(heard).toContain(asInPlans(Buffer.from(grace.email)));
  expect(await found(heard, clone, loud)).toEqual([]);
  const mails = await loud.mails();
  const [token] = mails.map(({ variables }) => Buffer.from(variables.token ?? '', 'base64url'));
  expect(token?.length).toBe(32);
  const hers = new Map([
    ['the token on its way to her', token as Buffer],
    ['her name', Buffer.from(`${grace.name}'s organization`)],
    ['what stands for her password', grace.tag],
  ]);
  for (const [what, value] of hers) expect(heard.includes(asInPlans(value)), what).toBe(false);
});

it('nor does writing, reading and finding in a sealed column', async () => {
  const ada = await app.person('ada');
  const owner = await db.connect('owner');
  await owner.query(`
    create schema clinic;
    create table clinic.patients (organization_id uuid not null, id uuid default platform.uuid_v7(), ssn text, primary key (organization_id, id));
    select access.protect('clinic.patients');
    select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true);`);
  const steps: [string, unknown[]][] = [
    ['insert into clinic.patients (ssn) values ($1), ($2)', ['078-05-1120', '078-05-1121']],
    ['select clinic.patients_ssn(p) from clinic.patients p', []],
    ['select * from clinic.patients_by_ssn($1)', ['078-05-1120']],
    ['update clinic.patients set ssn = $1 where clinic.patients_ssn(patients) = $2', ['078-05-1122', '078-05-1120']],
  ];
  // The first one makes keys, the second opens what is there.
  await app.rows(ada.credential, "insert into clinic.patients (ssn) values ('078-05-1119')");
  const said = await overheard(async (client) => {
    for (const [text, values] of steps) await client.query(text, values);
  }, ada.credential);
  expect(said).toContain(asInPlans(Buffer.from('078-05-1122')));
  expect(await found(said)).toEqual([]);
});
