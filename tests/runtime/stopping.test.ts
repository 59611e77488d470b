import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { endPrograms, groupOf, leftUsing, postmasterOf, processesUsing } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;

describe('stopping npm start', () => {
  let place: Workplace;
  beforeAll(async () => {
    place = await makeWorkplace();
  });
  afterEach(endPrograms);
  afterAll(() => place.remove());

  async function expectNothingLeft(): Promise<void> {
    expect(await leftUsing(place.folder)).toEqual([]);
    expect(postmasterOf(place.cluster)).toBeUndefined();
    expect(place.temporaryFiles()).toEqual([]);
  }

  test('Ctrl-C while the database is being made leaves no half of one, and the next start makes it', async () => {
    const first = place.start();
    const making = () => processesUsing(place.dataDirectory).some((line) => line.includes('initdb'));
    while (!making()) await sleep(5);
    first.signalGroup('SIGINT');
    expect(await first.ends()).toEqual({ code: 0, signal: null });
    await expectNothingLeft();

    const second = place.start();
    const [, url = ''] = await second.says(READY);
    expect(url).toBe(place.url);
    expect(second.stdout).toContain('made a PostgreSQL 18 database');
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    second.signalGroup('SIGINT');
    expect(await second.ends()).toEqual({ code: 0, signal: null });
    expect(second.stdout).toContain('Stopped.');
    expect(second.stderr).not.toContain('safetypin:');
    await expectNothingLeft();
    expect(readFileSync(`${place.dataDirectory}/postgres.log`, 'utf8')).toContain('database system is shut down');
  });

  test('Ctrl-C does not reach PostgreSQL before the server is done with it', async () => {
    const program = place.start();
    await program.says(READY);
    const postmaster = postmasterOf(place.cluster) ?? 0;
    expect(groupOf(program.serverPid())).toBe(program.pid);
    expect(groupOf(postmaster)).toBe(postmaster);
    program.signalGroup('SIGINT');
    await program.ends();
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s to npm alone stops everything, with exit code 0', async (signal) => {
    const program = place.start();
    await program.says(READY);
    process.kill(program.pid, signal);
    expect(await program.ends()).toEqual({ code: 0, signal: null });
    await expectNothingLeft();
  });

  test('closing the terminal stops everything', async () => {
    const program = place.start();
    await program.says(READY);
    program.signalGroup('SIGHUP');
    await program.ends();
    await expectNothingLeft();
  });
});
