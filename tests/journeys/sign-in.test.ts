import { beforeAll, describe, expect, test } from 'vitest';
import { type Api, LOGIN, REGISTER, startApi, tokenOf, VERIFY } from '../api/api.ts';

const ME =
  '{ currentUser { id email displayName emailVerified } currentOrganization { id name } currentSession { id } }';
const REFRESH = 'mutation($i: RefreshSessionInput!) { refreshSession(input: $i) { outcome accessToken refreshToken } }';

let api: Api;
beforeAll(async () => {
  api = await startApi();
});

describe('from the first mail to the last logout', () => {
  const email = 'Grace.Hopper@example.com';
  const password = 'nanoseconds are eleven point eight inches';
  let token = '';
  let accessToken = '';
  let refreshToken = '';

  test('registering sends a mail with a link and a code, and says no more', async () => {
    const input = { email, password, displayName: 'Grace', organizationName: 'Navy', clientMutationId: 'abc' };
    const { data } = await api.gql(REGISTER, { i: input });
    expect(data.register).toEqual({ outcome: 'VERIFICATION_SENT', reasons: [], clientMutationId: 'abc' });
    const mail = await api.mail(email);
    token = tokenOf(mail);
    expect(mail.links[0]).toBe(`${api.config.publicUrl}/api/auth/verify-email/${token}`);
    expect(mail.code).toMatch(/^\d{6}$/);
  });

  test('nobody signs in before the address is proved, and is told nothing about why', async () => {
    const { data } = await api.gql(LOGIN, { i: { email, password } });
    expect(data.login).toEqual({
      outcome: 'REFUSED',
      accessToken: null,
      refreshToken: null,
      expiresAt: null,
      retryAfter: null,
    });
  });

  test('reading the link ahead uses nothing up', async () => {
    for (const method of ['GET', 'HEAD', 'GET']) {
      const response = await api.send(`/api/auth/verify-email/${token}`, { method });
      expect(response.status).toBe(200);
    }
  });

  test('the token proves the address once', async () => {
    expect((await api.gql(VERIFY, { i: { token } })).data.verifyEmail.outcome).toBe('VERIFIED');
    expect((await api.gql(VERIFY, { i: { token } })).data.verifyEmail.outcome).toBe('REFUSED');
  });

  test('signing in gives an access token for minutes and a refresh token', async () => {
    const { data } = await api.gql(LOGIN, { i: { email: email.toUpperCase(), password } });
    expect(data.login.outcome).toBe('SIGNED_IN');
    ({ accessToken, refreshToken } = data.login);
    const minutes = (new Date(data.login.expiresAt).getTime() - Date.now()) / 60_000;
    expect(minutes).toBeGreaterThan(9);
    expect(minutes).toBeLessThanOrEqual(10);
  });

  test('she sees herself, her organization and her trail', async () => {
    const { data } = await api.gql(ME, {}, accessToken);
    expect(data.currentUser).toMatchObject({ email: email.toLowerCase(), displayName: 'Grace', emailVerified: true });
    expect(data.currentOrganization.name).toBe('Navy');
    const events = await api.gql(
      '{ auditEvents(first: 50) { nodes { id action } } sessions { nodes { id } } memberships { nodes { id } } roles { nodes { name } } permissions { nodes { name } } }',
      {},
      accessToken,
    );
    expect(events.errors).toBeUndefined();
    expect(events.data.auditEvents.nodes.map((node: { action: string }) => node.action)).toContain(
      'organization.create',
    );
    expect(events.data.sessions.nodes).toHaveLength(1);
    expect(events.data.memberships.nodes).toHaveLength(1);
  });

  test('a repeated refresh gives the same successor under a new access token', async () => {
    const first = (await api.gql(REFRESH, { i: { refreshToken } })).data.refreshSession;
    const again = (await api.gql(REFRESH, { i: { refreshToken } })).data.refreshSession;
    expect(first.outcome).toBe('SIGNED_IN');
    expect(again.refreshToken).toBe(first.refreshToken);
    expect(again.accessToken).not.toBe(first.accessToken);
    accessToken = first.accessToken;
    refreshToken = first.refreshToken;
  });

  test('a second organization is founded and switched to, under new tokens', async () => {
    const made = await api.gql(
      'mutation { createOrganization(input: { name: "Compilers" }) { outcome } }',
      {},
      accessToken,
    );
    expect(made.data.createOrganization.outcome).toBe('CREATED');
    const { data } = await api.gql('{ myOrganizations { nodes { id name } } }', {}, accessToken);
    const other = data.myOrganizations.nodes.find((node: { name: string }) => node.name === 'Compilers');
    const query =
      'mutation($i: SwitchOrganizationInput!) { switchOrganization(input: $i) { outcome accessToken refreshToken } }';
    const switched = (await api.gql(query, { i: { organizationId: other.id } }, accessToken)).data.switchOrganization;
    expect(switched.outcome).toBe('SIGNED_IN');
    expect((await api.gql(ME, {}, switched.accessToken)).data.currentOrganization.name).toBe('Compilers');
    expect((await api.gql(ME, {}, accessToken)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    accessToken = switched.accessToken;
    refreshToken = switched.refreshToken;
  });

  test('logging out ends both tokens with the next request', async () => {
    const out = await api.gql(
      'mutation { logout(input: { clientMutationId: "bye" }) { outcome clientMutationId } }',
      {},
      accessToken,
    );
    expect(out.data.logout).toEqual({ outcome: 'ENDED', clientMutationId: 'bye' });
    const dead = await api.gql(ME, {}, accessToken);
    expect(dead.data?.currentUser ?? null).toBeNull();
    expect(dead.errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    expect((await api.gql(REFRESH, { i: { refreshToken } })).data.refreshSession.accessToken).toBeNull();
  });

  test('a forgotten password is set anew by mail, once, and ends nothing silently', async () => {
    const asked = await api.gql(`mutation { requestPasswordReset(input: { email: "${email}" }) { outcome } }`);
    expect(asked.data.requestPasswordReset.outcome).toBe('SENT');
    const mail = await api.mail(email, (m) => (m.links[0] ?? '').includes('/reset-password/'));
    const query = 'mutation($i: ResetPasswordInput!) { resetPassword(input: $i) { outcome reasons } }';
    const short = await api.gql(query, { i: { token: tokenOf(mail), newPassword: 'xq7 tiny' } });
    expect(short.data.resetPassword).toEqual({ outcome: 'REFUSED', reasons: ['PASSWORD_TOO_SHORT'] });
    const newPassword = 'a bug is a moth in relay seventy';
    expect((await api.gql(query, { i: { token: tokenOf(mail), newPassword } })).data.resetPassword.outcome).toBe(
      'CHANGED',
    );
    expect((await api.gql(query, { i: { token: tokenOf(mail), newPassword } })).data.resetPassword.outcome).toBe(
      'REFUSED',
    );
    expect((await api.gql(LOGIN, { i: { email, password } })).data.login.outcome).toBe('REFUSED');
    expect((await api.gql(LOGIN, { i: { email, password: newPassword } })).data.login.outcome).toBe('SIGNED_IN');
  });
});

test('the code of the mail proves the address as well, and a wrong one does not', async () => {
  const email = 'mary.jackson@example.com';
  const password = 'wind tunnels at twice the speed of sound';
  await api.gql(REGISTER, { i: { email, password, displayName: 'Mary', organizationName: 'Langley' } });
  const { code } = await api.mail(email);
  const wrong = code === '000000' ? '000001' : '000000';
  expect((await api.gql(VERIFY, { i: { email, code: wrong } })).data.verifyEmail.outcome).toBe('REFUSED');
  expect((await api.gql(VERIFY, { i: { email, code } })).data.verifyEmail.outcome).toBe('VERIFIED');
});

test('a known and an unknown address get the same answer everywhere', async () => {
  const { email } = await api.member('Dorothy');
  const strip = (text: string): string => text.replace(/"requestId":"[^"]+"/g, '');
  const ask = async (query: string, variables: (address: string) => object): Promise<void> => {
    const known = await api.gql(query, variables(email));
    const unknown = await api.gql(query, variables(`nobody.${email}`));
    expect(strip(known.text)).toBe(strip(unknown.text));
    expect(known.status).toBe(unknown.status);
  };
  await ask(LOGIN, (address) => ({ i: { email: address, password: 'not the password at all' } }));
  await ask('mutation($e: String!) { requestPasswordReset(input: { email: $e }) { outcome } }', (e) => ({ e }));
  await ask('mutation($e: String!) { resendVerification(input: { email: $e }) { outcome } }', (e) => ({ e }));
  const someone = { password: 'a perfectly fine sentence', displayName: 'X', organizationName: 'Y' };
  await ask(REGISTER, (address) => ({ i: { ...someone, email: address } }));
});

test('five wrong passwords lock the account for a while, the right one included (LG-01)', async () => {
  const { email, password } = await api.member('Katherine');
  for (let i = 0; i < 5; i += 1) await api.gql(LOGIN, { i: { email, password: `wrong guess number ${i}` } });
  const { data } = await api.gql(LOGIN, { i: { email, password } });
  expect(data.login.outcome).toBe('REFUSED');
  expect(Number.isInteger(data.login.retryAfter)).toBe(true);
  expect(data.login.retryAfter).toBeGreaterThan(0);
});
