// CR-09, F6: a rotation of everything, an export and an import, with every logging switch on. No key is in the log.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { exportKeys } from '../../src/keyring/export.ts';
import { importKeys } from '../../src/keyring/import.ts';
import { localFile } from '../../src/keyring/provider.ts';
import { rotateApplication } from '../../src/keyring/rotate.ts';
import { Application } from '../support/actors.ts';
import { cloneDatabase } from '../support/database.ts';
import { WorkHand } from './works.ts';

const LOUD = [
  "log_min_duration_statement = '0'",
  "log_statement = 'all'",
  "log_parameter_max_length = '-1'",
  "log_parameter_max_length_on_error = '-1'",
  "session_preload_libraries = 'auto_explain'",
  "auto_explain.log_min_duration = '0'",
  "auto_explain.log_parameter_max_length = '-1'",
  "auto_explain.log_nested_statements = 'on'",
];

test('CR-09 rotations, an export and an import leave no key in the log at its loudest', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const { rows: versions } = await admin.query("select current_setting('server_version_num')::int as n");
  for (const setting of LOUD) {
    // 15 has no setting for the parameters of plans.
    if (versions[0].n < 160_000 && setting.startsWith('auto_explain.log_parameter')) continue;
    await admin.query(`alter database ${db.name} set ${setting}`);
  }
  const app = await Application.beside(db);
  const hand = await WorkHand.of(app);
  const secrets = new Map<string, Buffer>();
  const note = async () => {
    const provider = localFile(app.keysDirectory);
    for (const [which, half] of Object.entries(await provider.halves())) secrets.set(`${which} ${secrets.size}`, half);
    const keys = await admin.query(
      'select half as key from keyring_private.roots union all select key from keyring_private.transport_keys union all select inner_pad from keyring_private.seal_keys',
    );
    for (const { key } of keys.rows) secrets.set(`key ${secrets.size}`, key);
    await admin.query('begin');
    await admin.query("select sessions.open_request(null, $1, '{}')", [await app.envelopes.seal(null)]);
    const derived = await admin.query(
      'select keyring_private.key_encryption_key(version) as key from keyring_private.roots',
    );
    await admin.query('rollback');
    for (const { key } of derived.rows) secrets.set(`derived ${secrets.size}`, key);
  };
  await app.person('ada');
  await note();
  await admin.query('select keyring.rotate_root()');
  await hand.all();
  await note();
  const owner = await db.connect('owner');
  const work = async () => {
    for (let round = 0; round < 20; round += 1) {
      await admin.query("update keyring_private.transport_keys set retired_at = retired_at - interval '70 seconds'");
      await admin.query('update keyring_private.works set run_at = now()');
      await hand.batch().catch(() => {});
    }
  };
  await rotateApplication({ owner, provider: localFile(app.keysDirectory), work });
  app.envelopes.forget(await app.envelopes.seal(null));
  await note();
  const folder = mkdtempSync(join(tmpdir(), 'safetypin-export-'));
  const keeper = await db.connect('admin');
  await keeper.query('set role safetypin_keeper');
  await exportKeys(keeper, join(folder, 'keys'));
  await admin.query('delete from keyring_private.data_keys');
  expect(await importKeys(keeper, join(folder, 'keys'), false)).toMatchObject({ missing: 0 });
  await note();
  rmSync(folder, { recursive: true, force: true });
  const { rows } = await admin.query("select current_setting('data_directory') as d");
  const log = readFileSync(join(rows[0].d, '..', 'postgres.log'), 'latin1');
  // What is searched is there at all: a nested statement of the import, with its parameter.
  expect(log).toMatch(/import_roots/);
  expect(log).toMatch(/next_root|key_encryption_key/);
  expect(secrets.size).toBeGreaterThan(10);
  const found = [...secrets].filter(([, key]) =>
    (['hex', 'base64'] as const).some((encoding) => log.includes(key.toString(encoding))),
  );
  expect(found.map(([what]) => what)).toEqual([]);
  // The search finds what it should not: a half that was bound as a parameter.
  const loud = await db.connect('admin');
  await loud.query('select length($1::bytea)', [app.keys.half]);
  expect(readFileSync(join(rows[0].d, '..', 'postgres.log'), 'latin1')).toContain(app.keys.half.toString('hex'));
});
