// Production looks before it listens: what the doctor calls unsafe is refused, each in a line, and nothing is left.
import { chmodSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { KeyFile } from '../../src/keyring/key-file.ts';
import { withClient } from '../../src/platform/connection.ts';
import { type EmbeddedCluster, startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { endPrograms, leftUsing } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

describe('npm start in production', () => {
  let place: Workplace;
  let server: EmbeddedCluster;
  beforeAll(async () => {
    place = await makeWorkplace();
    await new KeyFile(keyFile(), { make: false }).create();
    const dataDirectory = join(place.folder, 'server');
    mkdirSync(dataDirectory);
    server = await startEmbedded({ dataDirectory, initdbOptions: ['--no-sync'], settings: { fsync: 'off' } });
  });
  afterEach(endPrograms);
  afterAll(async () => {
    await server.stop();
    await place.remove();
  });

  const admin = (database: string, password = server.superuserPassword) => ({
    host: server.socketDirectory,
    port: server.port,
    user: 'postgres',
    password,
    database,
  });
  const run = (sql: string, password?: string) => withClient(admin('own', password), (client) => client.query(sql));
  const env = (password = server.superuserPassword) => ({
    NODE_ENV: 'production',
    DATABASE_URL: `postgres://postgres:${password}@/own?host=${encodeURIComponent(server.socketDirectory)}`,
    PUBLIC_URL: 'https://id.example',
    KEY_PROVIDER: `file:${keyFile()}`,
  });
  const keyFile = () => join(place.folder, 'secrets', 'key');
  const refusal = async (password?: string) => {
    const program = place.start({ env: env(password) });
    expect((await program.ends(60)).code, program.said).toBe(1);
    expect(await leftUsing(join(place.folder, 'data'))).toEqual([]);
    return program.stderr.split('\n').filter((line) => line.startsWith('safetypin: '));
  };

  test('listens on a sound database', async () => {
    const program = place.start({ env: env() });
    const [, address] = await program.says(/SafetyPin is ready on (\S+)/);
    expect((await fetch(`${address}/readyz`)).status).toBe(200);
    program.signalGroup('SIGTERM');
    await program.ends();
  });

  test('CR-07 refuses a key beside the data, one that others can read, and one that is not there', async () => {
    const told = async (KEY_PROVIDER: string) => {
      const program = place.start({ env: { ...env(), KEY_PROVIDER } });
      expect((await program.ends(60)).code, program.said).toBe(1);
      return program.stderr.split('\n').filter((line) => line.startsWith('safetypin: '));
    };
    expect(await told('')).toEqual([
      expect.stringMatching(/^safetypin: KEY_PROVIDER is missing: in production/),
      expect.stringMatching(/^safetypin: .*safetypin -- keys new FILE/),
      expect.stringMatching(/^safetypin: .*KEY_PROVIDER=file:\/run\/secrets/),
    ]);
    expect(await told('local')).toHaveLength(3);
    const beside = join(place.dataDirectory, 'keys', 'application.json');
    expect(await told(`file:${beside}`)).toEqual([expect.stringContaining('lies beside the data')]);
    expect(await told(`file:${join(place.folder, 'secrets', 'other')}`)).toEqual([
      expect.stringContaining('is not there'),
    ]);
    chmodSync(keyFile(), 0o644);
    expect(await told(`file:${keyFile()}`)).toEqual([expect.stringContaining('can be read by others')]);
    chmodSync(keyFile(), 0o600);
    expect(existsSync(beside)).toBe(false);
  });

  test('refuses logins that are too strong, and a log that shows secrets', async () => {
    await run('alter role safetypin_authenticator superuser; grant safetypin_keeper to safetypin_jobs');
    await run("alter role safetypin_jobs set log_parameter_max_length_on_error = '1kB'");
    const lines = await refusal();
    expect(lines.join('\n')).toMatch(
      /^safetypin: log: .*\(safetypin_jobs\): set log_parameter_max_length_on_error to 0$/m,
    );
    expect(lines.join('\n')).toMatch(/^safetypin: roles: too strong: safetypin_authenticator \(superuser\)/m);
    expect(lines.join('\n')).toMatch(/^safetypin: memberships: .*safetypin_jobs → safetypin_keeper/m);
    await run('alter role safetypin_authenticator nosuperuser; revoke safetypin_keeper from safetypin_jobs');
    await run('alter role safetypin_jobs reset log_parameter_max_length_on_error');
  });

  test('LG-10 refuses a password out of an example, without repeating it', async () => {
    await run("alter role postgres password 'changeme'");
    const lines = await refusal('changeme');
    expect(lines).toEqual(['safetypin: secrets: the password of postgres is one out of an example: choose another']);
    await run(`alter role postgres password '${server.superuserPassword}'`, 'changeme');
  });
});
