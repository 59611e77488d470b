// The command line: `npm run safetypin -- <command>`. Each command opens the database, does one thing, closes it.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { text as readAll } from 'node:stream/consumers';
import { Argument, Command } from 'commander';
import { type Config, loadConfig, loadEnvironmentFile } from './config.ts';
import { persistOperations } from './http/persist.ts';
import { readKeys } from './keyring/application-keys.ts';
import { openProvider } from './keyring/provider.ts';
import { type DatabaseAccess, openDatabase } from './platform/access.ts';
import { claim } from './platform/claim.ts';
import { connectionUrl, OWNER_OPTIONS, retarget } from './platform/connection.ts';
import { openDataDirectory } from './platform/data-directory.ts';
import { examine, refuseUnsafe } from './platform/doctor/doctor.ts';
import { findGaps, gapLine } from './platform/doctor/gaps.ts';
import { sqlstateOf } from './platform/errors.ts';
import { databaseNamed, explainServerError } from './platform/external.ts';
import { Lifetime } from './platform/lifetime.ts';
import { log, logOptions, setUpLog } from './platform/log.ts';
import { commitMigration } from './platform/migrate/db-commit.ts';
import { resetDatabase } from './platform/migrate/db-reset.ts';
import { migrateDown } from './platform/migrate/down.ts';
import { migrate } from './platform/migrate/migrate.ts';
import { patienceOf } from './platform/migrate/patience.ts';
import { provisionScript } from './platform/migrate/provision-print.ts';
import { databaseStatus, summary } from './platform/migrate/status.ts';
import { onParentGone } from './platform/parent.ts';
import { loadSecrets } from './platform/secrets.ts';
import { runSql } from './platform/sql/runner.ts';
import { StartupError } from './platform/startup-error.ts';
import { findingsTable, migrationsTable, painter } from './platform/table.ts';
import { changeJobs, listJobs } from './worker/operate.ts';

const sayToPeople = (line: string) => process.stderr.write(`${line}\n`);
const say = sayToPeople;
/** Where nobody looks on, a step is one more record of the log. */
const record = (line: string) => log('info', 'progress', { line });
const print = (line: string) => process.stdout.write(`${line}\n`);

const NO_DATABASE = '3D000';

/** `stays`: as a server does, so that a command beside it joins its database instead of waiting for its end. */
async function withDatabase(
  work: (access: DatabaseAccess, config: Config) => Promise<void>,
  { stays = false } = {},
): Promise<void> {
  const config = loadConfig();
  const embedded = config.databaseUrl === undefined && config.environment !== 'production';
  const right = stays && embedded ? await claim(openDataDirectory(config.dataDirectory), 'server') : undefined;
  const access = await openDatabase(config, say, right && { claim: right });
  try {
    await work(access, config);
  } catch (error) {
    if (sqlstateOf(error) !== NO_DATABASE) throw explainServerError(error);
    throw new StartupError(`there is no database ${access.database} yet: npm run migrate:up makes it`, {
      cause: error,
    });
  } finally {
    await access.close();
    right?.release();
  }
}

const program = new Command('safetypin')
  .description('Command line of SafetyPin. With DATABASE_URL it works on that database, else on the embedded one.')
  .showHelpAfterError('(--help shows what there is)')
  .helpCommand(false);

program
  .command('migrate')
  .description('create or update roles, database, extensions, job queue, and run the migrations that are missing')
  .action(() =>
    withDatabase(async (access, config) => {
      await migrate(access, say, patienceOf(config));
      say(`database ${access.database} is up to date`);
    }),
  );

program
  .command('migrate:down')
  .description('take the last migration back, by its file under migrations/reverse')
  .option('-y, --yes', 'agree that taking back the first migration drops everything')
  .option('--force', 'also when that loses people and organizations')
  .action((options: { yes?: boolean; force?: boolean }) =>
    withDatabase((access, config) => migrateDown(access, say, { ...options, patience: patienceOf(config) })),
  );

program
  .command('status')
  .description('list the migrations; exits with 0 when all have run, 1 when some have not, 2 when others have')
  .option('--json', 'as JSON')
  .action((options: { json?: boolean }) =>
    withDatabase(async (access) => {
      const migrations = await databaseStatus(access);
      const { line, exitCode } = summary(migrations);
      if (options.json)
        print(JSON.stringify({ database: access.database, summary: line, exitCode, migrations }, null, 2));
      else print(`${migrationsTable(migrations, painter(process.stdout))}\n\n${line}`);
      process.exitCode = exitCode;
    }),
  );

program
  .command('provision')
  .description('print the SQL for an administrator who makes roles and database by hand')
  .option('--print', 'print it, which is all it does')
  .option('--user <name>', 'the login that DATABASE_URL will name', 'safetypin_migrator')
  .option('--with-passwords', "put in SCRAM verifiers of this installation's passwords")
  .action(async (options: { user: string; withPasswords?: boolean }) => {
    const config = loadConfig();
    const secrets = options.withPasswords ? loadSecrets(openDataDirectory(config.dataDirectory)) : undefined;
    print(await provisionScript({ database: databaseNamed(config.databaseUrl), user: options.user, secrets }));
  });

program
  .command('db:commit')
  .description('make a committed migration: of migrations/current.sql, or while that is empty, of sql/all.sql anew')
  .option('-m, --message <text>', 'what the migration does; becomes part of its name')
  .action((options: { message?: string }) =>
    withDatabase(async (access) => {
      say(`made ${await commitMigration(access, options.message, say)}`);
    }),
  );

program
  .command('db:reset')
  .description('ERASE the embedded database and build it anew')
  .option('-y, --yes', 'do not ask')
  .action(async (options: { yes?: boolean }) => {
    const confirm = async (loss: string) => {
      say(`WARNING: this erases ${loss}.`);
      return options.yes === true || (await confirmed());
    };
    await resetDatabase(loadConfig(), confirm, say);
    say('the database is new and up to date');
  });

program
  .command('sql')
  .description('run SQL as safetypin_owner, all of it in one transaction; - reads standard input')
  .argument('[file]')
  .option('-c, --command <sql>', 'run this text instead of a file')
  .option('--as-administrator', 'run as the administrator of the server, past row-level security')
  .action((file: string | undefined, options: { command?: string; asAdministrator?: boolean }) =>
    withDatabase(async (access, config) => {
      const { sql, name } = await readInput(file, options.command, config);
      const asAdministrator = options.asAdministrator ?? false;
      await runSql(access, { sql, name, asAdministrator, out: print, note: say });
    }),
  );

program
  .command('shell')
  .description('run SQL as a person, in a session of her own, every statement recorded; asks for the password')
  .requiredOption('--email <address>', 'who signs in')
  .option('--organization <name>', 'name or id of the organization to act in; without it the one acted in last')
  .option('-c, --command <sql>', 'run this text instead of what is typed')
  .option('-f, --file <file>', 'run a file instead')
  .option('--rows <n>', 'rows of a result that are shown', '1000')
  .action((options: { email: string; organization?: string; command?: string; file?: string; rows: string }) =>
    withDatabase(
      async (access, config) => {
        const { runShell } = await import('./shell/run.ts');
        const told = new AbortController();
        const end = () => told.abort();
        for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(name, end);
        // A defect ends the shell in order too: its session would be left open otherwise.
        for (const name of ['uncaughtException', 'unhandledRejection'] as const) {
          process.on(name, (error: unknown) => {
            // A second one, such as of saying the first, would go round in circles.
            if (told.signal.aborted) process.exit(1);
            told.abort();
            say(`safetypin: unexpected error: ${error instanceof Error ? error.stack : error}`);
          });
        }
        onParentGone(config.parent, end);
        const rows = Math.max(1, Number.parseInt(options.rows, 10) || 1000);
        process.exitCode = await runShell({ ...options, rows, config, access, signal: told.signal });
      },
      { stays: true },
    ),
  );

program
  .command('url')
  .description('print a connection string for psql and other tools. It holds a password')
  .addArgument(
    new Argument('[role]', 'who to connect as')
      .choices(['owner', 'admin', 'authenticator', 'jobs', 'auditor'])
      .default('owner'),
  )
  .action((role: 'owner' | 'admin' | 'authenticator' | 'jobs' | 'auditor') =>
    withDatabase(async (access) => {
      const admin = retarget(access.admin, access.database, role === 'owner' ? OWNER_OPTIONS : undefined);
      print(connectionUrl(role === 'owner' || role === 'admin' ? admin : access[role]));
    }),
  );

program
  .command('operations')
  .description(
    'make the folder for PERSISTED_OPERATIONS: a file by its SHA-256 for each .graphql file below another folder',
  )
  .argument('<from>', 'folder of .graphql files')
  .argument('<to>', 'folder to write, made if it is not there')
  .action((from: string, to: string) => {
    const { invokedFrom } = loadConfig();
    for (const { hash, file } of persistOperations(resolve(invokedFrom, from), resolve(invokedFrom, to))) {
      print(`${hash}  ${file}`);
    }
  });

program
  .command('doctor')
  .description('say what is wrong with this installation, one line each; exits with 1 when something is')
  .option('--json', 'as JSON')
  .action((options: { json?: boolean }) =>
    withDatabase(async (access, config) => {
      const findings = await examine(access, { pooled: config.databasePooled, schemas: config.schemas });
      print(options.json ? JSON.stringify(findings, null, 2) : findingsTable(findings, painter(process.stdout)));
      if (findings.some(({ level }) => level === 'wrong')) process.exitCode = 1;
    }),
  );

program
  .command('gaps')
  .description('say where rules do not hold, one line each with the SQL to run; exits with 1 when they have gaps')
  .option('--json', 'as JSON')
  .action((options: { json?: boolean }) =>
    withDatabase(async (access, config) => {
      const gaps = await findGaps(access, config.schemas);
      if (options.json) print(JSON.stringify(gaps, null, 2));
      else for (const gap of gaps) print(gapLine(gap));
      if (gaps.length > 0) process.exitCode = 1;
      else if (!options.json) say('every table is as its rules say');
    }),
  );

program
  .command('jobs')
  .description('list the jobs that failed; retry or drop them by id')
  .addArgument(new Argument('[what]').choices(['list', 'retry', 'drop']).default('list'))
  .argument('[ids...]')
  .action((what: 'list' | 'retry' | 'drop', ids: string[]) =>
    withDatabase((access) => (what === 'list' ? listJobs(access, print) : changeJobs(access, what, ids, print))),
  );

program
  .command('organizations')
  .description('list the organizations; suspend or resume one, or give it a plan, by its slug')
  .addArgument(new Argument('[what]').choices(['list', 'suspend', 'resume', 'plan']).default('list'))
  .argument('[slug]')
  .argument('[plan]', 'for plan: its name, see access.plans')
  .action((what: 'list' | 'suspend' | 'resume' | 'plan', slug?: string, plan?: string) =>
    withDatabase(async (access) => {
      const { changeOrganization, listOrganizations } = await import('./access/command.ts');
      const values = [slug, plan].filter((value) => value !== undefined);
      if (what === 'list') await listOrganizations(access, print);
      else await changeOrganization(access, what, values, print);
    }),
  );

const keys = program
  .command('keys')
  .description('show the key tree, its age and what is being done with it; see the commands below it')
  .action(() =>
    withDatabase(async (access, config) => {
      const { listKeys } = await import('./keyring/command.ts');
      await listKeys({ access, config, print, say });
    }),
  );

keys
  .command('rotate')
  .description('replace the root (the half of the database), the half of the application, or the transport key')
  .addArgument(new Argument('<level>').choices(['root', 'application', 'transport']))
  .action((level: 'root' | 'application' | 'transport') =>
    withDatabase(async (access, config) => {
      const { rotateKeys } = await import('./keyring/command.ts');
      await rotateKeys(level, { access, config, print, say });
    }),
  );

keys
  .command('new')
  .description('make a file with a half of the application for KEY_PROVIDER=file:…, for its owner alone')
  .argument('<file>', 'must not be there yet')
  .option('--after <file>', 'the file in use: the new one holds its half, and the next one to go over to')
  .action(async (file: string, options: { after?: string }) => {
    const { newKeyFile } = await import('./keyring/command.ts');
    const { invokedFrom } = loadConfig({ ...process.env, NODE_ENV: 'development' });
    const at = (path: string) => resolve(invokedFrom, path);
    await newKeyFile(at(file), options.after && at(options.after), say);
  });

keys
  .command('export')
  .description(
    'write the wrapped keys to a file: apart from the data, and of no use without the half of the application',
  )
  .argument('<file>', 'must not be there yet')
  .action((file: string) =>
    withDatabase(async (access, config) => {
      const { exportTo } = await import('./keyring/command.ts');
      await exportTo(resolve(config.invokedFrom, file), { access, config, print, say });
    }),
  );

keys
  .command('import')
  .description('take the keys of such a file into the database that made it, or a copy of it from a backup')
  .argument('<file>')
  .option('--erase', 'erase what the file does not have: people who were erased since the backup')
  .action((file: string, options: { erase?: boolean }) =>
    withDatabase(async (access, config) => {
      const { importFrom } = await import('./keyring/command.ts');
      await importFrom(resolve(config.invokedFrom, file), options.erase ?? false, { access, config, print, say });
    }),
  );

keys
  .command('work')
  .description('do what waits to be done with keys and sealed values, here, until nothing is left')
  .action(() =>
    withDatabase(async (access, config) => {
      const { workOnKeys } = await import('./keyring/command.ts');
      await workOnKeys({ access, config, print, say });
    }),
  );

program
  .command('worker')
  .description('run the jobs only, without the API, until Ctrl-C')
  .action(async () => {
    const lifetime = new Lifetime(say);
    lifetime.watch();
    await lifetime.run(async () => {
      const config = loadConfig();
      setUpLog(logOptions(config));
      const say = config.environment === 'production' ? record : sayToPeople;
      onParentGone(config.parent, () => lifetime.end(0));
      const provider = openProvider(config);
      // It stays, as a server does: a command beside it joins its database instead of waiting for its end.
      const embedded = config.databaseUrl === undefined && config.environment !== 'production';
      const right = embedded ? await claim(openDataDirectory(config.dataDirectory), 'server') : undefined;
      if (right) lifetime.own(right.release);
      const access = await openDatabase(config, say, { signal: lifetime.signal, ...(right && { claim: right }) });
      lifetime.own(access.close);
      void access.lost.then((why) => lifetime.fail(new StartupError(`${why}; start again to recover`)));
      await migrate(access, say, patienceOf(config));
      if (config.environment === 'production') await refuseUnsafe(access, config.databasePooled);
      lifetime.signal.throwIfAborted();
      const { startWorker } = await import('./worker/runner.ts');
      const keys = await readKeys(provider);
      const worker = await startWorker({ config, access, keys, say });
      lifetime.own(worker.close);
      say('worker is running; Ctrl-C stops it');
    });
  });

program
  .command('dev')
  .description('run the server, and again after each change of src, sql or migrations/current.sql, which it runs first')
  .action(async () => {
    const { develop } = await import('./platform/dev.ts');
    await develop(loadConfig(), say);
  });

async function readInput(file: string | undefined, command: string | undefined, config: Config) {
  if (command !== undefined) return { sql: command, name: 'command' };
  if (file === undefined) throw new StartupError('say which file to run, - for standard input, or -c "select 1"');
  if (file === '-') return { sql: await readAll(process.stdin), name: 'standard input' };
  try {
    return { sql: readFileSync(resolve(config.invokedFrom, file), 'utf8').replace(/^\uFEFF/, ''), name: file };
  } catch (error) {
    throw new StartupError(`${file} cannot be read: ${error instanceof Error ? error.message : error}`, {
      cause: error,
    });
  }
}

/** Asks a person; a script that calls this has decided already. */
async function confirmed(): Promise<boolean> {
  if (!process.stdin.isTTY) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  try {
    return /^y(es)?$/i.test((await terminal.question('Go on? [y/N] ')).trim());
  } finally {
    terminal.close();
  }
}

try {
  loadEnvironmentFile();
  await program.parseAsync();
} catch (error) {
  say(
    error instanceof StartupError
      ? `safetypin: ${error.message}`
      : String(error instanceof Error ? error.stack : error),
  );
  process.exitCode = 1;
}
