// One record is one line, whatever stands in it, and no line has what is a person's (AU-09, AU-10, SS-12, CR-09).
import { request } from 'node:http';
import { stripVTControlCharacters } from 'node:util';
import { beforeAll, describe, expect, test } from 'vitest';
import { describeFault, log, logFault } from '../../src/platform/log.ts';
import { LOG_LEVELS } from '../../src/platform/log-line.ts';
import { type Api, LOGIN, REGISTER, startApi, tokenOf, VERIFY } from '../api/api.ts';
import { hear } from './log.ts';

let api: Api;
let proxied: Api;
beforeAll(async () => {
  api = await startApi({ say: (line) => process.stderr.write(`${line}\n`) });
  proxied = await startApi({ environment: { TRUSTED_PROXIES: '127.0.0.1', LOG_ADDRESSES: 'on' }, worker: false });
});

const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/;

/** Sends bytes that fetch would refuse to send. */
const raw = (url: string, headers: Record<string, string>): Promise<number> =>
  new Promise((resolve, reject) => {
    const sent = request(url, { headers }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
    });
    sent.once('error', reject).end();
  });

describe('the line of a request', () => {
  test('says what was asked in our own names, how it went, and how long it took', async () => {
    const { lines } = await hear('info', () => api.gql('query Mine { me: currentUser { id } }'));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toEqual({
      level: 'info',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
      event: 'request',
      requestId: expect.stringMatching(UUID),
      method: 'POST',
      route: '/graphql',
      operation: 'query currentUser',
      name: 'Mine',
      status: 200,
      code: 'OK',
      ms: expect.any(Number),
    });
  });

  test('has the code of the error that was told, over GraphQL and over REST', async () => {
    const { lines } = await hear('info', async () => {
      await api.gql('{ nothing }');
      await api.gql('{ sessions { nodes { id } } }', {}, 'not-a-token');
      await api.rest('login', { email: 1 });
      await api.rest('login', { email: 'a@example.com', password: 'not the password of anybody' });
    });
    expect(lines.map(({ route, status, code }) => [route, status, code])).toEqual([
      ['/graphql', expect.any(Number), 'BAD_INPUT'],
      ['/graphql', 200, 'UNAUTHENTICATED'],
      ['/api/auth/login', 400, 'BAD_INPUT'],
      ['/api/auth/login', 401, 'REFUSED'],
    ]);
  });

  test('has the id that the client was told, on every line about it', async () => {
    const { lines, result } = await hear('info', () => api.gql('{ nothing }'));
    expect(lines.map(({ requestId }) => requestId)).toEqual([result.headers.get('x-request-id')]);
  });

  test('names no path that a client made up, and no token in one (SS-12)', async () => {
    const { lines, text } = await hear('info', async () => {
      await api.send('/canary/of/mine?canary=1');
      await api.send('/api/auth/verify-email/canarytoken');
    });
    expect(lines.map(({ route }) => route)).toEqual(['other', '/api/auth/verify-email']);
    expect(text).not.toContain('canary');
  });

  test('of health and metrics is for debugging only', async () => {
    const { lines } = await hear('info', () => api.send('/healthz'));
    expect(lines).toEqual([]);
    expect((await hear('debug', () => api.send('/healthz'))).lines).toHaveLength(1);
  });

  test('has an address only where that is set', async () => {
    const { lines } = await hear('info', () =>
      proxied.send('/canary', { headers: { 'x-forwarded-for': '192.0.2.9' } }),
    );
    expect(lines[0].ip).toBe('192.0.2.9');
    expect((await hear('info', () => api.send('/canary'))).lines[0]).not.toHaveProperty('ip');
  });
});

describe('the id of a request', () => {
  const given = '0198f2ab-1111-7222-8333-444455556666';
  const answered = async (from: Api, id: string) =>
    (await from.send('/healthz', { headers: { 'x-request-id': id } })).headers.get('x-request-id');

  test('is taken from a trusted proxy', async () => {
    expect(await answered(proxied, given.toUpperCase())).toBe(given);
  });

  test('is made here for everybody else', async () => {
    expect(await answered(api, given)).toMatch(UUID);
    expect(await answered(api, given)).not.toBe(given);
  });

  test.each(['1', `${given}0`, `${given}, ${given}`, 'x'.repeat(36), '{"level":"error"}'])(
    'is made here when a proxy passes on %s (AU-09)',
    async (id) => expect(await answered(proxied, id)).toMatch(UUID),
  );
});

/** Signs of a text that a terminal obeys or a reader takes for the end of a line, but for the line break itself. */
const unseenIn = (text: string): number[] =>
  [...text]
    .map((sign) => sign.charCodeAt(0))
    .filter((code) => (code < 32 && code !== 10) || (code >= 127 && code < 160) || (code >= 0x2028 && code <= 0x202e));

describe('signs that would break a line (AU-09)', () => {
  const BREAKERS = [
    '\r\n{"level":"error","event":"forged"}',
    '\u001b[2J\u001b[31m',
    '\u2028',
    '\u2029',
    '\u0085',
    '\u009b31m',
    '\u202e',
  ];

  test.each(BREAKERS)('%j in a value stay in their record, escaped', async (sign) => {
    const { text, lines } = await hear('info', async () => log('info', 'probe', { value: `before${sign}after` }));
    expect(text.split(/[\n\u2028\u2029\u0085]/)).toHaveLength(2);
    expect(unseenIn(text)).toEqual([]);
    expect(lines).toHaveLength(1);
    expect(lines[0].value).toBe(`before${sign}after`);
  });

  test('and would have broken it: JSON alone lets some of them through', () => {
    expect(JSON.stringify('\u2028\u009b')).toMatch(/[\u2028\u009b]/);
  });

  test.each(BREAKERS)('%j in a line for people is shown, not obeyed', async (sign) => {
    const work = async () => log('info', 'probe', { value: `before${sign}after` });
    const { text } = await hear('info', work, { readable: true });
    const plain = stripVTControlCharacters(text);
    expect(plain.match(/\n/g)).toHaveLength(1);
    expect(unseenIn(plain)).toEqual([]);
  });

  test('in headers and names of operations make no record and no field', async () => {
    const nasty = encodeURIComponent('\r\n{"level":"error"}');
    const { lines, text } = await hear('debug', async () => {
      await raw(`${api.url}/x%0d%0aforged`, { 'user-agent': 'forged\u00e9\t\u0085', 'x-request-id': nasty });
      await api.gql('query forged\u2028name { currentUser { id } }');
      await api.gql(`query ${'N'.repeat(5000)} { currentUser { id } }`);
      await api.send('/graphql', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ query: '{ currentUser { id } }', operationName: 'forged\r\n{"a":1}' }),
      });
    });
    expect(lines.map(({ event }) => event)).toEqual(['request', 'request', 'request', 'request']);
    expect(text).not.toContain('forged');
    expect(lines[2].name).toBe('N'.repeat(64));
  });
});

describe('a fault', () => {
  test('shows no line of its message that looks like a place in code (AU-10)', async () => {
    const error = new Error('first\n    at canary (/canary/of/a/value.ts:1:1)\n    at canary.value');
    const { text, lines } = await hear('error', async () => logFault(describeFault(error, 'none', 'test')));
    expect(text).not.toContain('canary');
    expect(lines[0].frames[0]).toMatch(/^at .*log\.test\.ts:\d+:\d+\)?$/);
    error.message = 'another';
    expect(describeFault(error, 'none', 'test').frames).toEqual([]);
  });

  test('in a flood is twenty lines a second, and the next says how many were left out', async () => {
    await new Promise((resolve) => setTimeout(resolve, 1000 - (Date.now() % 1000)));
    const { lines } = await hear('error', async () => {
      for (let i = 0; i < 500; i += 1) logFault(describeFault(new Error('x'), 'none', 'test'));
      await new Promise((resolve) => setTimeout(resolve, 1000));
      logFault(describeFault(new Error('x'), 'none', 'test'));
    });
    expect(lines.length).toBeLessThanOrEqual(41);
    expect(lines.reduce((sum, { suppressed = 0 }) => sum + 1 + suppressed, 0)).toBe(501);
  });
});

describe('the second wall', () => {
  test.each([
    ['a mail address', 'grace.hopper+navy@example.com'],
    ['a bearer credential', 'Bearer abcdef.ghi'],
    ['a JWT', 'eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln'],
    ['a bearer credential in capitals', 'BEARER abcdef.ghi'],
    ['a secret of 256 bits', 'fQ8Kx2mP9vLwZ3nR7tYbC5dHjS1gAeUoXi4kWqBzTMs'],
  ])('takes %s out wherever it stands', async (_what, value) => {
    for (const where of [
      `at ${value} it was`,
      value,
      `\n${value}`,
      `${value}\t`,
      `"${value}"`,
      `https://x/${value}?y`,
    ]) {
      const { text } = await hear('info', async () => log('info', 'probe', { where }));
      expect(text, where).not.toContain(value);
      expect(text).toContain('[redacted]');
    }
  });

  test('takes out what stands under a name of a secret', async () => {
    const { text } = await hear('info', async () =>
      log('info', 'probe', { password: 'canary one', email: 'canary two' }),
    );
    expect(text).not.toContain('canary');
  });

  test('leaves ids, places in code and fingerprints', async () => {
    const fields = {
      requestId: '0198f2ab-1111-7222-8333-444455556666',
      at: '/node_modules/@dataplan/pg/dist/a.js:1:2',
      hash: '2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae',
      word: 'unforbearing',
    };
    const { lines } = await hear('info', async () => log('info', 'probe', fields));
    expect(lines[0]).toMatchObject(fields);
  });
});

describe.each(LOG_LEVELS)('a whole journey at level %s', (level) => {
  test('leaves nothing of a person in the log of server and worker (SS-12, CR-09)', async () => {
    const email = `Canary.Mail.${level}@example.com`;
    const password = `canary sentence number one ${level}`;
    const newPassword = `canary sentence number two ${level}`;
    const agent = { 'user-agent': 'CanaryAgent/7.0' };
    const secrets = new Set<string>(['CanaryAgent', 'canary', 'Canary', '127.0.0.1']);
    let code = /never/;
    const { text, lines } = await hear(level, async () => {
      const names = { displayName: 'Canary Name', organizationName: 'Canary Works' };
      await api.gql(REGISTER, { i: { email, password, ...names } }, undefined, agent);
      const mail = await api.mail(email);
      secrets.add(tokenOf(mail));
      code = new RegExp(`\\b${mail.code}\\b`);
      await api.gql(VERIFY, { i: { email, code: '000000' } }, undefined, agent);
      await api.gql(VERIFY, { i: { token: tokenOf(mail) } }, undefined, agent);
      await api.gql(LOGIN, { i: { email, password: `${password} wrong` } }, undefined, agent);
      const { accessToken, refreshToken } = (await api.gql(LOGIN, { i: { email, password } }, undefined, agent)).data
        .login;
      secrets.add(accessToken).add(refreshToken).add(accessToken.split('.')[2]);
      await api.gql('{ currentUser { email displayName } }', {}, accessToken, agent);
      await api.gql(
        'query($canary: Int!) { sessions(first: $canary) { nodes { id } } }',
        { canary: 'canary' },
        accessToken,
      );
      await api.gql('{ currentUser { id } }', {}, `${accessToken}canary`);
      await api.rest('refresh', { refreshToken });
      await api.gql(`mutation { requestPasswordReset(input: { email: "${email}" }) { outcome } }`);
      const reset = await api.mail(email, (m) => (m.links[0] ?? '').includes('/reset-password/'));
      secrets.add(tokenOf(reset));
      await api.send(`/api/auth/reset-password/${tokenOf(reset)}`, {
        method: 'POST',
        headers: { 'content-type': 'application/x-www-form-urlencoded', ...agent },
        body: new URLSearchParams({ newPassword }),
      });
      await api.send(`/api/auth/verify-email/${tokenOf(mail)}?canary=canary`, { headers: agent });
      await api.send('/graphql', { method: 'POST', headers: { 'content-type': 'application/json' }, body: '{"canary' });
    });
    // Six digits as a word: ids can hold them by chance.
    expect(text).not.toMatch(code);
    for (const secret of secrets) expect(text.includes(secret), `${secret} in the log at ${level}`).toBe(false);
    if (level === 'debug' || level === 'info') expect(lines.length).toBeGreaterThan(12);
    if (level === 'silent') expect(text).toBe('');
  });
});
