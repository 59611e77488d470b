import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, startApi } from './api.ts';

let api: Api;
beforeAll(async () => {
  api = await startApi({ worker: false });
});

const BODY = JSON.stringify({ query: '{ __typename }' });

describe('GraphQL is POST and JSON (AZ-10, GQ-10)', () => {
  test.each(['GET', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'])('%s is refused', async (method) => {
    const response = await api.send(
      `/graphql?query=${encodeURIComponent('mutation { logout(input: {}) { outcome } }')}`,
      { method },
    );
    expect(response.status).toBe(405);
    expect(response.headers.get('allow')).toBe('POST');
    expect(response.headers.get('access-control-allow-origin')).toBeNull();
  });

  test.each([
    'text/plain',
    'application/x-www-form-urlencoded',
    'multipart/form-data; boundary=x',
    'application/graphql',
    'application/jsonx',
    '',
  ])('content type "%s" is refused', async (type) => {
    const response = await api.send('/graphql', { method: 'POST', headers: { 'content-type': type }, body: BODY });
    expect(response.status).toBe(415);
  });

  test.each(['application/json', 'application/json; charset=utf-8', 'Application/JSON'])(
    'content type "%s" is taken',
    async (type) => {
      const response = await api.send('/graphql', { method: 'POST', headers: { 'content-type': type }, body: BODY });
      expect(await response.json()).toEqual({ data: { __typename: 'Query' } });
    },
  );

  test.each([
    '[{"query":"{__typename}"}]',
    '{',
    '',
    'null',
    '5',
    '{"query":5}',
    '{"query":"{__typename}","variables":[]}',
    '{"query":"{__typename}","operationName":5}',
  ])('body %s is refused with a code', async (body) => {
    const response = await api.send('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body,
    });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'BAD_INPUT' } }] });
  });

  test('an unknown operation and an unknown field are refused with a code', async () => {
    expect((await api.gql('{ nothing }')).errors?.[0]?.extensions.code).toBe('BAD_INPUT');
    const response = await api.send('/graphql', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ query: '{ __typename }', operationName: 'other' }),
    });
    expect(await response.json()).toMatchObject({ errors: [{ extensions: { code: 'BAD_INPUT' } }] });
  });
});

describe('every answer', () => {
  test.each(['/graphql', '/healthz', '/nope', '/api/auth/login', '/api/auth/verify-email/x'])(
    '%s carries the security headers',
    async (path) => {
      const { headers } = await api.send(path);
      expect(headers.get('x-content-type-options')).toBe('nosniff');
      expect(headers.get('referrer-policy')).toBe('no-referrer');
      expect(headers.get('x-frame-options')).toBe('DENY');
      expect(headers.get('cache-control')).toBe('no-store');
      expect(headers.get('content-security-policy')).toContain("frame-ancestors 'none'");
      expect(headers.get('x-request-id')).toMatch(/^[0-9a-f-]{36}$/);
      expect(headers.get('x-powered-by')).toBeNull();
      expect(headers.get('etag')).toBeNull();
    },
  );

  test('a path that is not there is said so in JSON', async () => {
    const response = await api.send('/nope');
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ success: false, data: null, meta: { code: 'NOT_FOUND' } });
  });
});

test('health, readiness, metrics and keys are there for everybody', async () => {
  expect(await (await api.send('/healthz')).json()).toEqual({ status: 'ok' });
  expect(await (await api.send('/readyz')).json()).toEqual({ status: 'ok' });
  await api.gql('{ nothing }');
  const metrics = await (await api.send('/metrics')).text();
  expect(metrics).toMatch(/safetypin_http_requests_total\{route="\/healthz",method="GET",status="200"\} \d/);
  expect(metrics).toMatch(/safetypin_errors_total\{code="BAD_INPUT"\}/);
  expect(metrics).toContain('safetypin_pool_connections{state="waiting"} 0');
  expect(metrics).toContain('process_resident_memory_bytes');
});

test('metrics have no label that a client can make up', async () => {
  for (let i = 0; i < 5; i += 1) await api.send(`/made/up/${i}`);
  await api.send('/api/auth/verify-email/canary-token');
  await api.send('/api/auth/made-up');
  const metrics = await (await api.send('/metrics')).text();
  expect(metrics).not.toMatch(/made|canary/);
  expect(metrics).toMatch(/route="other"/);
});

describe('development', () => {
  test('has introspection, suggestions, Ruru and the mailbox', async () => {
    expect((await api.gql('{ __schema { queryType { name } } }')).data.__schema.queryType.name).toBe('Query');
    expect((await api.gql('{ currentUsr { id } }')).errors?.[0]?.message).toContain('Did you mean');
    expect(await (await api.send('/', { headers: { accept: 'text/html' } })).text()).toContain('Ruru');
    expect(await (await api.send('/dev/mailbox?to=nobody@example.com')).json()).toEqual([]);
  });

  test('says what an operation was estimated to cost', async () => {
    const here = await startApi({ worker: false, environment: { NODE_ENV: 'development' } });
    const { text } = await here.gql('query($n: Int) { roles(first: $n) { nodes { id } } }', { n: 20 });
    expect(JSON.parse(text).extensions).toEqual({ cost: { cost: 41, limit: 50_000 } });
    expect(JSON.parse((await api.gql('{ __typename }')).text).extensions).toBeUndefined();
  });
});
