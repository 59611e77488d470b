// What goes up comes down: schema and privileges before a migration and after its reverse are the same.
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { describe, expect, inject, test } from 'vitest';
import type { DatabaseAccess } from '../../src/platform/access.ts';
import { retarget, withClient } from '../../src/platform/connection.ts';
import { withMigrationsFolder } from '../../src/platform/migrate/db-commit.ts';
import { migrateDown } from '../../src/platform/migrate/down.ts';
import { committedFiles, MIGRATIONS_FOLDER } from '../../src/platform/migrate/migrations.ts';
import { databaseStatus, summary } from '../../src/platform/migrate/status.ts';
import { accessTo } from '../support/access.ts';
import { Application } from '../support/actors.ts';
import { dumpPrivileges, dumpSchema } from '../support/catalog.ts';
import { handleOf } from '../support/database.ts';
import { addMigration, build, withChain } from './chains.ts';

const quiet = () => {};

function nowhere(): DatabaseAccess {
  const access = accessTo(inject('cluster'), `t_${randomBytes(8).toString('hex')}`);
  handleOf(access.database, access);
  return access;
}

/** Schema, privileges, and who may call what in future: all that a reverse has to bring back. */
const shapeOf = (access: DatabaseAccess) =>
  withClient(retarget(access.admin, access.database), async (client) => ({
    schema: await dumpSchema(client),
    privileges: await dumpPrivileges(client),
    // What the job queue has of ours.
    triggers: (
      await client.query(
        "select tgname from pg_trigger where tgrelid::regclass::text ~ '^graphile_worker' and not tgisinternal order by 1",
      )
    ).rows,
  }));

/** The clone's migrations and one more. */
const withOneMore = (up: string, down: string, work: (folder: string) => Promise<void>) =>
  withChain(async (folder) => {
    await addMigration(folder, 'visits', up, down);
    await work(folder);
  });

const VISITS = `
create schema clinic;
create table clinic.visits (
  organization_id uuid not null,
  id uuid not null default platform.uuid_v7(),
  note text,
  primary key (organization_id, id)
);
select access.protect('clinic.visits');`;

const UNVISIT = `
select access.unprotect('clinic.visits');
drop schema clinic cascade;
`;

test('every committed migration has a reverse', async () => {
  for (const file of await committedFiles())
    expect(existsSync(`${MIGRATIONS_FOLDER}/reverse/${file}`), file).toBe(true);
});

test('up, down and up again: the same schema, the same privileges', async () => {
  const access = nowhere();
  await withOneMore(VISITS, UNVISIT, async (folder) => {
    await withMigrationsFolder({}, (none) => build(access, none));
    const bare = await shapeOf(access);
    await build(access, MIGRATIONS_FOLDER);
    const first = await shapeOf(access);
    await build(access, folder);
    const second = await shapeOf(access);
    expect(second.schema).toContain('table clinic.visits');
    expect(summary(await databaseStatus(access, folder)).exitCode).toBe(0);
    expect(summary(await databaseStatus(access)).exitCode).toBe(2);

    const said: string[] = [];
    await migrateDown(access, (line) => said.push(line), { folder });
    expect(said).toEqual([expect.stringMatching(/^took back 00000\d-visits\.sql$/)]);
    expect(await shapeOf(access)).toEqual(first);
    expect(summary(await databaseStatus(access, folder))).toMatchObject({ exitCode: 1 });

    await build(access, folder);
    expect(await shapeOf(access)).toEqual(second);
    await migrateDown(access, quiet, { folder });

    await migrateDown(access, quiet, { folder, yes: true });
    expect(await shapeOf(access)).toEqual(bare);
    expect((await databaseStatus(access, folder)).map(({ state }) => state)).toEqual(['unrun', 'unrun']);
    await expect(migrateDown(access, quiet, { folder, yes: true })).rejects.toThrow('no migration has run');

    await build(access, MIGRATIONS_FOLDER);
    expect(await shapeOf(access)).toEqual(first);
  });
});

describe('taking back the first migration', () => {
  test('is refused without --yes, while people are there, and while a table of the host is protected', async () => {
    const access = nowhere();
    await build(access, MIGRATIONS_FOLDER);
    const before = await shapeOf(access);
    await expect(migrateDown(access, quiet)).rejects.toThrow(
      `taking back the first migration drops everything SafetyPin has in ${access.database}: say --yes`,
    );
    const db = handleOf(access.database, access);
    await (await Application.beside(db)).person('ada');
    await withClient(db.config('owner'), async (owner) => {
      await owner.query('begin');
      for (const statement of VISITS.split(';')) await owner.query(statement);
      await owner.query('commit');
    });
    await expect(migrateDown(access, quiet, { yes: true })).rejects.toThrow(
      `${access.database} has 1 people, 1 organizations, the protection of clinic.visits, which would be lost: back it up and say --yes --force`,
    );
    const { people } = await withClient(retarget(access.admin, access.database), async (client) => {
      await client.query("delete from access.rules where relation = 'clinic.visits'::regclass");
      await client.query('drop schema clinic cascade');
      return (await client.query('select count(*)::int as people from identity.people')).rows[0];
    });
    expect(people).toBe(1);
    expect((await shapeOf(access)).privileges).toEqual(before.privileges);
    await migrateDown(access, quiet, { yes: true, force: true });
    expect((await shapeOf(access)).schema).not.toContain('identity.people');
    await db.drop();
  });
});

describe('a reverse that cannot be', () => {
  test('leaves everything, and says which line of which file', async () => {
    const access = nowhere();
    const down = 'drop table clinic.visits;\n\nselect 1 / 0;\n';
    await withOneMore(VISITS, down, async (folder) => {
      await build(access, folder);
      const before = await shapeOf(access);
      await expect(migrateDown(access, quiet, { folder })).rejects.toThrow(
        /^ERROR 22012: division by zero\n {2}migrations\/reverse\/00000\d-visits\.sql, line 3:\n {2}3 \| select 1 \/ 0;/,
      );
      expect(await shapeOf(access)).toEqual(before);
    });
    await expect(migrateDown(access, quiet)).rejects.toThrow('and this clone does not have it');
  });
});
