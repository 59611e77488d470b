// Servers that cannot take a migration, however strong the login: a standby, and one without pgcrypto.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { clusterDirectory } from '../../src/platform/data-directory.ts';
import { serverAccount } from '../../src/platform/embedded/account.ts';
import { usableBinaries } from '../../src/platform/embedded/binaries.ts';
import { giveTo } from '../../src/platform/embedded/cluster.ts';
import { startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { migrate } from '../../src/platform/migrate/migrate.ts';
import { loadSecrets } from '../../src/platform/secrets.ts';
import { DATA_PREFIX, removeRun } from '../support/abandoned.ts';
import { accessTo } from '../support/access.ts';
import { startPostgres } from '../support/postgres.ts';
import { binariesOf } from '../versions/servers.ts';

const quiet = () => {};
const OPTIONS = { settings: { fsync: 'off' }, initdbOptions: ['--no-sync'] };

function place(): { dataDirectory: string; remove(): void } {
  const dataDirectory = realpathSync(mkdtempSync(join(tmpdir(), DATA_PREFIX)));
  return { dataDirectory, remove: () => removeRun(dataDirectory) };
}

test('a standby is left alone, with one line', async () => {
  const { dataDirectory, remove } = place();
  const first = await startPostgres({ dataDirectory, ...OPTIONS });
  await first.stop();
  const cluster = clusterDirectory(dataDirectory);
  writeFileSync(join(cluster, 'standby.signal'), '');
  giveTo(serverAccount(cluster), join(cluster, 'standby.signal'));
  const standby = await startPostgres({ dataDirectory, ...OPTIONS });
  try {
    const passwords = { ...loadSecrets(dataDirectory) };
    const access = accessTo({ host: standby.socketDirectory, port: standby.port, passwords }, 'safetypin');
    await expect(migrate(access, quiet)).rejects.toThrow(
      /^this server is a standby and takes no changes: give DATABASE_URL the address of the primary$/,
    );
  } finally {
    await standby.stop();
    remove();
  }
});

test('a server without its contrib package says which one is missing', async () => {
  const { dataDirectory, remove } = place();
  const folder = realpathSync(mkdtempSync('/var/tmp/sp-bare-'));
  const native = await binariesOf(inject('postgres'));
  const whole = usableBinaries(native, serverAccount(dataDirectory), dataDirectory, quiet).path;
  const bare = join(folder, 'native');
  execFileSync('cp', ['-a', whole, bare]);
  execFileSync('chmod', ['755', folder]);
  rmSync(join(bare, 'share/postgresql/extension/pgcrypto.control'));
  const server = await startEmbedded({ dataDirectory, ...OPTIONS, binaries: bare });
  try {
    const passwords = { ...loadSecrets(dataDirectory) };
    const access = accessTo({ host: server.socketDirectory, port: server.port, passwords }, 'safetypin');
    await expect(migrate(access, quiet)).rejects.toThrow(
      /^the server has no pgcrypto: install the contrib package of the server \(postgresql-contrib\), or allow it where the provider lists extensions$/,
    );
  } finally {
    await server.stop();
    remove();
    rmSync(folder, { recursive: true, force: true });
  }
});
