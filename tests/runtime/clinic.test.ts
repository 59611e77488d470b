// The page of the worked example, walked as it says: what it shows is what comes out.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { endPrograms } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

let place: Workplace;
beforeAll(async () => {
  place = await makeWorkplace();
});
afterEach(endPrograms);
afterAll(() => place.remove());

const read = (name: string): string => readFileSync(join(projectRoot, 'tests/clinic', name), 'utf8');
const blocks = (language: string): string[] =>
  [...read('README.md').matchAll(new RegExp(`^\`\`\`${language}\n([^]*?)^\`\`\``, 'gm'))].map(([, text = '']) => text);

/** What a person types, and the lines that the page says come of it. */
const steps = blocks('console').flatMap((text) =>
  text
    .split(/^\$ /m)
    .slice(1)
    .map((step) => step.trimEnd().split('\n'))
    .map(([command = '', ...lines]) => ({ command, lines })),
);

/** The same as a pattern: `...` is any lines. */
const patternOf = (lines: readonly string[]): RegExp =>
  new RegExp(
    `^${lines.map((line) => (line === '...' ? '[^]*?' : line.replace(/[^\w ]/g, '\\$&'))).join('[ ]*\n')}\\s*$`,
  );

test('the page shows clinic.sql whole, in less than ten lines', () => {
  const sql = read('clinic.sql').replace(/^--.*\n/gm, '');
  expect(blocks('sql')).toEqual([sql]);
  expect(sql.trimEnd().split('\n').length).toBeLessThan(10);
});

test('every command of the page does what it shows', async () => {
  expect(steps).toHaveLength(4);
  for (const { command, lines } of steps) {
    const [, setting, name = '', rest = ''] = /^(?:(\w+=\w+) )?(\S+) (.*)$/.exec(command) ?? [];
    const env = Object.fromEntries(setting === undefined ? [] : [setting.split('=')]);
    if (rest === 'start') {
      await place.start({ env }).says(/SafetyPin is ready on (\S+)/);
      continue;
    }
    // The page means the default address; tests have one each.
    const program = place.run(name, [...rest.split(' '), ...(name === 'node' ? [place.url] : [])], { env });
    expect(await program.ends(60), `${command}\n${program.said}`).toEqual({ code: 0, signal: null });
    expect(`${program.stdout}${program.stderr.replace(/^(?:npm warn|made a PostgreSQL).*\n/gm, '')}`).toMatch(
      patternOf(lines),
    );
  }
});
