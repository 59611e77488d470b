import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, startApi, tokenOf } from './api.ts';

let api: Api;
beforeAll(async () => {
  api = await startApi();
});

const META = { code: 'OK', requestId: expect.stringMatching(/^[0-9a-f-]{36}$/), fields: {} };

test('the whole way over REST: register, verify, sign in, refresh, log out', async () => {
  const email = 'rest@example.com';
  const password = 'a sentence about resting';
  const registered = await api.rest('register', { email, password, displayName: 'R', organizationName: 'Rest' });
  expect(registered.status).toBe(200);
  expect(registered.body).toEqual({ success: true, data: { outcome: 'VERIFICATION_SENT' }, error: null, meta: META });

  const early = await api.rest('login', { email, password });
  expect(early.status).toBe(401);
  expect(early.body).toMatchObject({
    success: false,
    data: { outcome: 'REFUSED' },
    error: 'The sign-in was refused.',
    meta: { code: 'REFUSED' },
  });

  const first = await api.mail(email);
  expect((await api.rest('resend-verification', { email })).body.data).toEqual({ outcome: 'SENT' });
  // The first one's token is void now.
  const token = tokenOf(await api.mail(email, ({ text }) => text !== first.text));
  expect((await api.rest('verify-email', { token })).body.data).toEqual({ outcome: 'VERIFIED' });
  expect((await api.rest('verify-email', { token })).status).toBe(400);

  const signedIn = await api.rest('login', { email, password });
  expect(signedIn.status).toBe(200);
  const { accessToken, refreshToken } = signedIn.body.data;
  const refreshed = await api.rest('refresh', { refreshToken });
  expect(refreshed.body.data.outcome).toBe('SIGNED_IN');
  const out = await api.rest('logout', undefined, accessToken);
  expect(out.body).toMatchObject({ success: true, data: { outcome: 'ENDED' } });
  expect((await api.rest('logout', undefined, accessToken)).status).toBe(401);
  expect((await api.rest('refresh', { refreshToken: refreshed.body.data.refreshToken })).status).toBe(401);

  expect((await api.rest('request-password-reset', { email })).body.data).toEqual({ outcome: 'SENT' });
  const mail = await api.mail(email, ({ links }) => (links[0] ?? '').includes('/reset-password/'));
  const weak = await api.rest('reset-password', { token: tokenOf(mail), newPassword: 'xq7 tiny' });
  expect(weak.status).toBe(400);
  expect(weak.body.meta.fields).toEqual({ newPassword: ['PASSWORD_TOO_SHORT'] });
  const changed = await api.rest('reset-password', {
    token: tokenOf(mail),
    newPassword: 'another sentence about resting',
  });
  expect(changed.body.data).toEqual({ outcome: 'CHANGED' });
});

test('a locked account is 429 with the seconds to wait', async () => {
  const email = 'nobody.at.all@example.com';
  for (let i = 0; i < 5; i += 1) expect((await api.rest('login', { email, password: `guess ${i}` })).status).toBe(401);
  const locked = await api.rest('login', { email, password: 'guess 6' });
  expect(locked.status).toBe(429);
  expect(Number(locked.headers.get('retry-after'))).toBe(locked.body.data.retryAfter);
});

describe('refused input', () => {
  test('names the fields', async () => {
    const missing = await api.rest('login', { email: 'x@example.com' });
    expect(missing.status).toBe(400);
    expect(missing.body).toMatchObject({
      success: false,
      data: null,
      meta: { code: 'BAD_INPUT', fields: { password: ['INVALID'] } },
    });
    const bad = await api.rest('register', {
      email: 'x',
      password: 'xq7 tiny',
      displayName: '',
      organizationName: 'O',
    });
    expect(bad.body.meta.fields).toEqual({
      email: ['EMAIL_INVALID'],
      displayName: ['DISPLAY_NAME_INVALID'],
      password: ['PASSWORD_TOO_SHORT'],
    });
  });

  test.each([
    ['no JSON', 'application/json', '{bad', 400],
    ['a form', 'application/x-www-form-urlencoded', 'email=a', 415],
    ['plain text', 'text/plain', '{"email":"a","password":"b"}', 415],
    ['too much', 'application/json', JSON.stringify({ email: 'x'.repeat(40_000) }), 413],
    ['a list', 'application/json', '[]', 400],
  ])('%s', async (_name, type, body, status) => {
    const response = await api.send('/api/auth/login', { method: 'POST', headers: { 'content-type': type }, body });
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({
      success: false,
      data: null,
      meta: { requestId: expect.any(String) },
    });
  });

  test('logging out without a session is 401', async () => {
    const answer = await api.rest('logout');
    expect(answer.status).toBe(401);
    expect(answer.body.meta.code).toBe('UNAUTHENTICATED');
  });
});
