// The local key file: made once, kept to its owner, never replaced by another.
import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';

let directory: string;
let path: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'safetypin-keys-'));
  path = join(directory, 'keys', 'application.json');
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

it('is made at the first start, for its owner alone, and is the same at the next', async () => {
  const first = await loadApplicationKeys(directory);
  expect(first.half.length).toBe(32);
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(statSync(join(directory, 'keys')).mode & 0o777).toBe(0o700);
  const second = await loadApplicationKeys(directory);
  expect(second.half).toEqual(first.half);
  expect(second.derive('refresh')).toEqual(first.derive('refresh'));
  expect(first.derive('refresh')).not.toEqual(first.derive('assertion'));
  expect(first.assertion).not.toEqual(first.half);
});

it('twenty first starts at once agree on one key', async () => {
  const keys = await Promise.all(Array.from({ length: 20 }, () => loadApplicationKeys(directory)));
  expect(new Set(keys.map(({ half }) => half.toString('hex'))).size).toBe(1);
});

it('that others can read is refused', async () => {
  await loadApplicationKeys(directory);
  chmodSync(path, 0o644);
  await expect(loadApplicationKeys(directory)).rejects.toThrow(/can be read by others/);
});

it.each([
  ['cut', (text: string) => text.slice(0, 20)],
  [
    'with one character changed',
    (text: string) => text.replace(/"half": "(.)/, (_, c) => `"half": "${c === 'A' ? 'B' : 'A'}`),
  ],
  ['empty', () => ''],
])('that is damaged (%s) is refused and left as it is', async (_how, damage) => {
  await loadApplicationKeys(directory);
  const damaged = damage(readFileSync(path, 'utf8'));
  writeFileSync(path, damaged);
  await expect(loadApplicationKeys(directory)).rejects.toThrow(/damaged/);
  expect(readFileSync(path, 'utf8')).toBe(damaged);
});
