// `npm test`: runs vitest and says the result in one line that a person and a script can read.
// Most tests about SQL run on PostgreSQL 15 as well; `npm run test:versions` runs all of them on 15, 16 and 17.
//   npm test -- [file filters] [options of vitest]
import { parseCLI, startVitest, type TestModule, type Vitest } from 'vitest/node';
import { loadConfig } from '../src/config.ts';
import { onParentGone } from '../src/platform/parent.ts';

const { filter, options } = parseCLI(['vitest', 'run', ...process.argv.slice(2)]);
// vitest.config.ts makes a project of each.
if (process.env.SAFETYPIN_TEST_POSTGRES === undefined) {
  process.env.SAFETYPIN_TEST_POSTGRES = '15';
  process.env.SAFETYPIN_TEST_SHORT = 'on';
} else options.project ??= loadConfig().testPostgres.map((major) => `pg${major}*`);
let vitest: Vitest | undefined;
let interruptedAt: number | undefined;

/** Lets what runs come to its end, so that the test database and its folder go too. A second Ctrl-C does not wait. */
function interrupt(): void {
  // npm and the terminal each pass on the first one.
  if (interruptedAt !== undefined && Date.now() - interruptedAt > 500) process.exit(130);
  interruptedAt ??= Date.now();
  process.exitCode = 130;
  void vitest?.cancelCurrentRun('keyboard-input');
}

/** Vitest and Vite end the process at once on a signal, which would leave the test database behind. */
function takeSignals(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.removeAllListeners(signal);
    process.on(signal, interrupt);
  }
}

onParentGone(process.env.SAFETYPIN_PARENT, interrupt);

/** The PostgreSQL of each project, which is forgotten when it closes. */
const servers = new Map<string, string | undefined>();
const capture = {
  onInit(instance: Vitest): void {
    vitest = instance;
    takeSignals();
  },
  onTestRunStart: takeSignals,
  onTestRunEnd(): void {
    for (const project of vitest?.projects ?? []) servers.set(project.name, project.getProvidedContext().server);
  },
};
// Vitest would take those of the command line alone, and ours would see neither the end nor a signal.
const { reporter = 'default', ...rest } = options as typeof options & { reporter?: string | string[] };
const reporters = [...[reporter].flat(), capture];
const done = await startVitest(filter, { ...rest, watch: false, run: true, reporters });
await done.close();

/** A file that could not be read has no tests that failed, and has failed all the same. */
function brokenFiles(modules: readonly TestModule[]): number {
  return modules.filter((file) => file.state() === 'failed' && [...file.children.allTests('failed')].length === 0)
    .length;
}

const modules = done.state.getTestModules();
for (const project of done.projects) {
  const own = modules.filter((file) => file.project === project);
  const tests = own.reduce((sum, file) => sum + [...file.children.allTests()].length, 0);
  const server = servers.get(project.name);
  if (tests > 0) process.stdout.write(`${project.name}: ${tests} tests${server ? ` on ${server}` : ''}\n`);
}
const count = (state: 'passed' | 'failed' | 'skipped') =>
  modules.reduce((sum, file) => sum + [...file.children.allTests(state)].length, 0);
const passed = count('passed');
const skipped = count('skipped');
let failed = count('failed') + brokenFiles(modules) + done.state.getUnhandledErrors().length;
// A run that broke outside of any test, or found none, did not pass.
if (failed === 0 && (process.exitCode || passed + skipped === 0)) failed = 1;

process.stdout.write(`\n${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}\n`);
const code = process.exitCode || (failed > 0 ? 1 : 0);
process.exit(interruptedAt === undefined ? code : 130);
