// Rules about the whole catalog. A finding is mended, or reviewed with its reason in lints/exceptions.ts.
import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { cloneDatabase } from '../support/database.ts';
import { accessLints } from './lints/access.ts';
import { domainLints } from './lints/domains.ts';
import { exceptions } from './lints/exceptions.ts';
import { functionLints } from './lints/functions.ts';
import { KEEPER_FUNCTIONS } from './lints/keeper-functions.ts';
import { type Lint, PRELUDE } from './lints/lint.ts';
import { tableLints } from './lints/tables.ts';

const LINTS = [...functionLints, ...tableLints, ...accessLints, ...domainLints];

const db = await cloneDatabase();
const admin = await db.connect('admin');

async function findings(client: pg.Client, lint: Lint): Promise<Map<string, string>> {
  const { rows } = await client.query<{ key: string; detail: string }>(`${PRELUDE} ${lint.find}`);
  return new Map(rows.map(({ key, detail }) => [key, detail]));
}

describe.each(LINTS)('$name', (lint) => {
  const reviewed = exceptions[lint.name] ?? {};

  test('is nowhere, or reviewed', async () => {
    const found = await findings(admin, lint);
    const open = [...found].filter(([key]) => !(key in reviewed)).map(([key, detail]) => `${key} (${detail})`);
    expect(open, lint.cure).toEqual([]);
    const stale = Object.keys(reviewed).filter((key) => !found.has(key));
    expect(stale, 'reviewed, but found no more: take these lines out').toEqual([]);
  });

  test('would be seen', async () => {
    const before = await findings(admin, lint);
    await admin.query('begin');
    try {
      await admin.query(lint.defect);
      const after = await findings(admin, lint);
      expect([...after.keys()].filter((key) => !before.has(key))).not.toEqual([]);
    } finally {
      await admin.query('rollback');
    }
  });
});

test('every reviewed line belongs to a lint', () => {
  expect(Object.keys(exceptions).filter((name) => !LINTS.some((lint) => lint.name === name))).toEqual([]);
});

test("F7 the keeper's functions are the ones that were reviewed line by line", async () => {
  const { rows } = await admin.query(
    `select format('%s.%s', n.nspname, p.proname) as name from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where p.proowner = 'safetypin_keeper'::regrole order by 1`,
  );
  expect(rows.map(({ name }) => name)).toEqual([...KEEPER_FUNCTIONS].sort());
});
