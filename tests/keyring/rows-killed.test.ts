// CR-08: whoever seals the rows of a table, replaces its keys or unseals it is killed as the kernel kills, at random
// moments, while people read, find and write.
import { randomInt } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { killHard, until, workerApart } from '../worker/workplace.ts';
import { clinicWith, traffic } from './clinic-rows.ts';

const SCALE = loadConfig().testScale;
/** A work takes longer than it takes to kill it. */
const ROWS = Math.max(1_500, Math.round(15_000 * SCALE));
const KILLS = Math.max(4, Math.round(40 * SCALE));

test(`CR-08 ${KILLS} kills while ${ROWS} rows are sealed, under new keys, and unsealed: nobody’s reading fails and nothing is lost`, {
  timeout: 300_000,
}, async () => {
  const clinic = await clinicWith(ROWS);
  const { owner, hand, db, app } = clinic;
  const open = async () => (await hand.works()).filter(({ finished_at }) => finished_at === null).length;
  const STEPS = [
    `select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', searchable => true, options => '{"unique": true}')`,
    'select keyring.rotate_data_keys(destroy => true)',
    "select keyring.rotate_index_key('clinic.patients', 'ssn')",
    "select keyring.unseal_column('clinic.patients', 'ssn')",
  ];
  const go = async () => {
    await hand.admin.query('update keyring_private.works set run_at = now() where finished_at is null');
    await hand.admin.query("select graphile_worker.add_job('keyring__work', job_key => 'test')");
  };
  let people: ReturnType<typeof traffic> | undefined;
  let inTheMiddle = 0;
  let seconds = 0;
  let worker = await workerApart(db, app.keysDirectory, {});
  for (const step of STEPS) {
    await owner.query(step);
    people ??= traffic(clinic, ROWS);
    const began = performance.now();
    for (let kills = 0; kills < KILLS / STEPS.length; kills += 1) {
      await go();
      await sleep(randomInt(20, 500));
      await killHard(worker);
      if ((await open()) > 0) inTheMiddle += 1;
      worker = await workerApart(db, app.keysDirectory, {});
    }
    await until(
      `over: ${step}`,
      async () => {
        await go();
        return (await open()) === 0;
      },
      60,
    );
    seconds += (performance.now() - began) / 1000;
  }
  await killHard(worker);
  const { wrong, rounds } = await (people as ReturnType<typeof traffic>).stop();
  await owner.query(STEPS[3] as string);
  if (process.env.SAFETYPIN_FIGURES) console.log({ rounds, inTheMiddle, seconds });
  expect(wrong).toEqual([]);
  expect(rounds).toBeGreaterThan(3);
  expect(inTheMiddle).toBeGreaterThan(0);
  const { rows } = await hand.admin.query('select name, ssn from clinic.patients');
  expect(new Map(rows.map(({ name, ssn }) => [name, ssn]))).toEqual((people as ReturnType<typeof traffic>).expected);
});
