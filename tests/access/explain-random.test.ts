// Random rules, roles, windows and rows: whatever explainAccess says, the statement then does (F15, F16, AZ-01).
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { newApiKey } from '../../src/sessions/api-key.ts';
import { Application, type Person, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { random, SEED } from '../support/random.ts';

/** Beside one question for each member, table and command. */
const EXTRA = Math.round(600 * loadConfig().testScale);
const PERMISSIONS = ['row.read', 'row.create', 'row.update', 'row.delete', 'row.assign', 'wing.enter'];
const COMMANDS = ['select', 'insert', 'update', 'delete'];
const MEMBERS = 5;
const ROLES = 6;
const TABLES = 6;

const below = random(SEED);
const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T;
const chance = (percent: number) => below(100) < percent;

/** A member, or an API key. */
interface Actor {
  readonly name: string;
  readonly credential: Buffer;
  /** Null for the key of a service account. */
  readonly id: string | null;
  readonly key: string | null;
}

interface Table {
  readonly name: string;
  readonly owner: string | null;
  readonly rows: string[];
}

let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
const members: (Actor & Person)[] = [];
const keys: Actor[] = [];
const tables: Table[] = [];

/** Over, of now, yet to come, or without an end. */
const WINDOWS = [
  "'-infinity', 'infinity'",
  "'-infinity', 'infinity'",
  "now() - interval '1 day', now() + interval '1 day'",
  "'-infinity', now() - interval '1 hour'",
  "now() + interval '1 hour', 'infinity'",
];

/** Roles and members by chance, but for the first of each: a role that gives everything, and who holds it for good. */
async function makeMembers(): Promise<void> {
  for (let i = 0; i < ROLES; i++) {
    await admin.query(
      `with made as (insert into access.roles (organization_id, name) values ($1, $2) returning id)
        insert into access.role_permissions (organization_id, role_id, permission)
          select $1, made.id, p from made, unnest($3::text[]) p`,
      [ada.organization, `r${i}`, PERMISSIONS.filter((name) => i === 0 || (name !== 'wing.enter' && chance(50)))],
    );
  }
  for (let i = 0; i < MEMBERS; i++) {
    const person = await app.person(`p${i}`);
    const { rows } = await admin.query(
      'insert into access.memberships (organization_id, person_id) values ($1, $2) returning id',
      [ada.organization, person.id],
    );
    for (let n = i === 0 ? 1 : below(4); n > 0; n--) {
      await admin.query(
        `insert into access.membership_roles (organization_id, membership_id, role_id, valid_from, valid_until)
          select $1, $2, id, ${i === 0 ? WINDOWS[0] : pick(WINDOWS)} from access.roles where organization_id = $1 and name = $3`,
        [ada.organization, rows[0].id, `r${i === 0 ? 0 : below(ROLES)}`],
      );
    }
    const { session_id, credential } = await app.signIn(person.email, person.tag, ada.organization);
    await admin.query('update sessions.sessions set assurance = $2 where id = $1', [session_id, 1 + (i % 2)]);
    members.push({ ...person, credential, key: null });
  }
}

/** API keys of members and of service accounts. */
async function makeKeys(): Promise<void> {
  const some = () => PERMISSIONS.filter(() => chance(70));
  for (let i = 0; i < 6; i++) {
    const { credential, credentialHash, prefix } = newApiKey();
    const person = i < 3 ? (members[i]?.id as string) : null;
    const { rows } = await admin.query(
      `with account as (insert into access.service_accounts (organization_id, name, permissions)
          select $1, 'a' || $2, $4::text[] where $3::uuid is null returning id),
        made as (insert into access.api_keys (organization_id, name, person_id, service_account_id, permissions, prefix, expires_at)
          select $1, 'k' || $2, $3, (select id from account), $5, $6, now() + $7::interval returning organization_id, id)
        insert into access_private.api_key_secrets (organization_id, key_id, hash) select organization_id, id, $8 from made
          returning key_id`,
      [ada.organization, String(i), person, some(), i < 2 ? PERMISSIONS : some(), prefix, '1 day', credentialHash],
    );
    keys.push({ name: `k${i}`, credential, id: person, key: rows[0].key_id });
  }
}

/** Tables by chance, but for the first two: the usual permissions, the second with a second factor. */
async function makeTables(owner: pg.Client): Promise<void> {
  await owner.query('create schema wing');
  for (let i = 0; i < TABLES; i++) {
    const name = `wing.t${i}`;
    const column = i > 1 && chance(60) ? 'doctor_id' : null;
    const serial = i % 4 === 2;
    const partitioned = i % 4 === 3;
    await owner.query(`create table ${name} (organization_id uuid not null, note text, secret text, doctor_id uuid,
        id ${serial ? 'bigserial' : 'uuid default platform.uuid_v7()'}, ward text not null default 'a',
        primary key (organization_id, id${partitioned ? ', ward' : ''})) ${partitioned ? 'partition by list (ward)' : ''};
      ${partitioned ? `create table ${name}_all partition of ${name} default` : ''}`);
    const permission = (usual: string) => (i < 2 ? usual : chance(15) ? null : chance(60) ? usual : pick(PERMISSIONS));
    await owner.query(
      `select access.protect('${name}', owner => $1, "select" => $2, "insert" => $3, "update" => $4, "delete" => $5,
        assurance => $6, assign => $7)`,
      [
        column,
        ...['row.read', 'row.create', 'row.update', 'row.delete'].map(permission),
        i === 1 || (i > 1 && chance(25)) ? 2 : 1,
        chance(30) ? null : 'row.assign',
      ],
    );
    // Columns that nobody may read, now and then the one that says whose row it is.
    if (chance(40)) {
      await owner.query(`revoke select on ${name} from safetypin_member;
        grant select (organization_id, id, note ${chance(60) ? ', doctor_id' : ''}) on ${name} to safetypin_member`);
    }
    const { rows } = await admin.query(
      `insert into ${name} (organization_id, note, doctor_id)
        select case when n = 0 then $1::uuid else $2::uuid end, 'n', ($3::uuid[])[n] from generate_series(0, 9) n
        returning id::text`,
      [
        members[0]?.organization,
        ada.organization,
        Array.from({ length: 9 }, () => (chance(20) ? null : pick(members).id)),
      ],
    );
    tables.push({ name, owner: column, rows: [...rows.map(({ id }) => id), serial ? '77' : crypto.randomUUID()] });
  }
}

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  const owner = await db.connect('owner');
  await owner.query("select access.define_permission('wing.enter', 'Enter.', '{owner}')");
  await makeMembers();
  await makeKeys();
  await makeTables(owner);
}, 60_000);

interface Answer {
  readonly verdict: string;
  readonly reason: string;
}

interface Question {
  readonly who: Actor;
  readonly command: string;
  readonly table: string;
  readonly row: string | null;
  readonly column: string | null;
  readonly inName: string | null;
  readonly statement: string;
  readonly values: unknown[];
}

function question(who: Actor, table: Table, command: string, columns = 30): Question {
  const { name, owner } = table;
  const row = pick(table.rows);
  const column =
    command === 'delete' || !chance(columns) ? null : pick(['note', 'secret', 'nowhere', 'organization_id']);
  const base = { who, command, table: name, column, row, inName: null, values: [row] };
  const named = column ?? 'note';
  switch (command) {
    case 'select':
      return { ...base, statement: `select ${named} from ${name} where id = $1` };
    case 'update':
      return { ...base, statement: `update ${name} set ${named} = null where id = $1` };
    case 'delete':
      return { ...base, statement: `delete from ${name} where id = $1` };
  }
  const inName = owner === null || chance(30) ? null : pick(members).id;
  const written = [...new Set(['note', ...(column ? [column] : []), ...(owner ? [owner] : [])])];
  return {
    ...base,
    row: null,
    inName,
    statement: `insert into ${name} (${written}) values (${written.map((one) => (one === owner ? '$1' : 'null'))})`,
    values: owner ? [inName ?? who.id] : [],
  };
}

const everyQuestion = (of: readonly Actor[], columns?: number) =>
  of.flatMap((who) => tables.flatMap((table) => COMMANDS.map((command) => question(who, table, command, columns))));

const ASK = `select a.verdict, a.reason
  from unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::text[], $6::uuid[], $7::uuid[]) with ordinality
    as q (who, command, name, row_key, column_name, owner_id, key_id, n)
  cross join lateral api.explain_access(q.who, command => q.command, table_name => q.name, row_key => q.row_key,
    column_name => q.column_name, owner_id => q.owner_id, key_id => q.key_id) a
  order by q.n`;

const asked = (questions: readonly Question[]) => [
  questions.map(({ who }) => who.id),
  questions.map(({ command }) => command),
  questions.map(({ table }) => table),
  questions.map(({ row }) => row),
  questions.map(({ column }) => column),
  questions.map(({ inName }) => inName),
  questions.map(({ who }) => who.key),
];

/** What the statement does: one row, or none, or a refusal. Other errors are the test's own. */
async function does(client: pg.ClientBase, { statement, values }: Question): Promise<boolean> {
  await client.query('savepoint s');
  try {
    return (await client.query(statement, values)).rowCount === 1;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === '42501' || code === '42703') return false;
    throw error;
  } finally {
    await client.query('rollback to s');
  }
}

interface Outcome {
  readonly wrong: string[];
  readonly counts: Record<string, number>;
}

/** Asks as the person and as an owner, then lets the person run it, and takes it back. */
async function compare(questions: readonly Question[]): Promise<Outcome> {
  const wrong: string[] = [];
  const counts: Record<string, number> = {};
  for (const who of [...members, ...keys]) {
    const of = questions.filter((one) => one.who === who);
    if (of.length === 0) continue;
    const others = await app.rows<Answer & pg.QueryResultRow>(ada.credential, ASK, asked(of));
    await app.as(who.credential, async (client) => {
      // A key asks nothing.
      const answers =
        who.key === null ? { own: (await client.query<Answer>(ASK, asked(of))).rows, others } : { others };
      for (const [i, one] of of.entries()) {
        const did = await does(client, one);
        for (const [asker, { [i]: answer }] of Object.entries(answers)) {
          const { verdict, reason } = answer as Answer;
          counts[verdict] = (counts[verdict] ?? 0) + 1;
          // Where the row cannot be seen, or whose it is, there is no answer; one's own unseen row is not there.
          const right =
            verdict === 'REFUSED'
              ? reason === 'OWNER_HIDDEN' || (asker === 'others' && reason === 'ROW_NOT_FOUND')
              : (verdict === 'ALLOWED') === did;
          if (!right) {
            wrong.push(
              `${asker}: ${verdict} ${reason}, but ${did ? 'done' : 'not done'} by ${who.name}: ${one.statement}`,
            );
          }
        }
      }
    });
  }
  return { wrong, counts };
}

it('of each command the verdict is what the statement does', async () => {
  const more = Array.from({ length: Math.max(100, EXTRA) }, () =>
    question(pick([...members, ...keys, ...keys]), pick(tables), pick(COMMANDS)),
  );
  const { wrong, counts } = await compare([...everyQuestion(members), ...more]);
  expect(wrong, `seed ${SEED}`).toEqual([]);
  expect(counts.ALLOWED, `seed ${SEED}`).toBeGreaterThan(10);
  expect(counts.DENIED, `seed ${SEED}`).toBeGreaterThan(50);
}, 60_000);

it('of all rows and of permissions too', async () => {
  for (const who of members) {
    await app.as(who.credential, async (client) => {
      const { rows } = await client.query(
        `select p, request.can(p) as can, (api.explain_access(permission => p)).verdict from unnest($1::text[]) p`,
        [[...PERMISSIONS, 'organization.close']],
      );
      for (const { p, can, verdict } of rows) expect([p, verdict]).toEqual([p, can ? 'ALLOWED' : 'DENIED']);
      for (const { name } of tables) {
        const { verdict, reason } = (
          await client.query('select * from api.explain_access(command => $1, table_name => $2)', ['select', name])
        ).rows[0];
        await client.query('savepoint s');
        const seen = await client.query(`select id::text from ${name}`).then(
          ({ rows }) => rows.length,
          () => 0,
        );
        await client.query('rollback to s');
        const there = await admin.query(
          `select count(*)::int as n, count(*) filter (where doctor_id = $2)::int as own from ${name} where organization_id = $1`,
          [ada.organization, who.id],
        );
        const { n, own } = there.rows[0];
        expect(seen, `${who.name} ${name} ${reason}, seed ${SEED}`).toBe(
          verdict === 'DENIED' ? 0 : reason === 'OWN_ROWS' ? own : n,
        );
      }
    });
  }
});

it('and would not be, did a policy say something else, or a rule count for less', async () => {
  const first = members.slice(0, 1);
  // Nobody's rule, written by hand.
  await admin.query('alter policy safetypin_may_insert on wing.t0 with check (false)');
  expect((await compare(everyQuestion(first, 0))).wrong.join()).toMatch(/ALLOWED HELD, but not done.*wing\.t0/);
  await admin.query("alter policy safetypin_may_insert on wing.t0 with check ((select request.can('row.create')))");
  const rule = 'access_private.explain_rule(access.rules, uuid, uuid, access.api_keys, boolean, integer, boolean)';
  await withoutGuard(db, rule, 'passes and assurance < rule.assurance', 'false', async () => {
    expect((await compare(everyQuestion(first, 0))).wrong.join()).toMatch(/ALLOWED HELD, but not done.*wing\.t1/);
  });
  expect((await compare(everyQuestion(first, 0))).wrong).toEqual([]);
});
