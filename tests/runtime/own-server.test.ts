import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { type EmbeddedCluster, startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { endPrograms, freePort, leftUsing } from './programs.ts';
import { makeWorkplace, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;

describe('npm start beside a PostgreSQL of your own', () => {
  let place: Workplace;
  let server: EmbeddedCluster;
  beforeAll(async () => {
    place = await makeWorkplace();
    const dataDirectory = join(place.folder, 'server');
    mkdirSync(dataDirectory);
    server = await startEmbedded({ dataDirectory, initdbOptions: ['--no-sync'], settings: { fsync: 'off' } });
  });
  afterEach(endPrograms);
  afterAll(async () => {
    await server.stop();
    await place.remove();
  });

  const url = (password = server.superuserPassword) =>
    `postgres://postgres:${password}@/own?host=${encodeURIComponent(server.socketDirectory)}`;

  test('two at once share it, and neither stops it', async () => {
    const env = { DATABASE_URL: url() };
    const port = String(await freePort());
    const both = [place.start({ env }), place.start({ env: { ...env, PORT: port } })];
    for (const program of both) {
      const [, address] = await program.says(READY);
      expect((await fetch(`${address}/readyz`)).status).toBe(200);
    }
    expect(existsSync(place.cluster)).toBe(false);
    for (const program of both) {
      program.signalGroup('SIGINT');
      expect(await program.ends(), program.said).toEqual({ code: 0, signal: null });
    }
    const again = place.start({ env });
    await again.says(READY);
    again.signalGroup('SIGINT');
    await again.ends();
  });

  test.each([
    ['nobody listens', 'postgres://a:hunter2@127.0.0.1:1/own', '127.0.0.1:1: connect ECONNREFUSED 127.0.0.1:1'],
    ['there is no such host', 'postgres://a:hunter2@db.invalid/own', 'db.invalid:5432: getaddrinfo'],
  ])('when %s, it says so in one line without the password', async (_, DATABASE_URL, said) => {
    const program = place.start({ env: { DATABASE_URL } });
    expect((await program.ends()).code).toBe(1);
    const lines = program.stderr.split('\n').filter((line) => line.startsWith('safetypin: '));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toContain(`cannot use the PostgreSQL at ${said}`);
    expect(lines[0]).toMatch(/: check DATABASE_URL, and that the server runs$/);
    expect(program.said).not.toContain('hunter2');
  });

  test('when it refuses the password, it says so in one line without it', async () => {
    const program = place.start({ env: { DATABASE_URL: url('hunter2') } });
    expect((await program.ends()).code).toBe(1);
    expect(program.stderr).toMatch(
      /^safetypin: cannot use .*: password authentication failed for user "postgres": check/m,
    );
    expect(program.said).not.toContain('hunter2');
  });

  test('when it stops, the server stays and answers that it is not ready', async () => {
    const program = place.start({ env: { DATABASE_URL: url() } });
    const [, address] = await program.says(READY);
    await server.stop();
    expect((await fetch(`${address}/healthz`)).status).toBe(200);
    expect((await fetch(`${address}/readyz`)).status).toBe(503);
    program.signalGroup('SIGINT');
    expect(await program.ends(), program.said).toEqual({ code: 0, signal: null });
    expect(await leftUsing(join(place.folder, 'data'))).toEqual([]);
  });
});
