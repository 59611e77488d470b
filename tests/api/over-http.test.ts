// GraphQL over HTTP: the specification's audits, and bodies that can be read in two ways.
import { request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import { serverAudits } from 'graphql-http';
import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, startApi } from './api.ts';

let api: Api;
beforeAll(async () => {
  api = await startApi({ worker: false });
});

/** What we do not do, and why. Anything else that an audit asks for is done. */
const DEVIATIONS: Readonly<Record<string, string>> = {
  '5A70': 'MAY: queries by GET. There is no GET: an address with a query in it ends in logs and histories.',
  D6D5: 'MAY: variables by GET. As above.',
  '6A70': 'MAY: variables by GET. As above.',
  '47DE': 'SHOULD of before 2025: application/json for */*. The specification asks for its own media type since.',
  '80D8': 'SHOULD of before 2025: application/json without Accept. As above.',
};

test('the audits of graphql-http pass, but for what is decided otherwise', async () => {
  const audits = serverAudits({ url: `${api.url}/graphql` });
  const failed: string[] = [];
  for (const { id, name, fn } of audits) {
    const result = await fn();
    if (result.status !== 'ok') failed.push(`${id} ${name}`);
  }
  expect(failed.filter((audit) => !(audit.slice(0, 4) in DEVIATIONS))).toEqual([]);
  expect(failed.map((audit) => audit.slice(0, 4)).sort()).toEqual(Object.keys(DEVIATIONS).sort());
  expect(audits.length).toBeGreaterThan(55);
});

const QUERY = '{"query":"{__typename}"}';

async function post(
  body: string | Uint8Array,
  headers: Record<string, string> = {},
  path = '/graphql',
): Promise<{ status: number; type: string | null; code: unknown; text: string }> {
  const response = await api.send(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: body as string,
  });
  const text = await response.text();
  const json = JSON.parse(text);
  const code = json.errors?.[0]?.extensions.code ?? json.meta?.code;
  return { status: response.status, type: response.headers.get('content-type'), code, text };
}

const deep = (levels: number): string =>
  `{"query":"{__typename}","variables":{"a":${'['.repeat(levels)}${']'.repeat(levels)}}}`;
const bytes = (...parts: (string | number)[]): Uint8Array =>
  Buffer.concat(parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : Buffer.from([part]))));

/** What is refused before anybody looks at what it asks for; the same at every door that takes JSON. */
const REFUSED: readonly (readonly [string, string | Uint8Array, Record<string, string>, number, string])[] = [
  ['a name twice', '{"query":"{a}","query":"{__typename}"}', {}, 400, 'BAD_INPUT'],
  ['a name twice, once escaped', '{"query":"{a}","qu\\u0065ry":"{__typename}"}', {}, 400, 'BAD_INPUT'],
  ['a name twice, deeper', '{"query":"{__typename}","variables":{"a":[{"b":1,"c":2,"b":3}]}}', {}, 400, 'BAD_INPUT'],
  ['something behind it', `${QUERY}{"query":"{a}"}`, {}, 400, 'BAD_INPUT'],
  ['something behind it that no parser sees', `${QUERY}\u0000`, {}, 400, 'BAD_INPUT'],
  ['a byte order mark', `\ufeff${QUERY}`, {}, 400, 'BAD_INPUT'],
  ['bytes that are not UTF-8', bytes('{"query":"{__typename}","a":"', 0xff, '"}'), {}, 400, 'BAD_INPUT'],
  [
    'a surrogate written as UTF-8',
    bytes('{"query":"{__typename}","a":"', 0xed, 0xa0, 0x80, '"}'),
    {},
    400,
    'BAD_INPUT',
  ],
  ['an overlong slash', bytes('{"query":"{__typename}","a":"', 0xc0, 0xaf, '"}'), {}, 400, 'BAD_INPUT'],
  ['UTF-16', Buffer.from(QUERY, 'utf16le'), {}, 400, 'BAD_INPUT'],
  ['another charset', QUERY, { 'content-type': 'application/json; charset=utf-16' }, 415, 'BAD_INPUT'],
  ['a charset of one byte', QUERY, { 'content-type': 'application/json; charset=iso-8859-1' }, 415, 'BAD_INPUT'],
  ['a compressed body', gzipSync(QUERY), { 'content-encoding': 'gzip' }, 415, 'BAD_INPUT'],
  ['lists 21 deep', deep(21), {}, 400, 'LIMIT_EXCEEDED'],
  ['lists 45,000 deep', deep(45_000), {}, 400, 'LIMIT_EXCEEDED'],
  ['JSON with a comment', `${QUERY}//`, {}, 400, 'BAD_INPUT'],
  ['a number alone', 'NaN', {}, 400, 'BAD_INPUT'],
  ['a form with the name of JSON inside', QUERY, { 'content-type': 'text/plain;application/json' }, 415, 'BAD_INPUT'],
];

describe('a body is read in one way or not at all', () => {
  test.each(REFUSED)('%s, by GraphQL', async (_name, body, headers, status, code) => {
    const answer = await post(body, headers);
    expect([answer.status, answer.code]).toEqual([status, code]);
    expect(answer.text).not.toMatch(/ at |node_modules|SyntaxError|Unexpected/);
  });

  test.each(REFUSED)('%s, by a door of REST', async (_name, body, headers, status, code) => {
    const big = typeof body === 'string' && body.length > 32_768;
    const answer = await post(body, headers, '/api/auth/login');
    expect([answer.status, answer.code]).toEqual(big ? [413, 'LIMIT_EXCEEDED'] : [status, code]);
    // Refused as a body: nobody has looked for an address and a password in it.
    expect(JSON.parse(answer.text).meta.fields).toEqual({});
    expect(answer.text).not.toMatch(/ at |node_modules|SyntaxError|Unexpected/);
  });

  test('what is unusual and fine is taken', async () => {
    for (const body of [
      ` \n${QUERY}\r\n\t`,
      '{"query":"{__typename}","variables":{"a":"{\\"query\\":1,\\"query\\":2}"}}',
      '{"query":"{__typename}","variables":{"a":{"x":1},"b":{"x":1},"c":"\\\\"},"d":"\\\\\\""}',
      '{"query":"{__typename}","unknown":[1,2,{"a":null}],"onError":5,"id":"x"}',
      deep(20),
    ]) {
      expect(await post(body)).toMatchObject({ status: 200, code: undefined });
    }
    expect((await post(QUERY, { 'content-type': 'application/json;charset="UTF-8"' })).status).toBe(200);
  });

  test('half a surrogate pair and NUL inside the query are an error of the query', async () => {
    expect((await post('{"query":"{ a\\ud800 }"}')).code).toBe('BAD_INPUT');
    expect((await post('{"query":"{ a\\u0000 }"}')).code).toBe('BAD_INPUT');
  });
});

describe('the media type', () => {
  const own = { accept: 'application/graphql-response+json' };
  test.each([
    [
      'a bad token, by its own type',
      own,
      { authorization: 'Bearer x' },
      401,
      'application/graphql-response+json; charset=utf-8',
    ],
    [
      'a bad token, for older clients',
      { accept: 'application/json' },
      { authorization: 'Bearer x' },
      200,
      'application/json; charset=utf-8',
    ],
    ['a bad token, without Accept', {}, { authorization: 'Bearer x' }, 200, 'application/json; charset=utf-8'],
    ['HTML only', { accept: 'text/html' }, {}, 406, 'application/json; charset=utf-8'],
    ['nothing that is ours', { accept: 'application/json;q=0, text/html' }, {}, 406, 'application/json; charset=utf-8'],
  ])('%s', async (_name, accept, headers, status, type) => {
    const answer = await post(QUERY, { ...(accept as Record<string, string>), ...headers } as Record<string, string>);
    expect([answer.status, answer.type]).toEqual([status, type]);
    expect(answer.code).toMatch(/^(UNAUTHENTICATED|BAD_INPUT)$/);
  });

  test('an error of execution keeps status 200 with its data', async () => {
    const answer = await post('{"query":"{ roles { nodes { id } } }"}', own);
    expect([answer.status, answer.code]).toEqual([200, 'UNAUTHENTICATED']);
    expect(JSON.parse(answer.text).data).toEqual({ roles: null });
  });
});

describe('a body that does not end', () => {
  /** Sends headers and some bytes, and says what comes back. */
  const send = (path: string, headers: Record<string, string | number>, chunk: string, times: number) =>
    new Promise<{ status: number; connection: string | undefined }>((resolve, reject) => {
      const request = httpRequest(api.url + path, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
      });
      request.once('response', (response) => {
        response.resume();
        resolve({ status: response.statusCode ?? 0, connection: response.headers.connection });
        request.destroy();
      });
      request.once('error', reject);
      for (let i = 0; i < times; i += 1) request.write(chunk);
    });

  test.each(['/graphql', '/api/auth/login'])(
    '%s refuses it after some megabytes, and the connection ends',
    async (path) => {
      const answer = await send(path, { 'transfer-encoding': 'chunked' }, 'x'.repeat(100_000), 30);
      expect(answer).toEqual({ status: 413, connection: 'close' });
    },
  );
});

describe('what else a path or a form can be wrong by (GQ-10)', () => {
  test.each([
    ['/api/auth/verify-email/%E0%A4%A', 'GET', 400, 'BAD_INPUT'],
    ['/api/auth/verify-email/%ff', 'POST', 400, 'BAD_INPUT'],
    ['/%', 'GET', 404, 'NOT_FOUND'],
    ['/api/auth/login', 'GET', 404, 'NOT_FOUND'],
    ['/graphql/x', 'POST', 404, 'NOT_FOUND'],
    ['//graphql', 'POST', 404, 'NOT_FOUND'],
    ['/GRAPHQL', 'POST', 404, 'NOT_FOUND'],
  ])('%s by %s', async (path, method, status, code) => {
    const response = await api.send(path, { method });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ success: false, meta: { code } });
  });

  test('a form too large', async () => {
    const response = await api.send('/api/auth/reset-password/x', {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: `newPassword=${'x'.repeat(9000)}`,
    });
    expect(response.status).toBe(413);
    expect(await response.json()).toMatchObject({ meta: { code: 'LIMIT_EXCEEDED' } });
  });

  test('no answer lets another origin read it', async () => {
    for (const method of ['POST', 'OPTIONS']) {
      const { headers } = await api.send('/graphql', {
        method,
        headers: {
          origin: 'https://evil.example',
          'content-type': 'application/json',
          'access-control-request-method': 'POST',
        },
        ...(method === 'POST' && { body: QUERY }),
      });
      expect([...headers.keys()].filter((name) => name.startsWith('access-control-'))).toEqual([]);
    }
  });
});
