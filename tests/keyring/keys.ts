// Every key that there is beside a test database, in clear: what a hunt looks for.
import type { Application } from '../support/actors.ts';
import type { TestDatabase } from '../support/database.ts';

/** Names and bytes: both halves, what is derived from them, and each wrapped key opened. */
export async function keysOf(
  db: TestDatabase,
  app: Pick<Application, 'keys' | 'envelopes'>,
): Promise<Map<string, Buffer>> {
  const admin = await db.connect('admin');
  const keys = new Map<string, Buffer>([
    ["the application's half", app.keys.half],
    ['the assertion key', app.keys.assertion],
  ]);
  const add = async (sql: string) => {
    const { rows } = await admin.query<{ name: string; key: Buffer }>(sql);
    for (const { name, key } of rows) keys.set(name, key);
  };
  await admin.query('begin');
  await admin.query("select sessions.open_request(null, $1, '{}')", [await app.envelopes.seal(null)]);
  await admin.query('set local role safetypin_keeper');
  await add("select 'transport key ' || row_number() over () as name, key from keyring_private.transport_keys");
  await add("select 'half ' || version || ' of the database' as name, half as key from keyring_private.roots");
  await add(
    "select 'key-encryption key ' || version as name, keyring_private.key_encryption_key(version) as key from keyring_private.roots",
  );
  await add(
    "select 'data key of ' || subject as name, keyring_private.data_key(id) as key from keyring_private.data_keys",
  );
  await add(`select 'index key of ' || column_id as name,
       keyring_private.unwrap(keyring_private.key_encryption_key(root_version), wrapped, '\\x03'::bytea || uuid_send(column_id)) as key
     from keyring_private.index_keys`);
  await add("select 'seal key ' || purpose || ', inner' as name, inner_pad as key from keyring_private.seal_keys");
  await add("select 'seal key ' || purpose || ', outer' as name, outer_pad as key from keyring_private.seal_keys");
  await admin.query('rollback');
  await admin.end();
  return keys;
}
