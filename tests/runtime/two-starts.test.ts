import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { endPrograms, freePort, leftUsing, type Program, postmasterOf } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;

describe('two starts on one data directory', () => {
  let place: Workplace;
  beforeAll(async () => {
    place = await makeWorkplace();
  });
  afterEach(endPrograms);
  afterAll(() => place.remove());

  async function stop(program: Program): Promise<void> {
    program.signalGroup('SIGINT');
    expect(await program.ends()).toEqual({ code: 0, signal: null });
    expect(await leftUsing(place.folder)).toEqual([]);
  }

  test('at the same moment, with no database yet: one comes up, the other says why it does not', async () => {
    const env = { PORT: String(await freePort()) };
    const both = [place.start(), place.start({ env })] as const;
    const [refused] = await Promise.race(both.map(async (program) => [program, await program.ends(60)] as const));
    const winner = both.find((program) => program !== refused) as Program;
    expect((await refused.ended).code).toBe(1);
    expect(refused.stderr).toMatch(/^safetypin: .* already (running|in use).*set PORT and SAFETYPIN_DATA_DIR$/m);
    const [, url] = await winner.says(READY);
    expect((await fetch(`${url}/healthz`)).status).toBe(200);
    await stop(winner);
  });

  test('with one running: the second names its address, exits, and leaves the first alone', async () => {
    const first = place.start();
    await first.says(READY);
    const postmaster = postmasterOf(place.cluster);
    const second = place.start({ env: { PORT: String(await freePort()) } });
    expect((await second.ends()).code).toBe(1);
    expect(second.stderr).toMatch(
      new RegExp(`^safetypin: already running on ${place.url} \\(process \\d+\\); to run a second one, set PORT`, 'm'),
    );
    expect(postmasterOf(place.cluster)).toBe(postmaster);
    expect((await fetch(`${place.url}/healthz`)).status).toBe(200);
    await stop(first);
  });

  test('a command joins the database of the running server and does not stop it', async () => {
    const first = place.start();
    await first.says(READY);
    const command = place.run('npm', ['run', '-s', 'safetypin', '--', 'sql', '-c', "select 6 * 7 as answer, 'é' as e"]);
    expect(await command.ends(), command.said).toEqual({ code: 0, signal: null });
    expect(command.stdout).toContain('42');
    expect((await fetch(`${place.url}/readyz`)).status).toBe(200);
    await stop(first);
  });

  test('a command brings the database up when nothing runs, and stops it again', async () => {
    const command = place.run('npm', ['run', '-s', 'safetypin', '--', 'sql', '-c', 'select 6 * 7 as answer']);
    expect(await command.ends(), command.said).toEqual({ code: 0, signal: null });
    expect(command.stdout).toContain('42');
    expect(await leftUsing(place.folder)).toEqual([]);
    expect(postmasterOf(place.cluster)).toBeUndefined();
  });

  test('two commands at once both do their work, one after the other', async () => {
    const sql = ['run', '-s', 'safetypin', '--', 'sql', '-c'];
    const both = [1, 2].map((n) => place.run('npm', [...sql, `select pg_sleep(1)::text, 40 + ${n} as answer`]));
    for (const [index, command] of both.entries()) {
      expect(await command.ends(), command.said).toEqual({ code: 0, signal: null });
      expect(command.stdout).toContain(String(41 + index));
    }
    expect(await leftUsing(place.folder)).toEqual([]);
  });

  test('a start while a command has the database says that it is a command', async () => {
    const command = place.run('npm', ['run', '-s', 'safetypin', '--', 'sql', '-c', 'select pg_sleep(4)::text']);
    while (postmasterOf(place.cluster) === undefined) await sleep(20);
    const refused = place.start();
    expect((await refused.ends()).code).toBe(1);
    expect(refused.stderr).toMatch(
      /^safetypin: \S+ is already in use by a command of SafetyPin \(process \d+\); to run/m,
    );
    expect(await command.ends(), command.said).toEqual({ code: 0, signal: null });
  });
});
