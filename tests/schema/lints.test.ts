// Rules about the whole catalog. A finding is mended, or reviewed with its reason in lints/exceptions.ts.
import type pg from 'pg';
import { describe, expect, test } from 'vitest';
import { cloneDatabase } from '../support/database.ts';
import { accessLints } from './lints/access.ts';
import { CLIENT_FUNCTIONS } from './lints/client-functions.ts';
import { domainLints } from './lints/domains.ts';
import { exceptions } from './lints/exceptions.ts';
import { functionLints } from './lints/functions.ts';
import { KEEPER_FUNCTIONS } from './lints/keeper-functions.ts';
import { type Lint, PRELUDE } from './lints/lint.ts';
import { surroundingLints } from './lints/surroundings.ts';
import { tableLints } from './lints/tables.ts';

const LINTS = [...functionLints, ...tableLints, ...accessLints, ...domainLints, ...surroundingLints];

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

const DEFINERS = `select r.rolname as role, array_agg(format('%s.%s', n.nspname, p.proname)) as names
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace, pg_roles r
 where p.prosecdef and r.rolname = any ($1) and has_schema_privilege(r.oid, n.oid, 'usage')
   and has_function_privilege(r.oid, p.oid, 'execute') group by 1`;

test('PG-04 the definer functions that a run-time role may call are the ones on the list', async () => {
  const callable = async () => {
    const { rows } = await admin.query(DEFINERS, [Object.keys(CLIENT_FUNCTIONS)]);
    return Object.fromEntries(rows.map(({ role, names }) => [role, names.sort()]));
  };
  const reviewed = Object.entries(CLIENT_FUNCTIONS).map(([role, names]) => [role, [...names].sort()]);
  expect(await callable()).toEqual(Object.fromEntries(reviewed));
  await admin.query(
    'begin; grant execute on function audit_private.make_partitions(integer) to public; grant usage on schema audit_private to safetypin_anonymous',
  );
  const more = await callable();
  await admin.query('rollback');
  expect(more.safetypin_anonymous).toContain('audit_private.make_partitions');
});
