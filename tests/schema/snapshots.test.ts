// What the database is and who may do what, kept in git and reviewed like code. `npm test -- -u tests/schema` accepts a change.
import { expect, test } from 'vitest';
import { dumpPrivileges, dumpSchema } from '../support/catalog.ts';
import { cloneDatabase } from '../support/database.ts';

const db = await cloneDatabase();

test('the schema is the one that was reviewed', async () => {
  await expect(await dumpSchema(await db.connect('admin'))).toMatchFileSnapshot('../snapshots/schema.sql');
});

test('every privilege of every role is the one that was reviewed', async () => {
  await expect(await dumpPrivileges(await db.connect('admin'))).toMatchFileSnapshot('../snapshots/privileges.txt');
});
