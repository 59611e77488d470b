// The API behind a pooler, the worker beside it on a direct connection: as DATABASE_URL and DATABASE_POOLER_URL say.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { startServer } from '../../src/http/server.ts';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { type DatabaseAccess, openDatabase } from '../../src/platform/access.ts';
import { connectionUrl } from '../../src/platform/connection.ts';
import { startWorker } from '../../src/worker/runner.ts';
import { Api, freePort, tokenOf } from '../api/api.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { hasPgbouncer, type Pooler, startPooler } from './pgbouncer.ts';

const ME = '{ currentUser { displayName } currentOrganization { name } }';

describe.runIf(hasPgbouncer).each([1, 2])('the API through PgBouncer with %i connections (PG-55)', (size) => {
  let db: TestDatabase;
  let pooler: Pooler;
  let access: DatabaseAccess;
  let api: Api;

  beforeAll(async () => {
    db = await cloneDatabase();
    pooler = await startPooler({ db, size, kind: 'recommended' });
    const dataDirectory = mkdtempSync(join(tmpdir(), 'safetypin-api-'));
    writeFileSync(join(dataDirectory, 'secrets.json'), JSON.stringify(inject('cluster').passwords), { mode: 0o600 });
    const config = loadConfig({
      NODE_ENV: 'test',
      PORT: String(await freePort()),
      SAFETYPIN_DATA_DIR: dataDirectory,
      DATABASE_URL: connectionUrl(db.config('admin')),
      DATABASE_POOLER_URL: `postgres://127.0.0.1:${pooler.port}/${db.name}?sslmode=disable`,
    });
    access = await openDatabase(config, () => {});
    const started = { config, access, keys: await loadApplicationKeys(dataDirectory), say: () => {} };
    const server = await startServer(started);
    const worker = await startWorker(started);
    whenFileEnds(async () => {
      await worker.close();
      await server.close();
      rmSync(dataDirectory, { recursive: true, force: true });
    });
    api = new Api(server.url, db, config);
  });

  test('only its requests go that way', () => {
    expect(access.authenticator).toMatchObject({
      host: '127.0.0.1',
      port: pooler.port,
      user: 'safetypin_authenticator',
    });
    for (const direct of [access.admin, access.jobs, access.auditor]) {
      expect(direct.host).toBe(inject('cluster').host);
    }
    expect(pooler.log()).not.toMatch(/safetypin_jobs|postgres@/);
  });

  test.runIf(size === 1)('a person registers, proves her address, signs in, stays signed in and leaves', async () => {
    const ada = await api.member('Ada');
    expect((await api.gql(ME, {}, ada.accessToken)).data).toEqual({
      currentUser: { displayName: 'Ada' },
      currentOrganization: { name: 'Ada and friends' },
    });
    const fresh = await api.rest('refresh', { refreshToken: ada.refreshToken });
    expect(fresh.body.data.outcome).toBe('SIGNED_IN');
    const token = fresh.body.data.accessToken;
    expect((await api.gql(ME, {}, token)).data.currentUser).toEqual({ displayName: 'Ada' });
    expect((await api.rest('logout', {}, token)).status).toBe(200);
    expect((await api.gql(ME, {}, token)).errors?.[0]?.extensions.code).toBe('UNAUTHENTICATED');
  });

  test.runIf(size === 1)(
    'a password is reset by mail, which the worker sends: it hears of the job on its own connection',
    async () => {
      const bob = await api.member('Bob');
      const asked = Date.now();
      await api.rest('request-password-reset', { email: bob.email });
      const mail = await api.mail(bob.email, ({ links }) => links.some((link) => link.includes('reset')));
      // It would have come by asking again, too, but not so soon.
      expect(Date.now() - asked).toBeLessThan(1900);
      const newPassword = 'quite another long sentence of his';
      expect((await api.rest('reset-password', { token: tokenOf(mail), newPassword })).status).toBe(200);
      expect((await api.rest('login', { email: bob.email, password: newPassword })).body.data.outcome).toBe(
        'SIGNED_IN',
      );
    },
  );

  test('many at once see each their own', async () => {
    const people = await Promise.all(
      ['Cleo', 'Dora', 'Emil'].map(async (name) => ({ name, ...(await api.member(name)) })),
    );
    const answers = await Promise.all(
      Array.from({ length: 60 }, (_, i) => people[i % 3]).map(async (person) => {
        const { data } = await api.gql(ME, {}, person?.accessToken);
        return data?.currentUser?.displayName === person?.name;
      }),
    );
    expect(answers.every(Boolean)).toBe(true);
  });

  test('nothing of it is left on the connections', async () => {
    const client = await pooler.connect();
    const { rows } =
      await client.query(`select current_user::text, (select count(*)::int from pg_prepared_statements) as names,
      (select count(*)::int from pg_listening_channels()) as channels, nullif(current_setting('safetypin.context', true), '') as context,
      (select count(*)::int from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()) as locks`);
    expect(rows).toEqual([{ current_user: 'safetypin_authenticator', names: 0, channels: 0, context: null, locks: 0 }]);
  });
});

test('what is set for a pooler alone is refused in production without TLS', () => {
  const environment = {
    NODE_ENV: 'production',
    DATABASE_URL: 'postgres://a@db.example.com/safetypin?sslmode=verify-full',
    PUBLIC_URL: 'https://id.example.com',
    SMTP_URL: 'smtps://mail.example.com',
  };
  const pooler = 'postgres://pooler.example.com:6432/safetypin';
  expect(() => loadConfig({ ...environment, DATABASE_POOLER_URL: pooler })).toThrow(/DATABASE_POOLER_URL must say/);
  const config = loadConfig({ ...environment, DATABASE_POOLER_URL: `${pooler}?sslmode=verify-full` });
  expect(config.databasePooled).toBe(true);
});
