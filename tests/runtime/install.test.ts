import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { commandOf, descendants, endPrograms, leftUsing, type Program } from './programs.ts';
import { copyProject, linkPackages, makeWorkplace, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;

describe('installing', () => {
  let place: Workplace;
  let root: string;
  beforeAll(async () => {
    place = await makeWorkplace();
    root = join(place.folder, 'clone');
    copyProject(root, { packages: false });
  });
  afterEach(endPrograms);
  afterAll(() => place.remove());

  test('is refused in production, with what to do instead', async () => {
    const program = place.start({ root, env: { NODE_ENV: 'production' } });
    expect((await program.ends()).code).toBe(1);
    expect(program.stderr).toContain('safetypin: production never installs: run "npm ci --omit=dev --ignore-scripts"');
  });

  test('npm test runs on what was installed by hand, and installs nothing', async () => {
    linkPackages(root);
    rmSync(join(root, 'node_modules', '.safetypin-installed'), { force: true });
    const tests = place.run('npm', ['test', '--', 'tests/runtime/settings.test.ts'], { root });
    expect((await tests.ends(60)).code, tests.said).toBe(0);
    expect(tests.stderr).not.toContain('installing');
    expect(readFileSync(join(root, 'node_modules', '.safetypin-installed'), 'utf8')).toMatch(/^[0-9a-f]{64}$/);
  });

  test('npm test counts what failed, also a file that cannot be read, and exits 1', async () => {
    const own = join(root, 'tests', 'runtime', 'counting');
    mkdirSync(own);
    const file = (name: string, text: string) =>
      writeFileSync(join(own, `${name}.test.ts`), `import { expect, test } from 'vitest';\n${text}\n`);
    file('good', "test('good', () => expect(1).toBe(1));");
    file('bad', "test('bad', () => expect(1).toBe(2));");
    file('broken', "throw new Error('cannot be read');");
    file('loose', "test('loose', () => void setTimeout(() => { throw new Error('later'); }));");
    const tests = place.run('npm', ['test', '--', 'tests/runtime/counting'], { root });
    expect((await tests.ends(60)).code, tests.said).toBe(1);
    expect(tests.stdout.trimEnd().split('\n').at(-1)).toMatch(/^2 passed, 3 failed$/);
    const none = place.run('npm', ['test', '--', 'tests/runtime/counting/absent'], { root });
    expect((await none.ends(60)).code, none.said).toBe(1);
    expect(none.stdout.trimEnd().split('\n').at(-1)).toMatch(/^0 passed, 1 failed$/);
    rmSync(own, { recursive: true });
  });

  /** The npm that the bootstrap started, once it works on the packages. */
  async function untilInstalling(program: Program): Promise<number> {
    await program.says(/installing, about a minute/);
    for (const end = Date.now() + 60_000; Date.now() < end; await sleep(50)) {
      const npm = descendants(program.pid).find((pid) => / ci$| ci /.test(commandOf(pid).join(' ')));
      const packages = join(root, 'node_modules');
      if (npm && existsSync(packages) && readdirSync(packages).length > 20) return npm;
    }
    throw new Error(`did not begin to install:\n${program.said}`);
  }

  test.runIf(process.env.CI)(
    'the servers that only tests need come with the first test that needs one, once for two at once',
    { timeout: 240_000 },
    async () => {
      if (!existsSync(join(root, 'node_modules'))) linkPackages(root);
      const onFifteen = () => place.run('npm', ['test', '--', '--project=pg15', 'tests/versions'], { root });
      const both = [onFifteen(), onFifteen()];
      for (const tests of both) expect((await tests.ends(200)).code, tests.said).toBe(0);
      const said = both.map((tests) => tests.said).join('\n');
      expect(said.match(/installing PostgreSQL 15, 16 and 17 for the tests/g)).toHaveLength(1);
      expect(said.match(/pg15: \d+ tests on PostgreSQL 15\.\d+/g)).toHaveLength(2);
      const again = onFifteen();
      expect((await again.ends(60)).code, again.said).toBe(0);
      expect(again.said).not.toContain('installing');
    },
  );

  // Twice the packages: only where time does not matter.
  test.runIf(process.env.CI)(
    'killed in the middle, twice: the next two at once share one install',
    { timeout: 400_000 },
    async () => {
      rmSync(join(root, 'node_modules'), { recursive: true, force: true });
      const first = place.start({ root });
      await untilInstalling(first);
      first.signalGroup('SIGKILL');
      await first.ends();
      expect(await leftUsing(place.folder)).toEqual([]);

      // Killing the bootstrap alone leaves an npm that goes on.
      const second = place.start({ root });
      const npm = await untilInstalling(second);
      const bootstrap = descendants(second.pid).find((pid) => commandOf(pid)[1]?.endsWith('src/start.mjs'));
      process.kill(bootstrap ?? 0, 'SIGKILL');
      const start = place.start({ root });
      const tests = place.run('npm', ['test', '--', 'tests/runtime/settings.test.ts'], { root });
      await Promise.all([start, tests].map((program) => program.says(/waiting for another install in this folder/)));
      expect(commandOf(npm).length).toBeGreaterThan(0);
      const [, url] = await start.says(READY, 240);
      expect((await fetch(`${url}/readyz`)).status).toBe(200);
      expect((await tests.ends(120)).code, tests.said).toBe(0);
      expect(tests.stdout.trimEnd().split('\n').at(-1)).toMatch(/^\d+ passed, 0 failed$/);
      // The npm that was left alone finished, so nobody installed again.
      for (const program of [start, tests]) expect(program.stderr).not.toContain('installing, about a minute');
      start.signalGroup('SIGINT');
      expect((await start.ends()).code).toBe(0);
    },
  );
});
