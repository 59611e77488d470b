// What the database is and who may do what, kept in git and reviewed like code. `npm test -- -u tests/schema` accepts a change.
import { readFileSync } from 'node:fs';
import { expect, inject, test } from 'vitest';
import { dumpPrivileges, dumpSchema } from '../support/catalog.ts';
import { cloneDatabase } from '../support/database.ts';

const db = await cloneDatabase();

test('the schema is the one that was reviewed', async () => {
  await expect(await dumpSchema(await db.connect('admin'))).toMatchFileSnapshot('../snapshots/schema.sql');
});

test('every privilege of every role is the one that was reviewed', async () => {
  const privileges = await dumpPrivileges(await db.connect('admin'));
  if (inject('postgres') >= 17) return await expect(privileges).toMatchFileSnapshot('../snapshots/privileges.txt');
  // The limit on whole transactions came with 17; all else is the same, and is accepted on 18 only.
  const reviewed = readFileSync(new URL('../snapshots/privileges.txt', import.meta.url), 'utf8');
  expect(privileges).toBe(reviewed.replace(' transaction_timeout=60s', ''));
});
