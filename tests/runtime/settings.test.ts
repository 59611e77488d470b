import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig, projectRoot, unknownSettings } from '../../src/config.ts';
import { envExample, settingsTable } from '../../src/settings.ts';

describe('settings', () => {
  test('need nothing in the environment', () => {
    expect(loadConfig({})).toMatchObject({
      environment: 'development',
      host: '127.0.0.1',
      port: 5678,
      publicUrl: 'http://127.0.0.1:5678',
      dataDirectory: join(projectRoot, '.data'),
      worker: true,
      trustedProxies: [],
      schemas: [],
    });
  });

  test('take an empty variable for one that is not set', () => {
    expect(loadConfig({ PORT: '', DATABASE_URL: ' ', NODE_ENV: '' }).port).toBe(5678);
  });

  test('read lists, and links without a slash at their end', () => {
    const config = loadConfig({
      SAFETYPIN_SCHEMAS: 'clinic, billing',
      TRUSTED_PROXIES: '10.0.0.0/8,::1',
      PUBLIC_URL: 'https://id.example.com/',
    });
    expect(config.schemas).toEqual(['clinic', 'billing']);
    expect(config.trustedProxies).toEqual(['10.0.0.0/8', '::1']);
    expect(config.publicUrl).toBe('https://id.example.com');
  });

  test.each([
    ['PORT', '0'],
    ['PORT', '65536'],
    ['PORT', '5678x'],
    ['PORT', '1e3'],
    ['HOST', 'http://localhost'],
    ['NODE_ENV', 'prod'],
    ['TRUSTED_PROXIES', '10.0.0.0/33'],
    ['TRUSTED_PROXIES', 'proxy.example.com'],
    ['SAFETYPIN_SCHEMAS', 'clinic;drop'],
    ['SAFETYPIN_WORKER', 'yes'],
    ['SAFETYPIN_TEST_SCALE', '2'],
    ['PUBLIC_URL', 'id.example.com'],
    ['MAIL_FROM', 'nobody'],
  ])('refuse %s=%s in a line that names both', (name, value) => {
    expect(() => loadConfig({ [name]: value })).toThrow(
      new RegExp(`^${name}=${value.replace(/[.*+?^${}()|/]/g, '\\$&')} must `),
    );
  });

  test('never repeat the value of a secret', () => {
    expect(() => loadConfig({ DATABASE_URL: 'postgres://root:hunter2@' })).toThrow(/^DATABASE_URL must (?!.*hunter2)/);
    expect(() => loadConfig({ SMTP_URL: 'http://root:hunter2@mail' })).toThrow(/^SMTP_URL must (?!.*hunter2)/);
  });

  test('demand verified TLS to the database in production, except over a unix socket', () => {
    const production = { NODE_ENV: 'production', PUBLIC_URL: 'https://id.example.com' };
    const withUrl = (DATABASE_URL: string) => () => loadConfig({ ...production, DATABASE_URL });
    expect(withUrl('postgres://a:b%2F@db/x')).toThrow(/sslmode=verify-full/);
    expect(withUrl('postgres://a:b@db/x?sslmode=disable')).toThrow(/sslmode=verify-full/);
    expect(withUrl('postgres://a:b@db/x?sslmode=verify-full')().environment).toBe('production');
    expect(withUrl('postgres:///x?host=/run/postgresql')().environment).toBe('production');
  });

  test('verify the database by an authority of your own', () => {
    const url = 'postgres://a:b@db/x';
    const withCertificate = (DATABASE_URL: string, DB_SSL_CERT_PATH = 'package.json') =>
      loadConfig({ DATABASE_URL, DB_SSL_CERT_PATH }).databaseUrl;
    const file = encodeURIComponent(join(projectRoot, 'package.json'));
    expect(withCertificate(url)).toBe(`${url}?sslmode=verify-full&sslrootcert=${file}`);
    expect(withCertificate(`${url}?sslmode=verify-full`)).toBe(`${url}?sslmode=verify-full&sslrootcert=${file}`);
    expect(() => withCertificate(`${url}?sslmode=disable`)).toThrow(/says sslmode=disable: with DB_SSL_CERT_PATH/);
    expect(() => withCertificate(url, 'nowhere.pem')).toThrow(/^DB_SSL_CERT_PATH=nowhere\.pem is not a file/);
  });

  test('take a key of SendGrid for its mail server, and not beside another', () => {
    expect(loadConfig({ SENDGRID_API_KEY: 'SG.a/b' }).smtpUrl).toBe('smtps://apikey:SG.a%2Fb@smtp.sendgrid.net:465');
    expect(() => loadConfig({ SENDGRID_API_KEY: 'SG.a', SMTP_URL: 'smtp://mail' })).toThrow(/set one of them$/);
    expect(() => loadConfig({ SENDGRID_API_KEY: 'hunter2 hunter3' })).toThrow(/^SENDGRID_API_KEY must (?!.*hunter)/);
  });

  test('with our prefix that nothing reads are named', () => {
    expect(unknownSettings({ SAFETYPIN_SCHEMA: 'clinic', SAFETYPIN_SCHEMAS: 'clinic', PATH: '' })).toEqual([
      'SAFETYPIN_SCHEMA is not a setting; .env.example lists them',
    ]);
  });

  test('are all in .env.example, which is made from them', async () => {
    await expect(envExample()).toMatchFileSnapshot('../../.env.example');
  });

  test('are all in the README', () => {
    expect(readFileSync(join(projectRoot, 'README.md'), 'utf8')).toContain(settingsTable());
  });
});
