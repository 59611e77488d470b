// @ts-check
// The bootstrap behind `npm start`, `npm test` and `npm run safetypin`: installs what is missing, then runs a program
// of this project on the Node that the project ships. Node built-ins only; must parse under Node 18.
//   node src/start.mjs <program> [arguments]
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { delimiter, dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = realpathSync(dirname(dirname(fileURLToPath(import.meta.url))));
const modules = join(root, 'node_modules');
const stampFile = join(modules, '.safetypin-installed');
// Taken at once: npm killed later is noticed by a different parent.
const parent = process.ppid;
const startedByNpm = process.env.npm_lifecycle_event !== undefined;
/** The heap is collected sooner, young and old: 236 MB under load instead of 295, and 380 without either, 1 to 3 % slower (measured). */
const HEAP = ['--max-semi-space-size=8', '--heap-growing-percent=60'];
const signals = /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP']);

/** @param {string} line */
function say(line) {
  process.stderr.write(`${line}\n`);
}

/** @param {string} line @param {number} [code] @returns {never} */
function refuse(line, code = 1) {
  say(`safetypin: ${line}`);
  process.exit(code);
}

/** What an install depends on: the lock file, the dependencies, this kind of machine. Not the scripts. */
function expectedStamp() {
  const { dependencies, devDependencies, optionalDependencies, overrides } = JSON.parse(
    readFileSync(join(root, 'package.json'), 'utf8'),
  );
  return createHash('sha256')
    .update(readFileSync(join(root, 'package-lock.json')))
    .update(JSON.stringify([dependencies, devDependencies, optionalDependencies, overrides]))
    .update(`${process.platform} ${process.arch}`)
    .digest('hex');
}

/** @param {string} file @returns {string | undefined} */
function textOf(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return undefined;
  }
}

/**
 * Whether somebody ran npm by hand and finished: npm writes its own record last, after every package is in place.
 * @returns {boolean}
 */
function installedByHand() {
  const record = textOf(join(modules, '.package-lock.json'));
  if (record === undefined) return false;
  const present = JSON.parse(record).packages;
  const wanted = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  const named = wanted[''].optionalDependencies ?? {};
  /** @param {string[] | undefined} list @param {string} mine */
  const foreign = (list, mine) => list !== undefined && !list.includes(mine);
  return Object.entries(wanted).every(([path, { version, optional, os, cpu, libc }]) => {
    if (path === '' || present[path]?.version === version) return true;
    if (!optional) return false;
    if (foreign(os, process.platform) || foreign(cpu, process.arch) || foreign(libc, 'glibc')) return true;
    // What only a foreign package needs has no platform of its own; what we name ourselves must be there.
    return os === undefined && !(path.slice('node_modules/'.length) in named);
  });
}

function isInstalled() {
  const stamp = expectedStamp();
  if (textOf(stampFile) === stamp) return true;
  if (!installedByHand()) return false;
  writeStamp(stamp);
  return true;
}

/** @param {string} stamp */
function writeStamp(stamp) {
  try {
    writeFileSync(stampFile, stamp);
  } catch {
    // Somebody else's node_modules, complete but read-only: it is looked through again next time.
  }
}

/** Installs, unless another process does it meanwhile. */
async function install() {
  const { claimInstall, endOf, startNpmCi } = await import('./platform/npm-ci.mjs');
  const lock = await claimInstall(root, say);
  if (!isInstalled()) {
    const started = Date.now();
    say('safetypin: installing, about a minute (once, and after an update)');
    const child = startNpmCi(root, lock.server);
    /** @type {NodeJS.Signals | undefined} */
    let stopped;
    for (const name of signals) {
      process.on(name, () => {
        stopped = name;
        child.kill(name);
      });
    }
    const code = await endOf(child);
    for (const name of signals) process.removeAllListeners(name);
    if (stopped) refuse('stopped while installing; run the same command again', 128 + constants.signals[stopped]);
    if (code !== 0) refuse(`npm ci failed (${code}), see above; put that right and run the same command again`);
    writeStamp(expectedStamp());
    say(`safetypin: installed in ${Math.round((Date.now() - started) / 1000)} s`);
  }
  lock.release();
}

/** The Node that the project ships for this machine, else the running one if it is new enough. */
function chooseNode() {
  const shipped = join(modules, `node-${process.platform}-${process.arch}`, 'bin', 'node');
  // Without glibc's loader (Alpine, NixOS) the shipped Node cannot run, and execve would abort instead of failing.
  const loader = process.arch === 'arm64' ? '/lib/ld-linux-aarch64.so.1' : '/lib64/ld-linux-x86-64.so.2';
  if (existsSync(shipped) && (process.platform !== 'linux' || existsSync(loader))) return shipped;
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  if (major > 22 || (major === 22 && minor >= 18)) return process.execPath;
  return refuse(`Node ${process.versions.node} is too old and none is shipped for this machine: install Node 24`);
}

/** @param {string} program @param {string[]} args */
async function run(program, args) {
  const node = chooseNode();
  const env = { ...process.env };
  env.PATH = `${join(modules, '.bin')}${delimiter}${env.PATH ?? ''}`;
  // Files named on the command line are meant from where the command was given.
  env.INIT_CWD ??= process.cwd();
  // Compiled code is kept beside the packages: 0.2 of the 1.2 seconds of a warm start.
  env.NODE_COMPILE_CACHE ??= join(modules, '.cache', 'node');
  // Grafast asks for it at import, and would warn and run without its checks.
  env.GRAPHILE_ENV ??= env.NODE_ENV === 'production' ? 'production' : 'development';
  // The program has this very process id when it replaces this process, and may then watch npm itself.
  if (startedByNpm) env.SAFETYPIN_PARENT = `${process.pid}:${parent}`;
  process.chdir(root);
  if (typeof process.execve === 'function') return process.execve(node, [node, ...HEAP, program, ...args], env);

  const { spawn } = await import('node:child_process');
  // The ipc channel closes when this process ends in whatever way; the program takes that as the order to stop.
  const child = spawn(node, [...HEAP, program, ...args], { env, stdio: ['inherit', 'inherit', 'inherit', 'ipc'] });
  child.on('error', (error) => refuse(`${node} does not start: ${error.message}`));
  for (const name of signals) process.on(name, () => child.kill(name));
  if (startedByNpm) {
    const watch = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(watch);
      child.kill('SIGTERM');
    }, 500);
  }
  child.on('exit', (code, signal) => {
    if (!signal) process.exit(code ?? 1);
    for (const name of signals) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

const [, , program, ...args] = process.argv;
if (!program) refuse('usage: node src/start.mjs <program> [arguments]', 2);
if (process.env.NODE_ENV === 'production') {
  if (!existsSync(modules)) refuse('production never installs: run "npm ci --omit=dev --ignore-scripts" first');
} else if (!isInstalled()) {
  await install();
}
await run(resolve(root, program), args);
