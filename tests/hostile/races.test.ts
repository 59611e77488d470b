// PG-17: a policy asks for rights, and the rights and the row change while a statement waits for the row.
import { beforeAll, describe, expect, it } from 'vitest';
import { standIn } from '../support/owners.ts';
import { attempt, CANARY, hostilePlace, kept, type Place } from './place.ts';

let place: Place;
beforeAll(async () => {
  place = await hostilePlace();
  // So that a patient's key can be changed, by an administrator.
  await place.admin.query('delete from clinic.visits');
  await standIn(place.admin, [place.ada.organization]);
});

/** Waits until a statement of this backend waits for a lock. */
async function untilWaiting(pid: number): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    const { rows } = await place.admin.query(
      "select from pg_stat_activity where pid = $1 and wait_event_type = 'Lock'",
      [pid],
    );
    if (rows.length > 0) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error('the statement never waited');
}

/** Ada's statement waits for her row while an administrator changes something in the same transaction as the row. */
async function whileWaiting(statement: string, change: string, values: unknown[] = []) {
  const other = await place.db.connect('admin');
  await other.query('begin');
  await other.query("update clinic.patients set name = 'rewritten' where name = $1", [CANARY.ada]);
  await other.query(change, values);
  const client = await place.db.connect('authenticator');
  await client.query('begin');
  await place.app.open(client, place.ada.credential);
  const { pid } = (await client.query('select pg_backend_pid() as pid')).rows[0];
  const asked = kept(client, statement);
  await untilWaiting(pid);
  await other.query('commit');
  const waited = await asked;
  const next = await attempt(client, 'select name from clinic.patients').catch(() => undefined);
  await client.query('rollback');
  return { waited, next };
}

/** Everything as before for the next attack. */
async function restore(): Promise<void> {
  await place.admin.query(`update clinic.patients set name = $1, organization_id = $2 where name = 'rewritten'`, [
    CANARY.ada,
    place.ada.organization,
  ]);
  await place.admin.query(
    `insert into access.membership_roles (organization_id, membership_id, role_id)
       select m.organization_id, m.id, r.id from access.memberships m join access.roles r using (organization_id)
        where m.organization_id = $1 and r.name = 'owner' and not exists (
          select from access.membership_roles x where x.organization_id = m.organization_id and x.membership_id = m.id)`,
    [place.ada.organization],
  );
}

const REVOKE = `delete from access.membership_roles mr using access.memberships m, identity_private.passwords w
  where mr.organization_id = $1 and m.id = mr.membership_id and w.person_id = m.person_id`;

describe('PG-17 a row that changes while a statement of somebody with old rights waits for it', () => {
  it('is not shown, changed or removed once it belongs to another organization', async () => {
    for (const statement of [
      'select name from clinic.patients for update',
      'select name from clinic.patients for share',
      "update clinic.patients set name = 'mine' returning name",
      'delete from clinic.patients returning name',
    ]) {
      const { waited } = await whileWaiting(
        statement,
        "update clinic.patients set organization_id = $1 where name = 'rewritten'",
        [place.bob.organization],
      );
      await restore();
      expect([waited.code, waited.count], `${statement}: ${waited.message}`).toEqual(['ok', 0]);
    }
  });

  it('is refused to the next statement of the same transaction', async () => {
    const { next } = await whileWaiting('select name from clinic.patients for update', REVOKE, [
      place.ada.organization,
    ]);
    await restore();
    expect(next).toMatchObject({ code: 'ok', count: 0 });
  });

  // Rights are asked once at the start of a statement (F16), so a statement that waits keeps those it began with. What
  // bounds that is how long it may wait for a lock.
  it('is the last thing that the old rights reach, and lock_timeout says for how long', async () => {
    const { waited } = await whileWaiting('select name from clinic.patients for update', REVOKE, [
      place.ada.organization,
    ]);
    await restore();
    expect(waited.rows).toEqual([{ name: 'rewritten' }]);
    for (const login of ['authenticator', 'jobs', 'auditor'] as const) {
      const client = await place.db.connect(login);
      const { rows } = await client.query("select setting::int as ms from pg_settings where name = 'lock_timeout'");
      expect(rows[0].ms, login).toBeGreaterThan(0);
      expect(rows[0].ms, login).toBeLessThanOrEqual(10_000);
    }
  });
});
