import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, LOGIN, REGISTER, startApi, tokenOf } from './api.ts';

let api: Api;
beforeAll(async () => {
  api = await startApi();
});

async function registered(name: string): Promise<{ email: string; password: string; token: string }> {
  const email = `${name}.${crypto.randomUUID().slice(0, 8)}@example.com`;
  const password = `sentence that ${name} likes`;
  await api.gql(REGISTER, { i: { email, password, displayName: name, organizationName: name } });
  return { email, password, token: tokenOf(await api.mail(email)) };
}

/** A person's browser: reads the form of a page and sends it. */
async function press(path: string, fields?: Record<string, string>): Promise<{ status: number; html: string }> {
  const page = await (await api.send(path)).text();
  expect(page).toMatch(/<form method="post">/);
  const response = await api.send(path, { method: 'POST', ...(fields && { body: new URLSearchParams(fields) }) });
  return { status: response.status, html: await response.text() };
}

describe('the page behind the link of the verification mail', () => {
  test('uses nothing up however often it is read, by GET or HEAD, and its button does once', async () => {
    const { email, password, token } = await registered('Hedy');
    const path = `/api/auth/verify-email/${token}`;
    for (let i = 0; i < 5; i += 1) {
      expect((await api.send(path)).status).toBe(200);
      expect((await api.send(path, { method: 'HEAD' })).status).toBe(200);
    }
    expect((await api.gql(LOGIN, { i: { email, password } })).data.login.outcome).toBe('REFUSED');
    expect((await press(path)).html).toContain('Address confirmed');
    expect((await api.gql(LOGIN, { i: { email, password } })).data.login.outcome).toBe('SIGNED_IN');
    const again = await press(path);
    expect(again.status).toBe(400);
    expect(again.html).toContain('no longer valid');
  });

  test('says the same for any token before the button is pressed', async () => {
    const { token } = await registered('Joan');
    const real = await (await api.send(`/api/auth/verify-email/${token}`)).text();
    expect(await (await api.send('/api/auth/verify-email/made-up')).text()).toBe(real);
    expect(real).not.toContain(token);
  });

  test('needs no script, is kept nowhere, and sends the address on to nobody', async () => {
    const response = await api.send('/api/auth/verify-email/x');
    const html = await response.text();
    expect(html).not.toMatch(/<script|onclick|javascript:/i);
    expect(html).toMatch(/^<!doctype html>\n<html lang="en">/);
    expect(response.headers.get('content-security-policy')).toContain("default-src 'none'");
    expect(response.headers.get('content-security-policy')).not.toContain('unsafe');
    expect(response.headers.get('referrer-policy')).toBe('no-referrer');
    expect(response.headers.get('cache-control')).toBe('no-store');
  });
});

test('the page for a new password names what is wrong with it, and sets it once', async () => {
  const { email, token } = await registered('Annie');
  await press(`/api/auth/verify-email/${token}`);
  await api.gql('mutation($e: String!) { requestPasswordReset(input: { email: $e }) { outcome } }', { e: email });
  const mail = await api.mail(email, ({ links }) => (links[0] ?? '').includes('/reset-password/'));
  const path = new URL(mail.links[0] ?? '').pathname;
  const short = await press(path, { newPassword: 'too short one' });
  expect(short.status).toBe(400);
  expect(short.html).toContain('It is too short.');
  expect(short.html).toContain('autocomplete="new-password"');
  expect(short.html).not.toContain('too short one');
  const newPassword = ' spaces & "signs" + 100% count ';
  expect((await press(path, { newPassword })).html).toContain('Password set');
  expect((await press(path, { newPassword })).status).toBe(400);
  expect((await api.gql(LOGIN, { i: { email, password: newPassword } })).data.login.outcome).toBe('SIGNED_IN');
  expect((await api.gql(LOGIN, { i: { email, password: newPassword.trim() } })).data.login.outcome).toBe('REFUSED');
});
