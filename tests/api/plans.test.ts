// How the statements that every request pays for find their rows, among a thousand organizations (F16).
import type pg from 'pg';
import { beforeAll, expect, test } from 'vitest';
import { Application, type Person, sha256 } from '../support/actors.ts';
import { cloneDatabase } from '../support/database.ts';

const ORGANIZATIONS = 1000;
/** As many as statistics look at whole, so that the same rows give the same plans. */
const ROWS = 5000;

const SHOP = ['wards', 'rooms', 'beds', 'patients', 'visits'];
const HOST = `
  create schema clinic;
  ${SHOP.map((name, i) => {
    const before = SHOP[i - 1];
    const key = before && `${before.slice(0, -1)}_id`;
    return `create table clinic.${name} (
      organization_id uuid not null, id uuid not null default platform.uuid_v7(), name text not null${key ? `, ${key} uuid` : ''},
      primary key (organization_id, id)${key ? `, foreign key (organization_id, ${key}) references clinic.${before}` : ''});
    select access.protect('clinic.${name}');`;
  }).join('\n')}`;

/** Tables that grow with what people do. */
const GROWING = `
  select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where c.relkind = 'r' and not c.relispartition and (
    n.nspname ~ '^(identity|sessions)' and c.relname <> all ('{mails,registrations,tokens}') or n.nspname = 'clinic'
    or c.oid = any (array['access.organizations', 'access.memberships', 'access.membership_roles', 'access.roles',
      'access.role_permissions', 'access_private.held_permissions']::regclass[]))
  order by 1`;

let admin: pg.Client;
let application: Application;
let ada: Person;
let growing: string[];
/** What auto_explain said. */
const heard: string[] = [];

/** Copies one row many times: every id, hash and unique name anew, organizations a thousand. Triggers are off: nobody did this. */
async function multiply(table: string): Promise<void> {
  const { rows } = await admin.query<{ name: string; value: string }>(
    `select quote_ident(a.attname) as name, case
        when a.attname = 'organization_id' then 'md5(''organization '' || i % ${ORGANIZATIONS})::uuid'
        when a.atttypid = 'uuid'::regtype then format('case when t.%1$I is not null then md5(%1$L || i)::uuid end', a.attname)
        when a.atttypid = 'bytea'::regtype then format('case when t.%1$I is not null then sha256(convert_to(%1$L || i, ''UTF8'')) end', a.attname)
        when a.atttypid = 'text'::regtype and exists (
          select from pg_index x where x.indrelid = a.attrelid and x.indisunique and a.attnum = any (x.indkey)) and not exists (
          select from pg_constraint k where k.conrelid = a.attrelid and k.contype = 'f' and a.attnum = any (k.conkey))
          then format('t.%I || i', a.attname)
        else format('t.%I', a.attname) end as value
      from pg_attribute a
      where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped and a.attgenerated = '' order by a.attnum`,
    [table],
  );
  const [names, values] = [rows.map(({ name }) => name).join(', '), rows.map(({ value }) => value).join(', ')];
  await admin.query(`alter table ${table} disable trigger all`);
  await admin.query(
    `insert into ${table} (${names}) overriding system value
       select ${values} from (select * from ${table} limit 1) t, generate_series(1, ${ROWS}) i on conflict do nothing`,
  );
  await admin.query(`alter table ${table} enable trigger all`);
}

beforeAll(async () => {
  const db = await cloneDatabase();
  const owner = await db.connect('owner');
  await owner.query(HOST);
  await owner.end();
  application = await Application.beside(db);
  ada = await application.person('ada');
  admin = await db.connect('admin');
  for (const [i, name] of SHOP.entries()) {
    const before = SHOP[i - 1];
    await application.rows(
      ada.credential,
      before
        ? `insert into clinic.${name} (name, ${before.slice(0, -1)}_id) select 'x', id from clinic.${before}`
        : `insert into clinic.${name} (name) values ('x')`,
    );
  }
  await admin.query('alter table sessions.activity disable trigger all');
  await admin.query('insert into sessions.activity (session_id, last_used_at) select id, now() from sessions.sessions');
  growing = (await admin.query<{ name: string }>(GROWING)).rows.map(({ name }) => name);
  for (const table of growing) await multiply(table);
  await admin.query(`vacuum analyze ${growing.join(', ')}`);
  await admin.query(
    "load 'auto_explain'; set auto_explain.log_nested_statements = on; set auto_explain.log_level = notice; set auto_explain.log_min_duration = 0",
  );
  admin.on('notice', ({ message = '' }) => {
    if (message.startsWith('duration: ')) heard.push(message);
  });
}, 120_000);

/** The places where a statement, and every one inside its functions, looks for rows; without one, the opening itself. */
async function scansOf(credential: Buffer | null, text: string, values: unknown[] = []) {
  const envelope = await application.envelopes.seal(credential);
  await admin.query('begin');
  heard.length = 0;
  const opened = await admin.query('select sessions.open_request($1, $2, $3) as role', [credential, envelope, {}]);
  if (text === '') {
    await admin.query('rollback');
    return { rows: [], scans: scansIn(heard) };
  }
  await admin.query(`set local role ${opened.rows[0].role}`);
  heard.length = 0;
  const { rows } = await admin.query(text, values);
  // What came with values is over, and said, when the next statement comes.
  await admin.query('select 1');
  const scans = scansIn(heard);
  await admin.query('commit');
  return { rows, scans };
}

/** `sessions by sessions_pkey`, once each, of the tables that grow: the others are a page or two, read as it comes. */
function scansIn(plans: readonly string[]): string[] {
  const big = new Set(growing.map((name) => name.split('.').at(-1)));
  const found = new Set<string>();
  let heap = '';
  for (const line of plans.join('\n').split('\n')) {
    const [, how = '', what = ''] = /^\s*(?:->\s+)?(\w[\w ]*?) Scan (.*?) +\(cost/.exec(line) ?? [];
    const [, index, table = ''] = /^(?:Backward )?(?:using (\S+) )?on (\S+)/.exec(what) ?? [];
    // The index of a bitmap stands in the line below its table.
    if (how === 'Bitmap Index') found.add(`${heap} by ${table}`);
    else if (how === 'Bitmap Heap') heap = table;
    else if (how !== '') found.add(index === undefined ? `${table} whole` : `${table} by ${index}`);
  }
  return [...found].filter((scan) => big.has(scan.split(' ')[0])).sort();
}

test('what every request asks finds its rows by an index, among a thousand organizations', async () => {
  const found: string[] = [];
  const problems: string[] = [];
  const note = (what: string, scans: readonly string[]): void => {
    found.push(`${what}\n${scans.map((scan) => `  ${scan}\n`).join('')}`);
    problems.push(...scans.filter((scan) => scan.endsWith(' whole')).map((scan) => `${what}: ${scan}`));
  };
  const ask = async (what: string, credential: Buffer | null, text: string, values: unknown[] = []) => {
    const { rows, scans } = await scansOf(credential, text, values);
    note(what, scans);
    return rows[0];
  };
  await ask('open a request', ada.credential, '');
  for (const name of ['user_id', 'owner_id', 'organization_id', 'session_id', 'assurance'])
    await ask(`request.${name}()`, ada.credential, `select request.${name}()`);
  await ask('request.can(permission)', ada.credential, "select request.can('row.read')");
  await ask('list of a host table', ada.credential, 'select id, name from clinic.patients order by id limit 20');
  await ask('row of a host table', ada.credential, 'select name from clinic.patients where id = $1', [
    crypto.randomUUID(),
  ]);
  const joins = SHOP.slice(0, -1)
    .map(
      (name, i) =>
        `join clinic.${name} on (${name}.organization_id, ${name}.id) = (${SHOP[i + 1]}.organization_id, ${SHOP[i + 1]}.${name.slice(0, -1)}_id)`,
    )
    .reverse();
  await ask(
    'join of five host tables',
    ada.credential,
    `select visits.id, wards.name from clinic.visits ${joins.join(' ')} order by visits.id limit 20`,
  );
  await ask('list of memberships', ada.credential, 'select id, person_id from access.memberships order by id limit 20');
  const start = await ask('sign in: start', null, 'select * from api_steps.start_sign_in($1)', [ada.email]);
  await ask('sign in: submit', null, 'select api_steps.submit_sign_in($1, $2)', [start?.attempt, ada.tag]);
  const [credential, refresh] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const signedIn = await ask('sign in: finish', null, 'select * from api_steps.finish_sign_in($1, $2, $3, $4, $5)', [
    start?.attempt,
    ada.tag,
    null,
    sha256(credential),
    sha256(refresh),
  ]);
  expect(signedIn?.outcome).toBe('SIGNED_IN');
  await ask('refresh', null, 'select * from api_steps.refresh_session($1, $2, $3)', [
    refresh,
    sha256(Buffer.alloc(32, 3)),
    sha256(Buffer.alloc(32, 4)),
  ]);
  expect(problems).toEqual([]);
  const { rows: empty } = await admin.query(
    'select oid::regclass::text as name from pg_class where oid = any ($1::regclass[]) and reltuples < $2',
    [growing, ORGANIZATIONS],
  );
  expect(empty).toEqual([]);
  await expect(found.join('\n')).toMatchFileSnapshot('../snapshots/plans.txt');
}, 60_000);
