// Expand and contract, the worked example: a column that becomes obligatory while people go on reading and writing.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, inject, test } from 'vitest';
import { withClient } from '../../src/platform/connection.ts';
import { accessTo } from '../support/access.ts';
import { Application } from '../support/actors.ts';
import { handleOf } from '../support/database.ts';
import { addMigration, build, withChain } from './chains.ts';

const VISITS = `
create schema clinic;
create table clinic.visits (
  organization_id uuid not null,
  id uuid not null default platform.uuid_v7(),
  note text,
  primary key (organization_id, id)
);
select access.protect('clinic.visits');
grant usage on schema clinic to safetypin_member;`;

/** Each is a migration of its own; between the first two the application starts to write the column. */
const STEPS = {
  expand: `
-- New rows have it from now on; old ones do not, and nothing is rewritten.
alter table clinic.visits add column kind text;
alter table clinic.visits alter column kind set default 'routine';
-- Rights are given by column: the new one is nobody's until the table is protected again.
select access.protect('clinic.visits');`,
  backfill: `--! no-transaction
-- In batches that commit, so that no lock is held for long; what was interrupted goes on where it stopped.
do $$
declare
  v_count integer;
begin
  loop
    update clinic.visits v set kind = 'routine'
      from (select organization_id, id from clinic.visits where kind is null limit 500 for update skip locked) as next
      where v.organization_id = next.organization_id and v.id = next.id;
    get diagnostics v_count = row_count;
    commit;
    exit when v_count = 0 and not exists (select from clinic.visits where kind is null);
  end loop;
end $$;`,
  promise: `
-- Holds for new rows at once, without looking at the old ones.
alter table clinic.visits add constraint visits_kind_is_there check (kind is not null) not valid;`,
  validate: `
-- Looks at the old rows while people read and write.
alter table clinic.visits validate constraint visits_kind_is_there;`,
  contract: `
-- Needs no look any more: the constraint has proved it.
alter table clinic.visits alter column kind set not null;
alter table clinic.visits drop constraint visits_kind_is_there;`,
};

test('a column is added, filled and made obligatory while people work', { timeout: 90_000 }, async () => {
  const access = accessTo(inject('cluster'), `t_${randomBytes(8).toString('hex')}`);
  const db = handleOf(access.database, access);
  await withChain(async (folder) => {
    await addMigration(folder, 'visits', VISITS);
    await build(access, folder);
    const app = await Application.beside(db);
    const ada = await app.person('ada');
    await app.call(ada.credential, "insert into clinic.visits (note) select 'old' from generate_series(1, 3000)");

    let going = true;
    let longest = 0;
    let written = 0;
    const traffic = (async () => {
      while (going) {
        const began = Date.now();
        await app.call(ada.credential, "insert into clinic.visits (note) values ('new')");
        await app.call(ada.credential, 'select count(*) from clinic.visits');
        written += 1;
        longest = Math.max(longest, Date.now() - began);
        await sleep(10);
      }
    })();
    for (const [title, sql] of Object.entries(STEPS)) {
      await addMigration(folder, title, sql);
      await build(access, folder, { patience: { lock: 500, total: 30_000 } });
    }
    going = false;
    await traffic;

    const [{ count, kinds }] = (
      await withClient({ ...access.admin, database: db.name }, (admin) =>
        admin.query('select count(*)::int as count, array_agg(distinct kind) as kinds from clinic.visits'),
      )
    ).rows;
    expect({ count, kinds }).toEqual({ count: 3000 + written, kinds: ['routine'] });
    expect(written).toBeGreaterThan(5);
    // Two statements, each behind one lock_timeout at most.
    expect(longest).toBeLessThan(5_000);
    await expect(app.call(ada.credential, 'insert into clinic.visits (kind) values (null)')).rejects.toMatchObject({
      code: '23502',
    });
  });
});
