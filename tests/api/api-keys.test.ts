// API keys over HTTP: made once, shown once, and told from a typo without asking the database.
import { beforeAll, expect, test, vi } from 'vitest';
import { redacted } from '../../src/platform/log-line.ts';
import { newApiKey, parseApiKey } from '../../src/sessions/api-key.ts';
import { type Api, type Member, startApi } from './api.ts';

const CREATE =
  'mutation($i: CreateApiKeyInput!) { createApiKey(input: $i) { outcome reasons id secret prefix expiresAt } }';
const ROTATE = 'mutation($i: RotateApiKeyInput!) { rotateApiKey(input: $i) { outcome reasons id secret prefix } }';
const REVOKE = 'mutation($i: RevokeApiKeyInput!) { revokeApiKey(input: $i) { outcome reasons } }';
const WHERE = '{ currentOrganization { name } currentUser { id } currentSession { id } }';

let api: Api;
let ada: Member;
beforeAll(async () => {
  api = await startApi();
  ada = await api.member('Ada');
});

test('a key is shown once, works until it is rotated or revoked, and is nobody’s session', async () => {
  const input = { name: 'export', permissions: ['organization.read', 'api_key.read'] };
  const { createApiKey: made } = (await api.gql(CREATE, { i: input }, ada.accessToken)).data;
  expect(made).toMatchObject({ outcome: 'CREATED', reasons: [], prefix: made.secret.slice(0, 12) });
  expect(made.secret).toMatch(/^sp_A[w-z0-9_-][A-Za-z0-9_-]{46}$/);
  const asked = await api.gql(WHERE, {}, made.secret);
  expect(asked.data).toEqual({
    currentOrganization: { name: 'Ada and friends' },
    currentUser: null,
    currentSession: null,
  });
  const list = await api.gql(
    '{ apiKeys { nodes { id name prefix permissions use { lastUsedAt } } } }',
    {},
    made.secret,
  );
  expect(list.data.apiKeys.nodes).toEqual([
    { id: made.id, name: 'export', prefix: made.prefix, permissions: ['api_key.read', 'organization.read'], use: null },
  ]);
  const reach = await api.gql(
    'query($id: UUID!) { apiKeyReach(id: $id) { held reaches isLive } }',
    { id: made.id },
    made.secret,
  );
  expect(reach.data.apiKeyReach).toEqual({
    held: ['api_key.read', 'organization.read'],
    reaches: ['select access.api_key_use', 'select access.api_keys', 'select access.organizations'],
    isLive: true,
  });
  // It makes no other.
  expect((await api.gql(CREATE, { i: input }, made.secret)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  expect((await api.rest('logout', undefined, made.secret)).body.data).toEqual({ outcome: 'REFUSED' });

  const overlap = { id: made.id, overlapSeconds: 60 };
  const { rotateApiKey: next } = (await api.gql(ROTATE, { i: overlap }, ada.accessToken)).data;
  expect(next).toMatchObject({ outcome: 'ROTATED', id: made.id });
  for (const secret of [made.secret, next.secret]) {
    expect((await api.gql(WHERE, {}, secret)).data.currentOrganization).not.toBeNull();
  }
  await api.gql(REVOKE, { i: { id: made.id } }, ada.accessToken);
  for (const secret of [made.secret, next.secret]) {
    expect((await api.gql(WHERE, {}, secret)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  }
});

test('a typo is told without asking the database', async () => {
  const key = newApiKey();
  expect(parseApiKey(key.secret)?.credential).toEqual(key.credential);
  const typos = [...key.secret].slice(3).map((letter, i) => {
    const other = letter === 'x' ? 'y' : 'x';
    return key.secret.slice(0, i + 3) + other + key.secret.slice(i + 4);
  });
  for (const text of [
    ...typos,
    '',
    'sp_',
    key.secret.slice(0, -1),
    `${key.secret}A`,
    `${key.secret}=`,
    ` ${key.secret}`,
  ]) {
    expect(parseApiKey(text)).toBeNull();
  }
  const opened = vi.spyOn((await import('pg')).default.Client.prototype, 'query');
  const [typo] = typos;
  expect((await api.gql(WHERE, {}, typo)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  const accept = { accept: 'application/graphql-response+json' };
  expect((await api.gql(WHERE, {}, typo, accept)).status).toBe(401);
  const texts = () =>
    opened.mock.calls.map(([query]) => JSON.stringify(query)).filter((text) => text.includes('open_request'));
  expect(texts()).toEqual([]);
  // A good spelling of a key that nobody made is for the database to refuse.
  expect((await api.gql(WHERE, {}, key.secret, accept)).status).toBe(200);
  expect(texts()).not.toEqual([]);
  opened.mockRestore();
});

test('no line of the log shows one', () => {
  const { secret } = newApiKey();
  for (const where of [secret, `key=${secret}`, `"${secret}"`, `https://example.com/?k=${secret}&x=1`]) {
    expect(redacted({ where })).toEqual({ where: where.replace(secret, '[redacted]') });
  }
});
