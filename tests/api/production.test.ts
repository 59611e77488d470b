import { beforeAll, expect, test } from 'vitest';
import { type Api, startApi } from './api.ts';

// Only the settings are those of production: its demands on the database are tested where it starts.
let api: Api;
beforeAll(async () => {
  api = await startApi({
    worker: false,
    environment: {
      NODE_ENV: 'production',
      DATABASE_URL: 'postgres://nobody@localhost/none?sslmode=verify-full',
      PUBLIC_URL: 'https://id.example.com',
    },
  });
});

test('introspection is off, by any name (AZ-09)', async () => {
  for (const query of [
    '{ __schema { queryType { name } } }',
    '{ __type(name: "Query") { name } }',
    '{ ...f } fragment f on Query { a: __schema { types { name } } }',
  ]) {
    const { data, errors } = await api.gql(query);
    expect(data).toBeUndefined();
    expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
  }
  expect((await api.gql('{ __typename }')).data).toEqual({ __typename: 'Query' });
});

test('metrics are not there until a token or a port of their own is set', async () => {
  expect((await api.send('/metrics')).status).toBe(404);
});

test('no field is suggested (AZ-09)', async () => {
  for (const query of [
    '{ currentUsr { id } }',
    '{ currentUser { emial } }',
    'mutation { logni(input: {}) { outcome } }',
    '{ roles(frist: 3) { nodes { id } } }',
  ]) {
    const { errors, text } = await api.gql(query);
    expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
    expect(text).not.toMatch(/did you mean|currentUser|email|login|first/i);
  }
});

const HINTS = /did you mean|currentUser|emailVerified|organizationId|PRIMARY_KEY|NAME_ASC|\\"name\\"/i;

test.each([
  ['a value of an enum', '{ roles(orderBy: [NAM_ASC]) { nodes { id } } }'],
  ['a field of an input', 'mutation { login(input: { email: "x", password: "y", organisationId: "z" }) { outcome } }'],
  ['a field of a condition', '{ roles(condition: { nam: "x" }) { nodes { id } } }'],
  ['a type of a fragment', '{ ... on Roel { id } }'],
  ['a type of a variable', 'query($a: RoleConditon) { roles(condition: $a) { nodes { id } } }'],
  ['a directive', '{ __typename @inclde(if: true) }'],
  ['a fragment', '{ ...currentUsr } fragment currentUser on Query { __typename }'.replaceAll('currentUser', 'other')],
  ['an argument of a directive', '{ __typename @include(iff: true) }'],
])('nor %s (AZ-09)', async (_what, query) => {
  const { errors, text } = await api.gql(query);
  expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
  expect(text).not.toMatch(HINTS);
});

test('nor what a variable should have held (AZ-09)', async () => {
  for (const i of [
    { emial: 'x', password: 'y' },
    { email: 'x', password: 'y', refreshTokn: 'z' },
  ]) {
    const { errors, text } = await api.gql('mutation($i: LoginInput!) { login(input: $i) { outcome } }', { i });
    expect(errors?.[0]?.extensions.code).toBe('BAD_INPUT');
    expect(text).not.toMatch(/did you mean/i);
  }
  const { text } = await api.gql('query($o: [RoleOrderBy!]) { roles(orderBy: $o) { nodes { id } } }', {
    o: ['NAM_ASC'],
  });
  expect(text).not.toMatch(HINTS);
});

test('nothing is explained, estimated or traced to a client (AZ-09, GQ-11)', async () => {
  const response = await api.send('/graphql', {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-graphql-explain': 'plan,sql', accept: 'application/json' },
    body: JSON.stringify({ query: '{ __typename }', extensions: { explain: true, tracing: true } }),
  });
  expect(await response.json()).toEqual({ data: { __typename: 'Query' } });
  expect([...response.headers.keys()].filter((name) => /explain|powered|server|timing/.test(name))).toEqual([]);
});

test('neither Ruru nor the mailbox is there (GQ-11)', async () => {
  for (const path of ['/', '/ruru-static/ruru.js', '/dev/mailbox?to=x@example.com', '/graphql/stream']) {
    const response = await api.send(path, { headers: { accept: 'text/html' } });
    expect(response.status).toBe(404);
  }
});

test('browsers are told to stay with https', async () => {
  expect((await api.send('/healthz')).headers.get('strict-transport-security')).toContain('max-age=63072000');
});
