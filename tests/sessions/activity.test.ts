import { beforeAll, expect, test } from 'vitest';
import { gatherActivity } from '../../src/sessions/activity.ts';
import { Application, sha256 } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';

let db: TestDatabase;
let application: Application;
beforeAll(async () => {
  db = await cloneDatabase();
  application = await Application.beside(db);
});

test('the last use of sessions is written in one batch, once per session, and unknown credentials are ignored', async () => {
  const [ada, bob] = [await application.person('ada'), await application.person('bob')];
  const errors: unknown[] = [];
  const activity = gatherActivity(application.pool, (error) => errors.push(error));
  for (let i = 0; i < 3; i += 1) activity.note(sha256(ada.credential));
  activity.note(sha256(bob.credential));
  activity.note(Buffer.alloc(32, 5));
  const admin = await db.connect('admin');
  const used = async () =>
    (
      await admin.query(
        "select session_id from sessions.activity where last_used_at > now() - interval '1 minute' order by 1",
      )
    ).rows.map(({ session_id: id }) => id);
  expect(await used()).toEqual([]);
  await activity.close();
  expect(errors).toEqual([]);
  expect(await used()).toEqual([ada.session, bob.session].sort());
});

test('a batch that cannot be written is reported and costs nothing else', async () => {
  const errors: unknown[] = [];
  const jobs = db.pool('jobs', { max: 1 });
  const activity = gatherActivity(jobs, (error) => errors.push(error));
  activity.note(Buffer.alloc(32, 5));
  await activity.close();
  expect(errors).toHaveLength(1);
});
