// CR-07: the file with the application's half, and what a rotation does to it. It is whole at every moment, and its
// owner's alone.
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { readKeys } from '../../src/keyring/application-keys.ts';
import { newKeyFile } from '../../src/keyring/command.ts';
import { KeyFile } from '../../src/keyring/key-file.ts';
import { openProvider } from '../../src/keyring/provider.ts';

let folder: string;
let path: string;
let file: KeyFile;

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'safetypin-keys-'));
  path = join(folder, 'key');
  file = new KeyFile(path, { make: false });
  await file.create();
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

test('holds the next half beside the current one until that is over, and then no trace of the old one', async () => {
  const { current } = await file.halves();
  const seed = await file.seed();
  const { next } = await file.prepare();
  expect(await file.prepare()).toEqual({ current, next });
  if (next === undefined) throw new Error('no next half');
  expect(statSync(path).mode & 0o777).toBe(0o600);
  expect(await file.commit(next)).toEqual({ current: next });
  expect(await file.commit(next)).toEqual({ current: next });
  expect(JSON.parse(readFileSync(path, 'utf8')).half).toBe(next.toString('base64'));
  expect(await file.seed()).toEqual(seed);
  const second = (await file.prepare()).next;
  await file.commit(second as Buffer);
  // What further keys are derived from stays; the half between is gone.
  expect(await file.seed()).toEqual(seed);
  expect(readFileSync(path, 'utf8')).not.toContain(next.toString('base64'));
  expect(readdirSync(folder)).toEqual(['key']);
});

test('goes over to no half that it does not hold', async () => {
  await expect(file.commit(Buffer.alloc(32, 7))).rejects.toThrow('does not hold');
});

test.each([
  ['cut in the middle', (text: string) => text.slice(0, text.length / 2)],
  ['without its check', (text: string) => text.replace(/"check": "[^"]*"/, '"check": ""')],
  [
    'with another next half',
    (text: string) => text.replace(/"next": "(.)/, (_, c) => `"next": "${c === 'A' ? 'B' : 'A'}`),
  ],
  ['without its next half', (text: string) => text.replace(/\s*"next": "[^"]*",/, '')],
  ['with a half of 16 bytes', (text: string) => text.replace(/"half": "[^"]*"/, '"half": "AAAAAAAAAAAAAAAAAAAAAA=="')],
])('is refused %s, left as it is, and a process that holds its key goes on', async (_how, damage) => {
  await file.prepare();
  const keys = await readKeys(file);
  const held = await keys.halves();
  const damaged = damage(readFileSync(path, 'utf8'));
  writeFileSync(path, damaged);
  await expect(file.halves()).rejects.toThrow(/damaged/);
  expect(await file.health()).toMatch(/damaged/);
  expect(await keys.halves()).toEqual(held);
  expect(readFileSync(path, 'utf8')).toBe(damaged);
  await expect(file.prepare()).rejects.toThrow(/damaged/);
});

test.each([
  [0o644, /can be read by others/],
  [0o640, /can be read by others/],
  [0o604, /can be read by others/],
])('of mode %o is refused', async (mode, said) => {
  chmodSync(path, mode);
  await expect(file.halves()).rejects.toThrow(said);
  await expect(file.prepare()).rejects.toThrow(said);
});

test('in a folder that others can write is refused: they could put a key of theirs there', async () => {
  for (const mode of [0o777, 0o770, 0o703]) {
    chmodSync(folder, mode);
    await expect(file.halves()).rejects.toThrow(/can be written by others/);
  }
  chmodSync(folder, 0o755);
  await file.halves();
});

test('that is not there is made for development only', async () => {
  const other = join(folder, 'other');
  await expect(new KeyFile(other, { make: false }).halves()).rejects.toThrow(/is not there/);
  expect(readdirSync(folder)).toEqual(['key']);
  await new KeyFile(other, { make: true }).halves();
  expect(readdirSync(folder).sort()).toEqual(['key', 'other']);
});

test('in a folder that cannot be written is rotated by a file that is made elsewhere', async () => {
  const said: string[] = [];
  const next = join(folder, 'next');
  await newKeyFile(next, path, (line) => said.push(line));
  await expect(newKeyFile(next, path, () => {})).rejects.toThrow(/there already/);
  const { current } = await file.halves();
  const both = await new KeyFile(next, { make: false }).halves();
  expect(both).toEqual({ current, next: expect.any(Buffer) });
  expect(said.join()).not.toContain(both.next?.toString('base64'));
  if (process.getuid?.() === 0) return;
  chmodSync(folder, 0o500);
  await expect(file.prepare()).rejects.toThrow(/cannot be replaced from here \(EACCES\).*keys new FILE --after/);
  chmodSync(folder, 0o700);
});

test('is chosen by KEY_PROVIDER; production takes no local one', () => {
  const production = {
    NODE_ENV: 'production',
    DATABASE_URL: 'postgres://a@db.example.com/safetypin?sslmode=verify-full',
    PUBLIC_URL: 'https://id.example.com',
    SAFETYPIN_DATA_DIR: folder,
  };
  const open = (more: Record<string, string>) => openProvider(loadConfig({ ...production, ...more }));
  expect(() => open({})).toThrow(/KEY_PROVIDER is missing/);
  expect(() => open({ KEY_PROVIDER: 'local' })).toThrow(/KEY_PROVIDER is missing/);
  expect(() => open({ KEY_PROVIDER: `file:${path}` })).toThrow(/lies beside the data/);
  expect(() => open({ KEY_PROVIDER: `file:${folder}/x/../key` })).toThrow(/lies beside the data/);
  expect(open({ KEY_PROVIDER: 'file:/run/secrets/key' }).name).toBe('file /run/secrets/key');
  expect(open({ NODE_ENV: 'test' }).name).toBe(`file ${folder}/keys/application.json`);
  expect(() => open({ KEY_PROVIDER: 'aws' })).toThrow(/KEY_PROVIDER=aws must be local, or file:/);
});
