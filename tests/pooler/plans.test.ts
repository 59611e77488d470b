// A plan that PostgreSQL keeps for a name must not remember who asked first.
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { createRequests, type RequestSource, type Requests } from '../../src/graphql/adaptor.ts';
import { Application, type Person, withoutGuard } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

const TABLES = `
  create schema ward;
  comment on schema ward is 'Of a test.';
  create table ward.beds (
    organization_id uuid not null default request.organization_id(), id int not null, secret text not null,
    primary key (organization_id, id));
  comment on table ward.beds is 'Of a test.';
  grant usage on schema ward to safetypin_member, safetypin_anonymous;
  select access.protect('ward.beds');
  create view ward.bed_view with (security_invoker = true) as select id, secret from ward.beds;
  grant select on ward.bed_view to safetypin_member, safetypin_anonymous;
  create function ward.inlined(lowest int) returns table (id int, secret text) language sql stable
    as 'select id, secret from ward.beds where id >= lowest';
  create function ward.planned(lowest int) returns setof text language plpgsql stable
    as 'begin return query select secret from ward.beds b where b.id >= lowest order by b.id; end';
  grant execute on function ward.inlined(int), ward.planned(int) to safetypin_member, safetypin_anonymous;`;

const SHAPES: readonly (readonly [string, string])[] = [
  ['plain', 'select id, secret from ward.beds where id >= $1 order by id'],
  [
    'a CTE',
    'with mine as materialized (select id, secret from ward.beds) select * from mine where id >= $1 order by id',
  ],
  [
    'a CTE that is inlined',
    'with mine as (select id, secret from ward.beds) select * from mine where id >= $1 order by id',
  ],
  [
    'a sub-select',
    'select id, (select b.secret from ward.beds b where b.id = a.id) as secret from ward.beds a where id >= $1 order by id',
  ],
  [
    'exists',
    'select true as yes from generate_series($1::int, 9) g where exists (select from ward.beds b where b.id = g)',
  ],
  ['a function that is inlined', 'select * from ward.inlined($1) order by id'],
  ['a function with plans of its own', 'select * from ward.planned($1) as secret'],
  ['a view of the invoker', 'select * from ward.bed_view where id >= $1 order by id'],
  ['a join', 'select a.id, b.secret from ward.beds a join ward.bed_view b using (id) where id >= $1 order by id'],
  [
    'an aggregate',
    'select count(*)::int as n, string_agg(secret, $2 order by id) as all from ward.beds where id >= $1',
  ],
  ['who asks', 'select request.user_id()::text as person, current_user::text as role, $1::int as one'],
];

let db: TestDatabase;
let application: Application;
let askers: readonly (Person | null)[];

beforeAll(async () => {
  db = await cloneDatabase();
  const owner = await db.connect('owner');
  await owner.query(TABLES);
  await owner.end();
  application = await Application.beside(db);
  const [ada, bob] = [await application.person('ada'), await application.person('bob')];
  // Bob has far more rows, so that their plans would differ.
  for (const [{ credential, name }, rows] of [
    [ada, 3],
    [bob, 300],
  ] as const) {
    await application.rows(
      credential,
      "insert into ward.beds (id, secret) select g, $1 || ' ' || g from generate_series(1, $2) g",
      [name, rows],
    );
  }
  askers = [ada, bob, null];
});

const source = (person: Person | null): RequestSource => ({
  requestId: randomUUID(),
  credential: person?.credential ?? null,
  ip: '192.0.2.1',
  userAgent: 'test',
});

/** What somebody gets, or the SQLSTATE of the refusal. */
const ask = (requests: Requests, person: Person | null, text: string, mode: string, name?: string): Promise<unknown> =>
  requests
    .inRequest(source(person), async (c) => {
      const set = c.query({ text: `set local plan_cache_mode = '${mode}'` });
      const values = text.includes('$2') ? [1, ','] : [1];
      const { rows } = await c.query({ text, values, ...(name !== undefined && { name }) });
      await set;
      return rows;
    })
    .catch((error: { code?: string }) => error.code ?? error);

/** Each asker in turn, changing places, more often than PostgreSQL needs to settle for a plan. */
async function differences(text: string, mode: string): Promise<string[]> {
  const pool = db.pool('authenticator', { max: 1, pipeline: true });
  const requests = createRequests({ pool, sealer: application.envelopes });
  const truths = [];
  for (const person of askers) {
    const fresh = db.pool('authenticator', { max: 1, pipeline: true });
    truths.push(await ask(createRequests({ pool: fresh, sealer: application.envelopes }), person, text, mode));
    await fresh.end();
  }
  const found: string[] = [];
  for (let round = 0; round < 8; round += 1) {
    for (let i = 0; i < askers.length; i += 1) {
      const who = (i + round) % askers.length;
      const got = await ask(requests, askers[who] ?? null, text, mode, 'kept');
      if (JSON.stringify(got) !== JSON.stringify(truths[who]))
        found.push(`${who} in round ${round}: ${JSON.stringify(got)}`);
    }
  }
  const { rows } = await pool.query("select count(*)::int as n from pg_prepared_statements where name = 'kept'");
  await pool.end();
  if (rows[0].n !== 1) found.push('the statement was not kept');
  if (JSON.stringify(truths[0]) === JSON.stringify(truths[1])) found.push('two people see the same');
  return found;
}

describe('one named statement on one connection, people and roles in turn (PG-53)', () => {
  describe.each(['auto', 'force_generic_plan', 'force_custom_plan'])('%s', (mode) => {
    test.each(SHAPES.map(([name, text]) => [name, text] as const))('%s', async (_name, text) => {
      expect(await differences(text, mode)).toEqual([]);
    });
  });

  test('an accessor that claims to be immutable is remembered by the plan, and is found', async () => {
    // Before it is planned the argument is a constant: the first asker stays in the plan for good.
    await withoutGuard(db, 'request.user_id()', 'STABLE', 'IMMUTABLE', async () => {
      const text = 'select request.user_id()::text as person, $1::int as one';
      expect(await differences(text, 'force_generic_plan')).not.toEqual([]);
    });
  });
});
