import { expect, inject, test } from 'vitest';
import { cloneDatabase } from '../support/database.ts';
import { gone, undecided } from './parts.ts';

test('this run is on the PostgreSQL that it says', async () => {
  const admin = await (await cloneDatabase()).connect('admin');
  const { rows } = await admin.query("select current_setting('server_version_num')::int / 10000 as major");
  expect(rows).toEqual([{ major: inject('postgres') }]);
  expect(inject('server')).toMatch(new RegExp(`^PostgreSQL ${inject('postgres')}\\.\\d+`));
});

test('of each folder of tests it is decided whether it runs on other versions (tests/versions/parts.ts)', () => {
  expect(undecided()).toEqual([]);
  expect(gone()).toEqual([]);
});
