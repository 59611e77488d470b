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

test('neither Ruru nor the mailbox is there (GQ-11)', async () => {
  for (const path of ['/', '/ruru-static/ruru.js', '/dev/mailbox?to=x@example.com', '/graphql/stream']) {
    const response = await api.send(path, { headers: { accept: 'text/html' } });
    expect(response.status).toBe(404);
  }
});

test('browsers are told to stay with https', async () => {
  expect((await api.send('/healthz')).headers.get('strict-transport-security')).toContain('max-age=63072000');
});
