import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { loadConfig, projectRoot } from '../../src/config.ts';

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

  test('are all in .env.example, and nothing else is', () => {
    const example = readFileSync(join(projectRoot, '.env.example'), 'utf8');
    const named = [...example.matchAll(/^# ([A-Z_]+)=/gm)].map(([, name]) => name);
    const source = readFileSync(join(projectRoot, 'src/config.ts'), 'utf8');
    const read = [...source.matchAll(/^ {2}([A-Z_]+): /gm)].map(([, name]) => name);
    // Set by npm, the bootstrap, the shell or a test run, not by a person for a server.
    const notForPeople = ['NODE_ENV', 'INIT_CWD', 'SAFETYPIN_PARENT', 'SAFETYPIN_TEST_SCALE'];
    expect(new Set(named)).toEqual(new Set(read.filter((name) => !notForPeople.includes(name ?? ''))));
  });
});
