// The graph as an attacker walks it: ids, cursors, hidden columns, order of mutations, a session that ends on the way.
import { connect } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { makeSchema } from 'postgraphile';
import { getNamedType, isObjectType, printSchema } from 'postgraphile/graphql';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { schemaPreset } from '../../src/graphql/preset.ts';
import { type Api, type GraphQLAnswer, type Json, type Member, startApi } from './api.ts';

const HOST = `
  create schema clinic;
  grant usage on schema clinic to safetypin_member;
  create table clinic.patients (
    organization_id uuid not null references access.organizations (id),
    id uuid not null default platform.uuid_v7(),
    name text not null check (name <> 'refused'),
    canary text,
    primary key (organization_id, id));
  create index on clinic.patients (organization_id, name);
  create index on clinic.patients (organization_id, canary);
  comment on column clinic.patients.canary is E'@behavior -*\\nNobody sees it.';
  select access.protect('clinic.patients');
  create view clinic.names with (security_invoker) as select name from clinic.patients;
  grant select on clinic.names to safetypin_member;
  create function clinic.wait(seconds float) returns text language sql volatile as $$ select 'done' from pg_sleep(seconds) $$;
  grant execute on function clinic.wait(float) to safetypin_member;
`;

let api: Api;
let ada: Member;
let bob: Member;
beforeAll(async () => {
  api = await startApi({ host: HOST, environment: { SAFETYPIN_SCHEMAS: 'clinic' } });
  // Planning may take half a second, which is short on a machine that does ten other things. Nothing has run by then.
  const ask = api.gql.bind(api);
  api.gql = async (...what) => {
    for (let tries = 0; ; tries += 1) {
      const answer = await ask(...what);
      if (codeOf(answer) !== 'TIMEOUT' || tries === 5) return answer;
    }
  };
  [ada, bob] = await Promise.all([api.member('Ada'), api.member('Bob')]);
});

const codeOf = ({ errors }: GraphQLAnswer): unknown => errors?.[0]?.extensions.code;
const CREATE =
  'mutation($n: String!) { createPatient(input: { patient: { name: $n } }) { patient { id organizationId nodeId } } }';
const create = async (who: Member, n: string): Promise<{ id: string; organizationId: string; nodeId: string }> =>
  (await api.gql(CREATE, { n }, who.accessToken)).data.createPatient.patient;

/** An answer without what is new in each: the id of the request. */
const shapeOf = ({ status, data, errors }: GraphQLAnswer): object => ({
  status,
  data,
  errors: errors?.map(({ message, path, extensions: { code } }) => ({ message, path, code })),
});

const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64');
const decode = (id: string): Json => JSON.parse(Buffer.from(id, 'base64').toString());

describe('ids of nodes (GQ-02, AZ-12)', () => {
  const READ = 'query($n: ID!) { node(nodeId: $n) { __typename nodeId } }';
  const byId = (type: string) => `query($n: ID!) { ${type}ByNodeId(nodeId: $n) { nodeId } }`;
  const REMOVE = 'mutation($n: ID!) { deletePatientByNodeId(input: { nodeId: $n }) { patient { name } } }';
  const CHANGE =
    'mutation($n: ID!) { updatePatientByNodeId(input: { nodeId: $n, patch: { name: "x" } }) { patient { name } } }';

  test("with somebody else's keys answer like random ones, for every type and every way", async () => {
    const { nodeId } = await create(bob, 'of Bob');
    const [table, organization, id] = decode(nodeId) as [string, string, string];
    const random = () => crypto.randomUUID();
    const types = [
      'Patient',
      'Organization',
      'Role',
      'Membership',
      'MembershipRole',
      'Session',
      'Person',
      'AuditEvent',
      'RolePermission',
    ];
    const lists: Record<string, string> = { Person: 'people' };
    for (const type of types) {
      const list = lists[type] ?? `${type[0]?.toLowerCase()}${type.slice(1)}s`;
      const found = await api.gql(`{ ${list}(first: 1) { nodes { nodeId } } }`, {}, bob.accessToken);
      const own = found.data[list].nodes[0].nodeId as string;
      expect((await api.gql(READ, { n: own }, bob.accessToken)).data.node).toEqual({ __typename: type, nodeId: own });
      const [name, ...keys] = decode(own) as string[];
      const made = encode([name, ...keys.map((key) => (/^[0-9a-f-]{36}$/.test(key) ? random() : key))]);
      const field = `${type[0]?.toLowerCase()}${type.slice(1)}`;
      for (const query of [READ, byId(field)]) {
        const [real, none] = [
          await api.gql(query, { n: own }, ada.accessToken),
          await api.gql(query, { n: made }, ada.accessToken),
        ];
        expect(shapeOf(real)).toEqual(shapeOf(none));
        expect(Object.values(real.data)).toEqual([null]);
      }
    }
    for (const mutation of [REMOVE, CHANGE]) {
      const real = await api.gql(mutation, { n: nodeId }, ada.accessToken);
      const none = await api.gql(mutation, { n: encode([table, organization, random()]) }, ada.accessToken);
      expect(shapeOf(real)).toEqual(shapeOf(none));
      expect(real.errors?.[0]?.extensions.code ?? 'nothing').toMatch(/^(NOT_FOUND|nothing)$/);
    }
    const still = await api.gql('query($i: UUID!) { patient(id: $i) { name } }', { i: id }, bob.accessToken);
    expect(still.data.patient.name).toBe('of Bob');
  });

  test.each([
    ['an empty list', encode([])],
    ['no base64', '%%%'],
    ['nothing', ''],
    ['no list', encode({ a: 1 })],
    ['null', encode(null)],
    ['too few keys', encode(['patients'])],
    ['too many keys', encode(['patients', ...Array.from({ length: 50 }, () => 'x')])],
    ['another type', encode(['nothing', 'x'])],
    ['a key of another type', encode(['patients', 5, { a: 1 }])],
    ['SQL for a key', encode(['patients', "' or 1=1 --", "'; reset role"])],
    ['NUL', encode(['patients', '\u0000', '\u0000'])],
    ['the name of something every object has', encode(['constructor', '__proto__'])],
    ['huge', encode(['patients', 'x'.repeat(60_000)])],
    ['nested deeply', Buffer.from('['.repeat(30_000) + ']'.repeat(30_000)).toString('base64')],
  ])('malformed: %s is nothing, or one coded error', async (_name, n) => {
    for (const query of [READ, byId('patient'), byId('role'), REMOVE, CHANGE]) {
      const answer = await api.gql(query, { n }, ada.accessToken);
      expect(codeOf(answer) ?? 'nothing').toMatch(/^(BAD_INPUT|NOT_FOUND|nothing)$/);
      expect(Object.values(answer.data ?? {}).filter((one) => one !== null)).toEqual([]);
      expect(answer.text).not.toMatch(/syntax|JSON|Unexpected|collection|uuid/i);
    }
  });
});

describe('a hidden column (GQ-03, GQ-05, AZ-03)', () => {
  test('is in no type, condition, order, input or patch', async () => {
    const { schema } = await makeSchema(
      schemaPreset({ pool: api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'] }),
    );
    expect(printSchema(schema)).not.toMatch(/canary/i);
  });

  test('cannot be named in any place of a document', async () => {
    for (const query of [
      '{ patients { nodes { canary } } }',
      '{ patients(orderBy: [CANARY_ASC]) { nodes { id } } }',
      '{ patients(condition: { canary: "x" }) { nodes { id } } }',
      '{ patients(condition: { canaryIn: ["x"] }) { nodes { id } } }',
      'mutation { createPatient(input: { patient: { name: "x", canary: "y" } }) { patient { id } } }',
    ]) {
      expect(codeOf(await api.gql(query, {}, ada.accessToken))).toBe('BAD_INPUT');
    }
  });
});

describe('cursors (GQ-05, PG-06)', () => {
  const PAGE =
    'query($a: Cursor, $f: Int) { patients(first: $f, after: $a, orderBy: [NAME_ASC]) { edges { cursor node { id name organizationId } } pageInfo { hasNextPage endCursor } } }';
  beforeAll(async () => {
    for (const name of ['a', 'b', 'c', 'd', 'e']) await create(ada, name);
    await create(bob, 'c of Bob');
  });
  const page = (a: string | null, f = 2) => api.gql(PAGE, { a, f }, ada.accessToken);

  test('walk through everything once, and hold only what the row itself shows', async () => {
    const names: string[] = [];
    let after: string | null = null;
    do {
      const { data } = (await page(after)) as { data: Json };
      for (const { cursor, node } of data.patients.edges) {
        names.push(node.name);
        const values: unknown[] = decode(cursor);
        const [, ...rest] = values.flat() as string[];
        for (const value of rest) expect([node.name, node.id, node.organizationId]).toContain(value);
      }
      after = data.patients.pageInfo.hasNextPage ? data.patients.pageInfo.endCursor : null;
    } while (after !== null);
    expect(names).toEqual([...names].sort());
    expect(new Set(names).size).toBe(names.length);
  });

  test("that were forged give an error with a code, or rows of one's own", async () => {
    const cursor = (await page(null)).data.patients.edges[0].cursor as string;
    const good: Json = decode(cursor);
    const [bobs] = (await api.gql('{ patients(orderBy: [NAME_ASC]) { edges { cursor } } }', {}, bob.accessToken)).data
      .patients.edges;
    const other = (await api.gql('{ patients { edges { cursor } } }', {}, ada.accessToken)).data.patients.edges[0]
      .cursor;
    const forged = [
      bobs.cursor,
      other,
      encode([]),
      encode(null),
      encode({}),
      encode([good[0]]),
      encode([good[0], "' or 1=1 --", 'x', 'y']),
      encode([good[0], { a: 1 }, [], null]),
      encode([good[0], '\u0000', '\ud800', '']),
      encode([good[0], ...Array.from({ length: 1000 }, () => 'x')]),
      encode([good[0], 'a', 'no uuid', 'no uuid']),
      encode(['natural', 1]),
      encode(['natural', 2_147_483_648]),
      encode(['natural', '1; reset role']),
      'x',
      '',
      cursor.slice(0, -4),
      'A'.repeat(50_000),
    ];
    // Outside of production Grafast prints what it thinks of a cursor.
    const spy = vi.spyOn(console, 'error').mockReturnValue();
    for (const one of forged) {
      const answer = await page(one, 100);
      expect(codeOf(answer) ?? 'nothing').toMatch(/^(BAD_INPUT|nothing)$/);
      for (const { node } of answer.data?.patients?.edges ?? []) expect(node.name).not.toContain('of Bob');
      expect(answer.text).not.toMatch(/select|syntax|uuid:|operator|type json/i);
    }
    spy.mockRestore();
  });

  test('with a condition find by a list of values, at most a page of them', async () => {
    const query = 'query($n: [String!]) { patients(condition: { nameIn: $n }) { nodes { name } } }';
    const names = async (n: unknown) => (await api.gql(query, { n }, ada.accessToken)).data.patients.nodes;
    expect(await names(['a', 'c', 'c of Bob', "' or true --"])).toEqual([{ name: 'a' }, { name: 'c' }]);
    expect(await names([])).toEqual([]);
    expect(await names(null)).not.toEqual([]);
    expect(codeOf(await api.gql(query, { n: Array.from({ length: 101 }, () => 'a') }, ada.accessToken))).toBe(
      'LIMIT_EXCEEDED',
    );
    expect(codeOf(await api.gql(query, { n: ['a\u0000'] }, ada.accessToken))).toBe('BAD_INPUT');
  });
});

describe('several mutations in one operation (GQ-12)', () => {
  test('run in their order, each in a transaction of its own: what must not come apart is one function', async () => {
    const one = (alias: string, name: string) =>
      `${alias}: createPatient(input: { patient: { name: "${name}" } }) { patient { name } }`;
    const text = `mutation { ${one('first', 'pair 1')} ${one('second', 'pair 2')} ${one('third', 'refused')} ${one('fourth', 'pair 4')} }`;
    const { data, errors } = await api.gql(text, {}, ada.accessToken);
    expect(data).toEqual({
      first: { patient: { name: 'pair 1' } },
      second: { patient: { name: 'pair 2' } },
      third: null,
      fourth: { patient: { name: 'pair 4' } },
    });
    expect(errors).toMatchObject([{ path: ['third'], extensions: { code: 'BAD_INPUT' } }]);
    const { data: after } = await api.gql(
      '{ patients(orderBy: [PRIMARY_KEY_ASC]) { nodes { name } } }',
      {},
      ada.accessToken,
    );
    const pairs = after.patients.nodes
      .map(({ name }: { name: string }) => name)
      .filter((name: string) => name.startsWith('pair'));
    expect(pairs).toEqual(['pair 1', 'pair 2', 'pair 4']);
  });

  test('end with the session: what comes after the end is refused', async () => {
    const eve = await api.member('Eve');
    const text =
      'mutation { logout(input: {}) { outcome } createPatient(input: { patient: { name: "late" } }) { patient { id } } }';
    const { data, errors } = await api.gql(text, {}, eve.accessToken);
    expect(data).toEqual({ logout: { outcome: 'ENDED' }, createPatient: null });
    expect(errors).toMatchObject([{ path: ['createPatient'], extensions: { code: 'UNAUTHENTICATED' } }]);
  });
});

test('a session revoked while an operation runs reads nothing in the steps that come after (GQ-15)', async () => {
  const dan = await api.member('Dan');
  await create(dan, 'of Dan');
  const text =
    'mutation { wait(input: { seconds: 1 }) { result query { patients { nodes { name } } currentUser { id } } } }';
  const before = await api.gql(text, {}, dan.accessToken);
  expect(before.data.wait.query.patients.nodes).toEqual([{ name: 'of Dan' }]);
  const under = api.gql(text, {}, dan.accessToken);
  await sleep(300);
  expect((await api.gql('mutation { logout(input: {}) { outcome } }', {}, dan.accessToken)).data.logout.outcome).toBe(
    'ENDED',
  );
  const after = await under;
  expect(after.text).not.toContain('of Dan');
  expect(after.data?.wait?.query?.patients ?? null).toBeNull();
  expect(codeOf(after)).toBe('UNAUTHENTICATED');
});

describe('no subscription (GQ-13)', () => {
  test('is in the schema', async () => {
    const { schema } = await makeSchema(
      schemaPreset({ pool: api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'] }),
    );
    expect(schema.getSubscriptionType() ?? null).toBeNull();
    expect(schema.getDirectives().map(({ name }) => name)).not.toEqual(expect.arrayContaining(['stream']));
    expect(codeOf(await api.gql('subscription { a }'))).toBe('BAD_INPUT');
    expect(codeOf(await api.gql('{ __typename @stream }'))).toBe('BAD_INPUT');
  });

  test('is opened by a WebSocket or an event stream', async () => {
    const { hostname, port } = new URL(api.url);
    for (const path of ['/graphql', '/graphql/stream', '/']) {
      const answer = await new Promise<string>((resolve) => {
        const socket = connect(Number(port), hostname);
        socket.write(
          `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-transport-ws\r\n\r\n`,
        );
        socket.once('data', (chunk) => {
          resolve(String(chunk));
          socket.destroy();
        });
        socket.once('error', () => resolve('closed'));
        socket.once('close', () => resolve('closed'));
      });
      expect(answer).not.toMatch(/^HTTP\/1.1 101/);
    }
    const stream = await api.send('/graphql', { headers: { accept: 'text/event-stream' } });
    expect(stream.status).toBe(405);
  });
});

test('2,000 operations with whitespace of their own take no more memory than a few (GQ-08)', async () => {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  const ask = async (count: number, from: number) => {
    let next = from;
    const one = async () => {
      while (next < from + count) {
        next += 1;
        const spaces = ' '.repeat(next % 60) + '\t'.repeat(Math.floor(next / 60) % 60);
        const { errors } = await api.gql(
          `query Q${next} {${spaces} patients(first: 2) { nodes { id name } } }`,
          {},
          ada.accessToken,
        );
        expect(errors).toBeUndefined();
      }
    };
    await Promise.all(Array.from({ length: 8 }, one));
    collect();
    return process.memoryUsage().heapUsed;
  };
  const warm = await ask(120, 0);
  const after = await ask(Math.max(200, 2000 * loadConfig().testScale), 10_000);
  expect(after - warm).toBeLessThan(20_000_000);
}, 60_000);

test('every query runs where nothing can be written (GQ-07)', async () => {
  const { schema } = await makeSchema(
    schemaPreset({ pool: api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'] }),
  );
  const VALUES: Record<string, string> = {
    UUID: `"${crypto.randomUUID()}"`,
    ID: `"${encode(['people', crypto.randomUUID()])}"`,
    String: '"x"',
    Datetime: '"2026-01-01T00:00:00Z"',
    Float: '0',
  };
  const fields = Object.values(schema.getQueryType()?.getFields() ?? {}).filter(
    ({ name }) => name !== 'query' && name !== 'nodeId',
  );
  const texts = fields.map((field) => {
    const given = field.args
      .filter(({ type }) => String(type).endsWith('!'))
      .map(({ name, type }) => `${name}: ${VALUES[getNamedType(type).name]}`);
    const type = getNamedType(field.type);
    const inside =
      !isObjectType(type) && !String(type).match(/^Node$/)
        ? ''
        : field.name.endsWith('s') || 'pageInfo' in (isObjectType(type) ? type.getFields() : {})
          ? '{ totalCount nodes { __typename } }'
          : '{ __typename }';
    return `{ ${field.name}${given.length > 0 ? `(${given.join(', ')})` : ''} ${inside} }`;
  });
  const run = async (): Promise<object[]> => {
    const answers = [];
    for (const text of texts) answers.push({ text, answer: shapeOf(await api.gql(text, {}, ada.accessToken)) });
    return answers;
  };
  const writable = await run();
  const admin = await api.db.connect('admin');
  await admin.query(
    `alter role safetypin_authenticator in database ${api.db.name} set default_transaction_read_only = on`,
  );
  await admin.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'safetypin-api' and datname = current_database()",
  );
  await sleep(200);
  expect(codeOf(await api.gql(CREATE, { n: 'never' }, ada.accessToken))).toBe('READ_ONLY');
  expect(await run()).toEqual(writable);
  expect(texts.length).toBeGreaterThan(30);
  await admin.query(
    `alter role safetypin_authenticator in database ${api.db.name} reset default_transaction_read_only`,
  );
  await admin.query(
    "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'safetypin-api' and datname = current_database()",
  );
  await admin.end();
  await sleep(200);
}, 30_000);

test('lists without an order, as views are, take no cursor that is out of range (GQ-05)', async () => {
  const text = 'query($a: Cursor) { names(first: 2, after: $a) { nodes { name } } }';
  for (const n of [-1, 1.5, 1e20, 10_001, 2_147_483_648, 9_007_199_254_740_991, '1', null, [], {}]) {
    const answer = await api.gql(text, { a: encode(['natural', n]) }, ada.accessToken);
    expect([n, codeOf(answer) ?? 'nothing']).toEqual([
      n,
      expect.stringMatching(/^(BAD_INPUT|LIMIT_EXCEEDED|nothing)$/),
    ]);
  }
});
