// Random rules, roles, windows and rows: whatever explainAccess says, the statement then does (F15, F16, AZ-01).
import type pg from 'pg';
import { beforeAll, expect, it } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

const DECISIONS = Math.max(300, Math.round(3000 * loadConfig().testScale));
/** One that failed is told by its seed: put it here to see it again. */
const SEED = crypto.getRandomValues(new Uint32Array(1))[0] as number;
const PERMISSIONS = ['row.read', 'row.create', 'row.update', 'row.delete', 'row.assign', 'wing.enter'];
const TABLES = 8;

/** mulberry32: the same numbers from the same seed. */
let state = SEED;
function below(limit: number): number {
  state = (state + 0x6d2b79f5) | 0;
  let t = Math.imul(state ^ (state >>> 15), 1 | state);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * limit);
}
const pick = <T>(from: readonly T[]): T => from[below(from.length)] as T;
const chance = (percent: number) => below(100) < percent;

interface Member extends Person {
  credential: Buffer;
}
let db: TestDatabase;
let app: Application;
let admin: pg.Client;
let ada: Person;
const members: Member[] = [];
const tables: { name: string; owner: string | null; hidden: boolean; rows: string[] }[] = [];

/** A window that is over, that holds, that is yet to come, or without an end. */
const WINDOWS = [
  "'-infinity', 'infinity'",
  "now() - interval '1 day', now() + interval '1 day'",
  "'-infinity', now() - interval '1 hour'",
  "now() + interval '1 hour', 'infinity'",
];

async function makeMembers(): Promise<void> {
  for (let i = 0; i < 7; i++) {
    const person = await app.person(`p${i}`);
    const membership = (
      await admin.query('insert into access.memberships (organization_id, person_id) values ($1, $2) returning id', [
        ada.organization,
        person.id,
      ])
    ).rows[0].id;
    for (let n = below(3); n > 0; n--) {
      await admin.query(
        `insert into access.membership_roles (organization_id, membership_id, role_id, valid_from, valid_until)
          select $1, $2, id, ${pick(WINDOWS)} from access.roles where organization_id = $1 and name = $3`,
        [ada.organization, membership, `r${below(6)}`],
      );
    }
    const { session_id, credential } = await app.signIn(person.email, person.tag, ada.organization);
    await admin.query('update sessions.sessions set assurance = $2 where id = $1', [session_id, 1 + below(2)]);
    members.push({ ...person, credential });
  }
}

async function makeTables(owner: pg.Client): Promise<void> {
  await owner.query("create schema wing; select access.define_permission('wing.enter', 'Enter.', '{owner}')");
  for (let i = 0; i < TABLES; i++) {
    const name = `wing.t${i}`;
    const column = chance(60) ? 'doctor_id' : null;
    const hidden = chance(25);
    await owner.query(`create table ${name} (organization_id uuid not null, id uuid default platform.uuid_v7(),
      note text, secret text, doctor_id uuid, primary key (organization_id, id))`);
    const permission = (usual: string) => (chance(25) ? null : chance(60) ? usual : pick(PERMISSIONS));
    await owner.query(
      `select access.protect('${name}', owner => $1, "select" => $2, "insert" => $3, "update" => $4, "delete" => $5, assurance => $6)`,
      [
        column,
        permission('row.read'),
        permission('row.create'),
        permission('row.update'),
        permission('row.delete'),
        chance(25) ? 2 : 1,
      ],
    );
    if (hidden) {
      await owner.query(`revoke select on ${name} from safetypin_member;
        grant select (organization_id, id, note, doctor_id) on ${name} to safetypin_member`);
    }
    const { rows } = await admin.query(
      `insert into ${name} (organization_id, note, doctor_id)
        select case when n = 0 then $1::uuid else $2::uuid end, 'n', ($3::uuid[])[n] from generate_series(0, 9) n returning id`,
      [
        members[0]?.organization,
        ada.organization,
        Array.from({ length: 9 }, () => (chance(20) ? null : pick(members).id)),
      ],
    );
    tables.push({ name, owner: column, hidden, rows: [...rows.map(({ id }) => id), crypto.randomUUID()] });
  }
}

beforeAll(async () => {
  db = await cloneDatabase();
  app = await Application.beside(db);
  admin = await db.connect('admin');
  ada = await app.person('ada');
  const owner = await db.connect('owner');
  for (let i = 0; i < 6; i++) {
    await admin.query(
      `with made as (insert into access.roles (organization_id, name) values ($1, $2) returning id)
        insert into access.role_permissions (organization_id, role_id, permission) select $1, made.id, p from made, unnest($3::text[]) p`,
      [ada.organization, `r${i}`, PERMISSIONS.filter((name) => name !== 'wing.enter' && chance(45))],
    );
  }
  await makeMembers();
  await makeTables(owner);
}, 60_000);

interface Answer {
  verdict: string;
  reason: string;
}

interface Question {
  readonly who: Member;
  readonly command: string;
  readonly table: string;
  readonly row: string | null;
  readonly column: string | null;
  readonly inName: string | null;
  readonly statement: string;
  readonly values: unknown[];
}

function question(): Question {
  const who = pick(members);
  const { name, owner } = pick(tables);
  const command = pick(['select', 'insert', 'update', 'delete']);
  const row = pick(tables.find((table) => table.name === name)?.rows ?? []);
  const column = command === 'delete' || chance(60) ? null : pick(['note', 'secret', 'nowhere', 'organization_id']);
  const base = { who, command, table: name, column, row, inName: null };
  const named = column ?? 'note';
  switch (command) {
    case 'select':
      return { ...base, statement: `select ${named} from ${name} where id = $1`, values: [row] };
    case 'update':
      return { ...base, statement: `update ${name} set ${named} = null where id = $1`, values: [row] };
    case 'delete':
      return { ...base, statement: `delete from ${name} where id = $1`, values: [row] };
  }
  const inName = owner === null || chance(30) ? null : pick(members).id;
  const columns = [
    'note',
    ...(column === null || column === 'note' ? [] : [column]),
    ...(owner === null ? [] : [owner]),
  ];
  return {
    ...base,
    row: null,
    inName,
    statement: `insert into ${name} (${columns}) values (${columns.map((one) => (one === owner ? '$1' : 'null'))})`,
    values: owner === null ? [] : [inName ?? who.id],
  };
}

const ASK =
  'select verdict, reason from api.explain_access($1, command => $2, table_name => $3, row_id => $4, column_name => $5, owner_id => $6)';
const asked = ({ who, command, table, row, column, inName }: Question) => [who.id, command, table, row, column, inName];

/** What the statement does: one row, or none, or a refusal. Other errors are the test's own. */
async function does(client: pg.ClientBase, { statement, values }: Question): Promise<boolean> {
  try {
    return (await client.query(statement, values)).rowCount === 1;
  } catch (error) {
    const { code } = error as { code?: string };
    if (code === '42501' || code === '42703') return false;
    throw error;
  }
}

interface Outcome {
  readonly wrong: string[];
  readonly verdicts: Map<string, number>;
}

/** Asks as the person and as an owner, then lets the person run it. */
async function compare(count: number): Promise<Outcome> {
  const wrong: string[] = [];
  const verdicts = new Map<string, number>();
  for (let i = 0; i < count; i++) {
    const one = question();
    const client = await app.pool.connect();
    await client.query('begin');
    await app.open(client, one.who.credential);
    const own = (await client.query<Answer>(ASK, asked(one))).rows[0] as Answer;
    const did = await does(client, one);
    await client.query('rollback');
    client.release();
    const others = await app.call<Answer>(ada.credential, ASK, asked(one));
    for (const [asker, { verdict, reason }] of Object.entries({ own, others })) {
      verdicts.set(`${asker} ${verdict} ${reason}`, (verdicts.get(`${asker} ${verdict} ${reason}`) ?? 0) + 1);
      // An owner without permission to read sees no row, and is told of none.
      const said =
        verdict === 'REFUSED' && asker === 'others' ? reason === 'ROW_NOT_FOUND' : (verdict === 'ALLOWED') === did;
      if (!said)
        wrong.push(
          `${asker}: ${verdict} ${reason}, but ${did ? 'done' : 'not done'}: ${JSON.stringify(one.statement)} by ${one.who.name}`,
        );
    }
  }
  return { wrong, verdicts };
}

it('whatever is said is what the statement does', async () => {
  const { wrong, verdicts } = await compare(DECISIONS);
  expect(wrong, `seed ${SEED}`).toEqual([]);
  const reasons = [...verdicts.keys()].join();
  for (const reason of ['HELD', 'OWN_ROW', 'NOT_HELD', 'CLOSED', 'ROW_NOT_FOUND', 'COLUMN_CLOSED']) {
    expect(reasons, `seed ${SEED}`).toContain(reason);
  }
});
