// sql/ is the truth about the database: what the migrations build must be what sql/all.sql says.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import { expect, inject, test } from 'vitest';
import { withClient } from '../../src/platform/connection.ts';
import { composeInitial, withMigrationsFolder } from '../../src/platform/migrate/db-commit.ts';
import { buildDatabase, withMigrationLock } from '../../src/platform/migrate/migrate.ts';
import { committedFiles, MIGRATIONS_FOLDER } from '../../src/platform/migrate/migrations.ts';
import { runSql } from '../../src/platform/sql/runner.ts';
import { accessTo } from '../support/access.ts';
import { dumpPrivileges, dumpSchema } from '../support/catalog.ts';
import { cloneDatabase, handleOf } from '../support/database.ts';

const quiet = () => {};
const name = `t_drift_${process.pid}`;

/** Tables whose first rows are part of the definition, not data. */
const REFERENCE = ['platform.errors', 'platform.limits', 'platform.tasks', 'audit.actions', 'access.permissions'];

async function rowsOf(client: pg.Client): Promise<Record<string, unknown[]>> {
  const rows: Record<string, unknown[]> = {};
  for (const table of REFERENCE) {
    rows[table] = (await client.query(`select to_jsonb(t) as row from ${table} t order by to_jsonb(t)::text`)).rows;
  }
  return rows;
}

test('the committed migrations and current.sql build what sql/all.sql says', async () => {
  const migrated = await cloneDatabase();
  const current = await readFile(join(MIGRATIONS_FOLDER, 'current.sql'), 'utf8');
  await runSql(migrated.access, { sql: current, name: 'current.sql', out: quiet, note: quiet });

  const access = accessTo(inject('cluster'), name);
  const described = handleOf(name, access);
  await withMigrationsFolder({ '000001-initial.sql': await composeInitial() }, (folder) =>
    withMigrationLock(access, quiet, () => buildDatabase(access, name, quiet, { folder })),
  );

  const one = await migrated.connect('admin');
  const other = await described.connect('admin');
  expect(await dumpSchema(one)).toBe(await dumpSchema(other));
  expect(await dumpPrivileges(one)).toBe(await dumpPrivileges(other));
  expect(await rowsOf(one)).toEqual(await rowsOf(other));
});

test('while nothing is released, the one migration is sql/all.sql word for word', async () => {
  const [initial, ...others] = await committedFiles();
  // A clone with migrations of its own cannot roll the first one again.
  if (others.length > 0) return;
  const committed = await readFile(join(MIGRATIONS_FOLDER, 'committed', String(initial)), 'utf8');
  expect(committed === (await composeInitial()), 'run `npm run db:commit`').toBe(true);
});

test('a difference between two databases is seen', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const before = await dumpSchema(admin);
  for (const change of [
    'alter table platform.limits alter column description drop not null',
    'alter table platform.limits no force row level security',
    "comment on table platform.limits is 'another'",
    'alter table platform.limits add constraint limits_new check (value <> 7)',
    'create index limits_new_idx on platform.limits (unit)',
    'create policy odd on platform.limits for select to safetypin_member using (true)',
    'alter function platform.uuid_v7() owner to safetypin_keeper',
    'create domain platform.odd as text check (value <> $$x$$)',
  ]) {
    await admin.query('begin');
    await admin.query(change);
    expect(await dumpSchema(admin), change).not.toBe(before);
    await admin.query('rollback');
  }
  const privileges = await dumpPrivileges(admin);
  for (const change of [
    'grant select (name) on platform.limits to safetypin_anonymous',
    'grant truncate on platform.limits to safetypin_definer',
    'grant create on schema platform to safetypin_member',
    'grant execute on function platform.uuid_v7() to public',
    'grant temporary on database safetypin_template to public',
    'alter role safetypin_member bypassrls',
    'grant safetypin_keeper to safetypin_jobs',
  ]) {
    await admin.query('begin');
    await admin.query(change.replace('safetypin_template', db.name));
    expect(await dumpPrivileges(admin), change).not.toBe(privileges);
    await admin.query('rollback');
  }
  await withClient(db.config('admin'), async (fresh) => expect(await dumpSchema(fresh)).toBe(before));
});
