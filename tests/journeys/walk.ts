// The public contract, walked from outside by two people, as any client would: it knows an address and nothing else.
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';

// biome-ignore lint/suspicious/noExplicitAny: answers are looked into by who asked.
type Json = any;

/** Asks over GraphQL. Errors are part of the answer. */
export async function ask(base: string, query: string, input?: object, token?: string): Promise<Json> {
  const authorization: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const response = await fetch(`${base}/graphql`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...authorization },
    body: JSON.stringify({ query, variables: { i: input } }),
  });
  return await response.json();
}

const REGISTER = 'mutation($i: RegisterInput!) { register(input: $i) { outcome } }';
const VERIFY = 'mutation($i: VerifyEmailInput!) { verifyEmail(input: $i) { outcome } }';
const LOGIN = 'mutation($i: LoginInput!) { login(input: $i) { outcome accessToken refreshToken } }';
const REFRESH = 'mutation($i: RefreshSessionInput!) { refreshSession(input: $i) { outcome accessToken refreshToken } }';
const ME = '{ currentUser { email emailVerified } currentOrganization { id name } }';

async function linkMailedTo(base: string, email: string): Promise<string> {
  for (let tries = 0; tries < 200; tries += 1) {
    const response = await fetch(`${base}/dev/mailbox?to=${encodeURIComponent(email)}`);
    const [mail] = (await response.json()) as { links: string[] }[];
    if (mail?.links[0] !== undefined) return mail.links[0];
    await sleep(50);
  }
  throw new Error(`no mail came to ${email}`);
}

interface Visitor {
  readonly accessToken: string;
  readonly refreshToken: string;
  readonly organization: string;
}

/** From registering to being signed in, with the wrong turns that must lead nowhere. */
async function arrive(base: string, name: string): Promise<Visitor> {
  const email = `${name.toLowerCase()}.${crypto.randomUUID().slice(0, 8)}@example.com`;
  const password = `a long sentence that only ${name} knows`;
  const organizationName = `${name} and friends`;
  const registered = await ask(base, REGISTER, { email, password, displayName: name, organizationName });
  expect(registered.data.register).toEqual({ outcome: 'VERIFICATION_SENT' });
  const link = await linkMailedTo(base, email);
  for (const method of ['HEAD', 'GET']) expect((await fetch(link, { method })).status).toBe(200);
  expect((await ask(base, LOGIN, { email, password })).data.login.outcome).toBe('REFUSED');
  const token = link.split('/').at(-1);
  expect((await ask(base, VERIFY, { token })).data.verifyEmail.outcome).toBe('VERIFIED');
  expect((await ask(base, VERIFY, { token })).data.verifyEmail.outcome).toBe('REFUSED');
  const wrong = await ask(base, LOGIN, { email, password: `${password}!` });
  const unknown = await ask(base, LOGIN, { email: `nobody.${email}`, password });
  expect(wrong.data.login).toEqual({ outcome: 'REFUSED', accessToken: null, refreshToken: null });
  expect(unknown.data).toEqual(wrong.data);
  const { login } = (await ask(base, LOGIN, { email, password })).data;
  expect(login.outcome).toBe('SIGNED_IN');
  const me = await ask(base, ME, undefined, login.accessToken);
  expect(me.data.currentUser).toEqual({ email, emailVerified: true });
  expect(me.data.currentOrganization.name).toBe(organizationName);
  return { ...login, organization: me.data.currentOrganization.id };
}

/** Walks the whole of it, or throws at the first step that is not as promised. */
export async function walk(base: string): Promise<void> {
  const [ada, bob] = [await arrive(base, 'Ada'), await arrive(base, 'Bob')];
  expect(ada.organization).not.toBe(bob.organization);
  expect((await ask(base, ME)).data).toEqual({ currentUser: null, currentOrganization: null });
  const trail = await ask(base, '{ auditEvents(first: 50) { nodes { action } } }', undefined, ada.accessToken);
  expect(trail.data.auditEvents.nodes).toContainEqual({ action: 'organization.create' });

  const first = (await ask(base, REFRESH, { refreshToken: ada.refreshToken })).data.refreshSession;
  const again = (await ask(base, REFRESH, { refreshToken: ada.refreshToken })).data.refreshSession;
  expect([first.outcome, again.refreshToken]).toEqual(['SIGNED_IN', first.refreshToken]);
  expect((await ask(base, 'mutation { logout(input: {}) { outcome } }', undefined, first.accessToken)).data).toEqual({
    logout: { outcome: 'ENDED' },
  });
  expect((await ask(base, ME, undefined, first.accessToken)).errors[0].extensions.code).toBe('UNAUTHENTICATED');
  const dead = await ask(base, REFRESH, { refreshToken: first.refreshToken });
  expect(dead.data.refreshSession.accessToken).toBeNull();
  const forged = await ask(base, ME, undefined, `${bob.accessToken.slice(0, -3)}AAA`);
  expect(forged.errors[0].extensions.code).toBe('UNAUTHENTICATED');
  expect((await ask(base, ME, undefined, bob.accessToken)).data.currentOrganization.id).toBe(bob.organization);

  const jwks = (await (await fetch(`${base}/.well-known/jwks.json`)).json()) as Json;
  expect(jwks.keys.length).toBeGreaterThan(0);
  for (const key of jwks.keys) expect(key).not.toHaveProperty('d');
  for (const path of ['/healthz', '/readyz', '/metrics']) expect((await fetch(base + path)).status, path).toBe(200);
}
