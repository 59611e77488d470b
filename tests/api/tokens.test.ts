import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { accessKeyFile, loadAccessKeys } from '../../src/sessions/access-key.ts';
import { AccessTokens } from '../../src/sessions/tokens.ts';
import { type Api, type Member, startApi } from './api.ts';

const ME = '{ currentUser { email } }';

let api: Api;
let ada: Member;
let privateKey: KeyObject;
beforeAll(async () => {
  api = await startApi();
  ada = await api.member('Ada');
  const [key] = await loadAccessKeys(api.config.dataDirectory);
  if (key === undefined) throw new Error('no key');
  privateKey = key.privateKey;
});

const encode = (value: unknown): string =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const parts = (): [Record<string, unknown>, Record<string, unknown>, string] => {
  const [header = '', claims = '', signature = ''] = ada.accessToken.split('.');
  return [
    JSON.parse(Buffer.from(header, 'base64url').toString()),
    JSON.parse(Buffer.from(claims, 'base64url').toString()),
    signature,
  ];
};

/** A token signed with the server's own key, so that only what is changed in it can be the reason of a refusal. */
function forge(header: object, claims: object | string, key: KeyObject = privateKey): string {
  const [h, c] = parts();
  const body = `${encode({ ...h, ...header })}.${encode(typeof claims === 'string' ? claims : { ...c, ...claims })}`;
  return `${body}.${sign('sha256', Buffer.from(body), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`;
}

async function expectRefused(token: string): Promise<void> {
  const { data, errors, status } = await api.gql(ME, {}, token);
  expect(status).toBe(200);
  expect(data?.currentUser ?? null).toBeNull();
  expect(errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  const rest = await api.rest('logout', undefined, token);
  expect(rest.status).toBe(401);
  expect(rest.body.meta.code).toBe('UNAUTHENTICATED');
}

test('the forgery of this file is good when nothing is changed in it', async () => {
  const { data } = await api.gql(ME, {}, forge({}, {}));
  expect(data.currentUser.email).toBe(ada.email.toLowerCase());
});

test('an access token says what RFC 9068 asks for, and nothing of roles (JW-04)', () => {
  const [header, claims] = parts();
  expect(header).toEqual({ alg: 'ES256', typ: 'at+jwt', kid: expect.stringMatching(/^[\w-]{43}$/) });
  expect(Object.keys(claims).sort()).toEqual([
    'aud',
    'client_id',
    'cred',
    'exp',
    'iat',
    'iss',
    'jti',
    'org',
    'sid',
    'sub',
  ]);
  expect(claims.iss).toBe(api.config.publicUrl);
});

describe('refused', () => {
  test.each(['none', 'None', 'nOnE'])('algorithm %s, with and without a signature (JW-01)', async (alg) => {
    const [header, claims, signature] = parts();
    const body = `${encode({ ...header, alg })}.${encode(claims)}`;
    await expectRefused(`${body}.`);
    await expectRefused(`${body}.${signature}`);
    await expectRefused(forge({ alg }, {}));
  });

  test('HS256 with the public key as secret, and every algorithm not configured (JW-01)', async () => {
    const [header, claims] = parts();
    const jwks = await (await api.send('/.well-known/jwks.json')).text();
    for (const secret of [jwks, JSON.stringify(JSON.parse(jwks).keys[0])]) {
      const body = `${encode({ ...header, alg: 'HS256' })}.${encode(claims)}`;
      await expectRefused(`${body}.${createHmac('sha256', secret).update(body).digest('base64url')}`);
    }
    for (const alg of ['ES384', 'RS256', 'PS256', 'EdDSA', 'es256', '']) await expectRefused(forge({ alg }, {}));
  });

  test('keys and places of keys in the header, and key ids that are none (JW-02)', async () => {
    const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const jwk = other.publicKey.export({ format: 'jwk' });
    for (const header of [
      { jwk },
      { jku: 'http://127.0.0.1:1/jwks' },
      { x5u: 'http://127.0.0.1:1/' },
      { x5c: ['AAAA'] },
    ]) {
      await expectRefused(forge(header, {}, other.privateKey));
      await expectRefused(forge(header, {}));
    }
    for (const kid of ['../../etc/passwd', "' or 1=1 --", '', 5, null, 'unknown'])
      await expectRefused(forge({ kid }, {}));
    await expectRefused(forge({}, {}, other.privateKey));
  });

  const now = Math.floor(Date.now() / 1000);
  test.each([
    ['exp in the past', { exp: now - 1 }],
    ['no exp', { exp: undefined }],
    ['exp as text', { exp: String(now + 100) }],
    ['exp as a huge number', { exp: 1e30 }],
    ['exp as a fraction', { exp: now + 100.5 }],
    ['nbf in the future', { nbf: now + 1000 }],
    ['nbf as text', { nbf: 'soon' }],
    ['iat as text', { iat: 'now' }],
    ['no iat', { iat: undefined }],
    ['aud as a number', { aud: 5 }],
    ['no aud', { aud: undefined }],
    ['no sub', { sub: undefined }],
    ['no jti', { jti: undefined }],
    ['sub that is no id', { sub: 'admin' }],
    ['org that is no id', { org: 'everybody' }],
    ['org as a list', { org: [] }],
    ['a credential cut short', { cred: 'AAAA' }],
    ['a credential that is no text', { cred: 7 }],
    ['no credential', { cred: undefined }],
  ])('%s (JW-03)', async (_name, claims) => {
    await expectRefused(forge({}, claims));
  });

  test.each(['JWT', 'jwt', 'at+JWT', 'application/at+jwt', 'id+jwt', undefined, 7])(
    'typ %s (JW-04, JW-05)',
    async (typ) => {
      await expectRefused(forge({ typ }, {}));
    },
  );

  test('another issuer, another service, and a list of services (JW-06)', async () => {
    await expectRefused(forge({}, { iss: 'https://elsewhere.example' }));
    await expectRefused(forge({}, { aud: 'https://elsewhere.example' }));
    await expectRefused(forge({}, { aud: `${api.config.publicUrl}/` }));
    await expectRefused(forge({}, { aud: [api.config.publicUrl, 'https://elsewhere.example'] }));
    await expectRefused(forge({}, { client_id: 'another' }));
  });

  test('critical extensions, known or not (JW-07)', async () => {
    await expectRefused(forge({ crit: ['exp'] }, {}));
    await expectRefused(forge({ crit: ['unknown'], unknown: true }, {}));
    await expectRefused(forge({ crit: [] }, {}));
  });

  test('claims twice, claims that are no object, compressed claims (JW-08, JW-10)', async () => {
    const [, claims] = parts();
    await expectRefused(forge({}, `{"sub":"x",${JSON.stringify({ ...claims, sub: undefined }).slice(1)}`));
    await expectRefused(forge({}, '"text"'));
    await expectRefused(forge({}, '[]'));
    await expectRefused(forge({ zip: 'DEF' }, {}));
  });

  test('the token cut, lengthened, flipped, in another case or with padding (SS-11)', async () => {
    const token = ada.accessToken;
    const [header = '', claims = '', signature = ''] = token.split('.');
    const flipped = (text: string, at: number) =>
      `${text.slice(0, at)}${text[at] === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const spare = alphabet[alphabet.indexOf(signature.at(-1) ?? '') + 1];
    const variants = [
      token.slice(1),
      token.slice(0, -1),
      token.slice(0, -5),
      `${token}=`,
      `${token}==`,
      `${token}A`,
      ` ${token.slice(0, 30)}`,
      token.toLowerCase(),
      token.toUpperCase(),
      `${header}.${claims}.${flipped(signature, 3)}`,
      `${header}.${flipped(claims, 20)}.${signature}`,
      `${header}.${claims}.${signature.slice(0, -1)}${spare}`,
      `${header}.${claims}`,
      `${header}..${signature}`,
      `.${claims}.${signature}`,
      `${token}.${token}`,
      'x',
      'A'.repeat(5000),
    ];
    for (const variant of variants) await expectRefused(variant);
  });

  test('an Authorization header that is no bearer token', async () => {
    for (const authorization of [
      'Basic YTpi',
      'Bearer',
      `Token ${ada.accessToken}`,
      `Bearer ${ada.accessToken} more`,
    ]) {
      const { errors, data } = await api.gql(ME, {}, undefined, { authorization });
      expect(data?.currentUser ?? null).toBeNull();
      expect(errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
    }
  });

  test('a refresh token as access token and the other way round (JW-05)', async () => {
    await expectRefused(ada.refreshToken);
    const query = 'mutation($t: String!) { refreshSession(input: { refreshToken: $t }) { outcome accessToken } }';
    const { data } = await api.gql(query, { t: ada.accessToken });
    expect(data.refreshSession).toEqual({ outcome: 'REFUSED', accessToken: null });
  });
});

describe('keys', () => {
  test('are readable by their owner only, and JWKS shows the public half', async () => {
    const file = accessKeyFile(api.config.dataDirectory);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(readFileSync(file, 'utf8')).toContain('PRIVATE KEY');
    const { keys } = (await (await api.send('/.well-known/jwks.json')).json()) as { keys: object[] };
    expect(keys).toHaveLength(1);
    for (const key of keys) expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
  });

  test('after a rotation elsewhere old tokens live on and new ones are known here', async () => {
    const { dataDirectory, publicUrl } = api.config;
    const elsewhere = await AccessTokens.open({ dataDirectory, issuer: publicUrl });
    const before = elsewhere.jwks().keys[0]?.kid;
    await elsewhere.rotate();
    expect(elsewhere.jwks().keys.map(({ kid }) => kid)).toContain(before);
    expect(elsewhere.jwks().keys).toHaveLength(2);
    const known = await elsewhere.verify(ada.accessToken);
    expect(known?.sessionId).toBeDefined();
    if (known === null) throw new Error('refused');
    const renewed = elsewhere.issue({ ...known, expiresAt: new Date(known.expiresAt) });
    await new Promise((resolve) => setTimeout(resolve, 1100));
    expect((await api.gql(ME, {}, renewed)).data.currentUser.email).toBe(ada.email.toLowerCase());
    expect((await api.gql(ME, {}, forge({}, {}))).data.currentUser.email).toBe(ada.email.toLowerCase());
  });
});

test('a revoked session is refused with the next request although its token was remembered (SS-05)', async () => {
  const bob = await api.member('Bob');
  for (let i = 0; i < 3; i += 1) expect((await api.gql(ME, {}, bob.accessToken)).data.currentUser).not.toBeNull();
  await api.gql('mutation { logout(input: {}) { outcome } }', {}, bob.accessToken);
  await expectRefused(bob.accessToken);
});
