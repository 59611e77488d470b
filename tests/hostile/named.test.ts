// Each statement of SECURITY 2.1 to 2.3 has a test of its name, and so has what of 2.5 touches what exists.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { projectRoot } from '../../src/config.ts';

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
/** Numbers that the page gives: it leaves gaps between its sections. */
const NUMBERS = [...range(1, 8), ...range(10, 22), ...range(30, 46)];
const BESIDE = [60, 64, 65, 66, 67];
const id = (number: number) => `PG-${String(number).padStart(2, '0')}`;

/** Ids in the names of tests and lints, not in comments. */
function named(): Set<string> {
  const folder = join(projectRoot, 'tests');
  const found = new Set<string>();
  for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
    if (!/^(?!.*node_modules).*\.ts$/.test(file)) continue;
    const text = readFileSync(join(folder, file), 'utf8');
    for (const [name] of text.matchAll(/^\s*(?:(?:it|test|describe)(?:\.each\(.*?\))?\(|name:)\s*(['"`]).*?\1/gm))
      for (const [one] of name.matchAll(/PG-\d\d/g)) found.add(one);
  }
  return found;
}

it('each attack of SECURITY 2.1 to 2.3 stands in the name of a test', () => {
  const found = named();
  const wanted = NUMBERS.map(id);
  const missing = [...wanted, ...BESIDE.map(id)].filter((one) => !found.has(one));
  process.stderr.write(
    `PG-01..PG-46: ${wanted.length - missing.filter((one) => wanted.includes(one)).length} of ${wanted.length} named in tests\n`,
  );
  expect(missing).toEqual([]);
});

it('the search sees what it is for: an id in a comment does not count', () => {
  expect(named().has('PG-09')).toBe(false);
  expect(named().size).toBeGreaterThan(NUMBERS.length);
});
