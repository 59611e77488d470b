// What the README says of the register of errors is what the database holds.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { cloneDatabase } from '../support/database.ts';

test('the README names every code of the register, with its statuses, and no other', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const { rows } = await admin.query<{ code: string; statuses: string }>(
    `select code, string_agg(distinct http_status::text, ', ') as statuses from platform.errors group by code`,
  );
  const wanted = new Map(rows.map(({ code, statuses }) => [code, statuses]));
  wanted.set('INTERNAL', '500');
  const section = /## Errors\n([\s\S]*?)\n## /.exec(readFileSync(join(projectRoot, 'README.md'), 'utf8'))?.[1] ?? '';
  const told = new Map<string, string>();
  for (const [, codes = '', statuses = ''] of section.matchAll(/^\| (`[A-Z_`, ]+`) \| ([\d, ]+) \|/gm)) {
    for (const [, code = ''] of codes.matchAll(/`([A-Z_]+)`/g)) told.set(code, statuses);
  }
  expect(Object.fromEntries([...told].sort())).toEqual(Object.fromEntries([...wanted].sort()));
});
