import { expect, inject, test } from 'vitest';
import { cloneDatabase } from '../support/database.ts';
import { gone } from './parts.ts';

test('this run is on the PostgreSQL that it says', async () => {
  const admin = await (await cloneDatabase()).connect('admin');
  const { rows } = await admin.query("select current_setting('server_version_num')::int / 10000 as major");
  expect(rows).toEqual([{ major: inject('postgres') }]);
  expect(inject('server')).toMatch(new RegExp(`^PostgreSQL ${inject('postgres')}\\.\\d+`));
});

test('what is left out on other versions is still there (tests/versions/parts.ts)', () => {
  expect(gone()).toEqual([]);
});
