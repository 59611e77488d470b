import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { endPrograms, leftUsing, type Program } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;

describe('a start that cannot succeed says one clear line and leaves nothing running', () => {
  let place: Workplace;
  beforeAll(async () => {
    place = await makeWorkplace();
  });
  afterEach(endPrograms);
  afterAll(() => place.remove());

  /** The lines of ours. npm adds some of its own about a command that failed. */
  async function refusal(program: Program): Promise<string[]> {
    expect((await program.ends()).code, program.said).toBe(1);
    expect(await leftUsing(place.folder)).toEqual([]);
    expect(place.temporaryFiles()).toEqual([]);
    const lines = program.stderr.split('\n').filter((line) => line !== '' && !/^npm (error|warn)/.test(line));
    for (const line of lines) expect(line).toMatch(/^safetypin: /);
    return lines.map((line) => line.replace('safetypin: ', ''));
  }

  test('a port that is none', async () => {
    const said = await refusal(place.start({ env: { PORT: '80000' } }));
    expect(said).toEqual(['PORT=80000 must be a whole number from 1 to 65535']);
    expect(existsSync(place.dataDirectory)).toBe(false);
  });

  test('several bad values: a line for each, and no secret in it', async () => {
    const env = { PORT: 'x', SAFETYPIN_WORKER: 'maybe', DATABASE_URL: 'mysql://root:hunter2@db/x' };
    expect(await refusal(place.start({ env }))).toEqual([
      'PORT=x must be a whole number from 1 to 65535',
      'DATABASE_URL must begin with postgres:// or postgresql://',
      'SAFETYPIN_WORKER=maybe must be on or off',
    ]);
  });

  test('production without a database of its own, or without TLS to it', async () => {
    const [bare] = await refusal(place.start({ env: { NODE_ENV: 'production' } }));
    expect(bare).toMatch(/^DATABASE_URL is missing: in production SafetyPin .* never brings its own$/);
    const env = { NODE_ENV: 'production', DATABASE_URL: 'postgres://u:p@db/x', PUBLIC_URL: 'https://id.example' };
    const [plain] = await refusal(place.start({ env }));
    expect(plain).toMatch(/^DATABASE_URL must say sslmode=verify-full/);
    expect(existsSync(place.dataDirectory)).toBe(false);
  });

  test('a port in use, found after the database came up', async () => {
    const other = createServer();
    await new Promise<void>((resolve) => other.listen(place.port, '127.0.0.1', resolve));
    try {
      const [said] = await refusal(place.start());
      expect(said).toBe(
        `port ${place.port} is in use: stop the program that has it, or choose another, such as PORT=${place.port + 1}`,
      );
    } finally {
      await new Promise((resolve) => other.close(resolve));
    }
  });

  test('an address that is not of this machine', async () => {
    const [said] = await refusal(place.start({ env: { HOST: '192.0.2.1' } }));
    expect(said).toMatch(/^cannot listen on 192\.0\.2\.1:\d+: HOST is not an address of this machine$/);
  });

  test('a data directory that holds other things, which stay untouched', async () => {
    const folder = join(place.folder, 'photos');
    mkdirSync(folder);
    chmodSync(folder, 0o755);
    for (const name of ['keys', 'postgresql', 'postgres']) mkdirSync(join(folder, name));
    writeFileSync(join(folder, 'cat.jpg'), 'meow');
    const [said] = await refusal(place.start({ env: { SAFETYPIN_DATA_DIR: folder } }));
    expect(said).toBe(`${folder} holds files that are not SafetyPin's: choose another folder with SAFETYPIN_DATA_DIR`);
    expect(readdirSync(folder)).toEqual(['cat.jpg', 'keys', 'postgres', 'postgresql']);
    expect(statSync(folder).mode & 0o777).toBe(0o755);
  });

  test('a data directory under a file', async () => {
    const file = join(place.folder, 'file');
    writeFileSync(file, '');
    const [said] = await refusal(place.start({ env: { SAFETYPIN_DATA_DIR: join(file, 'data') } }));
    expect(said).toBe(
      `${join(file, 'data')} is not a folder, or lies under a file: choose another folder with SAFETYPIN_DATA_DIR`,
    );
  });

  test('secrets that others can read, and secrets that are gone', async () => {
    const file = join(place.dataDirectory, 'secrets.json');
    expect(existsSync(file)).toBe(true);
    chmodSync(file, 0o644);
    const [open] = await refusal(place.start());
    expect(open).toBe(`${file} can be read by others, so its passwords are not secret any more: chmod 600 ${file}`);
    rmSync(file);
    const [gone] = await refusal(place.start());
    expect(gone).toMatch(/has a database but its passwords, secrets\.json, are missing: restore them, or remove/);
    rmSync(place.dataDirectory, { recursive: true });
    const again = place.start();
    await again.says(READY);
    again.signalGroup('SIGINT');
    await again.ends();
  });
});
