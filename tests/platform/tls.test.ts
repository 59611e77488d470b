// The line to a server of one's own, encrypted and checked (LW-07): certificates are made by openssl, the server is real.
import { execFileSync } from 'node:child_process';
import { chmodSync, chownSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { cancelRunning } from '../../src/graphql/cancel.ts';
import { openDatabase } from '../../src/platform/access.ts';
import { withClient } from '../../src/platform/connection.ts';
import { examine } from '../../src/platform/doctor/doctor.ts';
import { serverAccount } from '../../src/platform/embedded/account.ts';
import { migrate } from '../../src/platform/migrate/migrate.ts';
import { freePort } from '../api/api.ts';
import { whenFileEnds } from '../support/cleanup.ts';
import { startPostgres } from '../support/postgres.ts';

const hasOpenssl = (() => {
  try {
    execFileSync('openssl', ['version'], { stdio: 'ignore' });
    return true;
  } catch {
    if (process.env.CI === 'true') throw new Error('openssl is missing, and with CI=true nothing is skipped');
    return false;
  }
})();

let folder: string;
let url: (host: string, mode?: string) => string;

/** A certificate of the authority for a name. */
function certificate(name: string): void {
  const inFolder = (...files: string[]) => files.map((file) => join(folder, file));
  const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' });
  const [key, request, cert, ca, caKey, extensions] = inFolder(
    `${name}.key`,
    `${name}.csr`,
    `${name}.pem`,
    'ca.pem',
    'ca.key',
    'extensions',
  ) as [string, string, string, string, string, string];
  writeFileSync(extensions, `subjectAltName=DNS:${name}`);
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  openssl('req', ...newKey, '-keyout', key, '-out', request, '-subj', `/CN=${name}`);
  openssl(
    ...['x509', '-req', '-in', request, '-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-days', '2'],
    ...['-extfile', extensions, '-out', cert],
  );
}

function authority(name: string): void {
  execFileSync(
    'openssl',
    [
      ...['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'],
      ...['-keyout', join(folder, `${name}.key`), '-out', join(folder, `${name}.pem`), '-subj', `/CN=${name}`],
    ],
    { stdio: 'ignore' },
  );
}

beforeAll(async () => {
  if (!hasOpenssl) return;
  folder = realpathSync(mkdtempSync(join(tmpdir(), 'safetypin-tls-')));
  whenFileEnds(() => rmSync(folder, { recursive: true, force: true }));
  chmodSync(folder, 0o755);
  for (const name of ['ca', 'stranger']) authority(name);
  certificate('localhost');
  // As root, PostgreSQL runs as another account, which must own its key.
  const account = serverAccount(join(folder, 'none'));
  if (account) chownSync(join(folder, 'localhost.key'), account.uid, account.gid);
  chmodSync(join(folder, 'localhost.key'), 0o600);
  const port = await freePort();
  const data = realpathSync(mkdtempSync(join(tmpdir(), 'safetypin-tls-')));
  const server = await startPostgres({
    dataDirectory: data,
    initdbOptions: ['--no-sync'],
    settings: {
      fsync: 'off',
      port: String(port),
      listen_addresses: 'localhost',
      ssl: 'on',
      ssl_cert_file: join(folder, 'localhost.pem'),
      ssl_key_file: join(folder, 'localhost.key'),
    },
  });
  whenFileEnds(async () => {
    await server.stop();
    rmSync(data, { recursive: true, force: true });
  });
  url = (host, mode) =>
    `postgres://postgres:${server.superuserPassword}@${host}:${port}/own${mode ? `?sslmode=${mode}` : ''}`;
}, 60_000);

const config = (environment: Record<string, string>) =>
  loadConfig({ SAFETYPIN_DATA_DIR: join(folder, 'client'), ...environment });

describe.skipIf(!hasOpenssl)('a server with a certificate', () => {
  test('is migrated and reached with the authority of DB_SSL_CERT_PATH, and the doctor sees the encryption', async () => {
    const DB_SSL_CERT_PATH = join(folder, 'ca.pem');
    const settings = config({ DATABASE_URL: url('localhost'), DB_SSL_CERT_PATH });
    const access = await openDatabase(settings, () => {});
    await migrate(access, () => {});
    const [found] = await examine(access, { only: 'encryption' });
    expect(found).toMatchObject({ level: 'ok', line: expect.stringMatching(/encrypted \(TLSv1\.[23]\)/) });
  });

  test.each([
    ['of an authority that nobody named', () => ({ DATABASE_URL: url('localhost', 'verify-full') }), /certificate/],
    [
      'of a stranger',
      () => ({ DATABASE_URL: url('localhost'), DB_SSL_CERT_PATH: join(folder, 'stranger.pem') }),
      /certificate/,
    ],
    [
      'for another name',
      () => ({ DATABASE_URL: url('127.0.0.1'), DB_SSL_CERT_PATH: join(folder, 'ca.pem') }),
      /does not match certificate's altnames/,
    ],
  ])('is not believed when the certificate is %s: one line, without the password', async (_what, environment, said) => {
    const { DATABASE_URL } = environment();
    const problem = await openDatabase(config(environment()), () => {}).catch((error: Error) => error);
    expect(problem).toMatchObject({ name: 'StartupError', message: expect.stringMatching(said) });
    expect((problem as Error).message).not.toContain(new URL(DATABASE_URL).password);
    expect((problem as Error).message).not.toContain('\n');
  });

  test('is asked to cancel over the same kind of line', async () => {
    const DB_SSL_CERT_PATH = join(folder, 'ca.pem');
    const access = await openDatabase(config({ DATABASE_URL: url('localhost'), DB_SSL_CERT_PATH }), () => {});
    await migrate(access, () => {});
    await withClient(access.authenticator, async (client) => {
      const slow = client.query('select pg_sleep(20)').catch((error: { code: string }) => error.code);
      await sleep(200);
      expect(await cancelRunning(client)).toBe(true);
      expect(await slow).toBe('57014');
    });
  });

  test('is told to be wrong where the certificate is not looked at, and in clear on this machine', async () => {
    const seen = async (mode: string) => {
      const access = await openDatabase(config({ DATABASE_URL: url('localhost', mode) }), () => {});
      return (await examine(access, { only: 'encryption' }))[0];
    };
    expect(await seen('no-verify')).toMatchObject({ level: 'warn', line: expect.stringContaining('not checked') });
    expect(await seen('disable')).toMatchObject({ level: 'warn', line: expect.stringContaining('not encrypted') });
  });
});
