// Opens what a shell needs, reads what it is to run, and closes everything however it ends.
import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import type { Config } from '../config.ts';
import { createRequests } from '../graphql/adaptor.ts';
import { nobody } from '../http/request.ts';
import { createPasswordHasher } from '../identity/password.ts';
import { readKeys } from '../keyring/application-keys.ts';
import { EnvelopeSealer } from '../keyring/envelope.ts';
import { openProvider } from '../keyring/provider.ts';
import type { DatabaseAccess } from '../platform/access.ts';
import { retarget } from '../platform/connection.ts';
import { type RegisterRow, sqlstateOf } from '../platform/errors.ts';
import { splitStatements } from '../platform/sql/statements.ts';
import { StartupError } from '../platform/startup-error.ts';
import { gatherActivity } from '../sessions/activity.ts';
import { AccessTokens } from '../sessions/tokens.ts';
import { Executor } from './executor.ts';
import { Line } from './line.ts';
import { Operator } from './operator.ts';
import { askHidden } from './password.ts';
import { harmless, Shell } from './shell.ts';
import { type Ready, Statements } from './statements.ts';
import { Terminal } from './terminal.ts';

export interface ShellCommand {
  readonly config: Config;
  readonly access: DatabaseAccess;
  readonly email: string;
  readonly organization?: string | undefined;
  /** SQL to run instead of what is typed. */
  readonly command?: string | undefined;
  readonly file?: string | undefined;
  /** Rows of a result that are shown. */
  readonly rows: number;
  /** Told to end: by a signal, or because who started it is gone. */
  readonly signal: AbortSignal;
}

const out = (text: string): void => void process.stdout.write(`${text}\n`);
const note = (text: string): void => void process.stderr.write(`${text}\n`);

/** Runs a shell to its end and answers the exit code. */
export async function runShell(o: ShellCommand): Promise<number> {
  outliveTerminal();
  const script = o.file === undefined ? undefined : readScript(o.config, o.file);
  const isTyped = process.stdin.isTTY === true;
  // A script's first line is the password; the rest is what it runs.
  const input = isTyped ? undefined : createInterface({ input: process.stdin, crlfDelay: Number.POSITIVE_INFINITY });
  const lines = input?.[Symbol.asyncIterator]();
  const password = isTyped
    ? await askHidden(`Password of ${harmless(o.email)}: `, {
        input: process.stdin,
        output: process.stderr,
        signal: o.signal,
      })
    : (await lines?.next())?.value;
  if (!password) {
    input?.close();
    throw new StartupError('no password: it is typed, or is the first line of standard input');
  }
  const place = await openPlace(o);
  try {
    const signIn = { email: o.email, password, organization: o.organization };
    const operator = await Operator.signIn(place.tools, place.activity, signIn).catch((error) => {
      throw signInProblem(error);
    });
    const line = new Line(place.direct(operator.requestSeconds), (severity, message) =>
      note(harmless(`${severity}: ${message}`)),
    );
    const executor = new Executor({ line, operator, sealer: place.sealer, limit: o.rows, note });
    const text = o.command ?? script;
    const name = o.command !== undefined ? 'command' : (o.file ?? (isTyped ? 'statement' : 'standard input'));
    const shell = new Shell({ executor, out, note, register: place.register, name });
    const onAbort = (): void => {
      executor.cancel();
      input?.close();
    };
    o.signal.addEventListener('abort', onAbort);
    try {
      if (text !== undefined) return await runScript(shell, o.signal, ofText(text));
      if (lines !== undefined) return await runScript(shell, o.signal, ofLines(lines));
      const terminal = new Terminal({ shell, executor, note, prompt: promptOf(o.email, operator.organization) });
      return await terminal.run(o.signal);
    } finally {
      o.signal.removeEventListener('abort', onAbort);
      if (executor.transaction !== 'none') note('the open transaction was rolled back');
      await line.close();
      // A session that was revoked has ended already; a database that is gone ends it when its time is over.
      await operator.end().catch(() => {});
    }
  } finally {
    input?.close();
    await place.close();
  }
}

/**
 * A terminal that is closed is told by a signal. Until that has come, neither what is written to it nor its mode, which
 * readline sets when it closes, may end the process: the session would be left open.
 */
function outliveTerminal(): void {
  const { stdin, stdout, stderr } = process;
  for (const stream of [stdin, stdout, stderr]) stream.on('error', () => {});
  if (!stdin.isTTY) return;
  const setRawMode = stdin.setRawMode.bind(stdin);
  stdin.setRawMode = (isRaw) => {
    try {
      return setRawMode(isRaw);
    } catch {
      return stdin;
    }
  };
}

async function openPlace({ config, access }: ShellCommand) {
  const pool = new pg.Pool({
    ...access.authenticator,
    pipeline: true,
    max: 2,
    connectionTimeoutMillis: 5000,
    application_name: 'safetypin-shell-record',
  } as pg.PoolConfig);
  pool.on('error', () => {});
  try {
    const provider = openProvider(config);
    const keys = await readKeys(provider);
    const sealer = new EnvelopeSealer(pool, keys);
    const requests = createRequests({ pool, sealer, statementNames: config.databasePooled ? 0 : 100 });
    const bound = await requests
      .inRequest(nobody(), (client) =>
        client.query<{ bound: boolean }>({ text: 'select keyring.bind_application() as bound' }),
      )
      .catch((error) => {
        throw signInProblem(error);
      });
    if (bound.rows[0]?.bound !== true) {
      throw new StartupError(`the application's key (${provider.name}) is not the one this database was made with`);
    }
    const { rows } = await pool.query<RegisterRow>('select sqlstate, code, message from platform.errors');
    const register = new Map(rows.map(({ sqlstate, ...known }) => [sqlstate, known]));
    const tokens = await AccessTokens.open({ dataDirectory: config.dataDirectory, issuer: config.publicUrl });
    const tools = { requests, tokens, hasher: createPasswordHasher(), refreshKey: keys.derive('refresh') };
    // Waiting for a person to type is no mistake until the request is over anyway.
    const direct = (seconds: number): pg.ClientConfig => ({
      ...retarget(access.jobs, access.database, `-c idle_in_transaction_session_timeout=${seconds}s`),
      user: access.authenticator.user,
      password: access.authenticator.password,
      keepAlive: true,
      application_name: 'safetypin-shell',
    });
    // A failure to note a use is made good by the next one.
    const activity = gatherActivity(pool, () => {});
    const close = async (): Promise<void> => {
      await activity.close();
      await pool.end();
    };
    return { tools, sealer, register, direct, activity, close };
  } catch (error) {
    await pool.end();
    throw error;
  }
}

/** What went wrong before there was a session, for people. */
function signInProblem(error: unknown): unknown {
  const code = sqlstateOf(error);
  if (code === null || error instanceof StartupError) return error;
  return new StartupError(`signing in failed: ${code}: ${(error as Error).message}`, { cause: error });
}

function readScript(config: Config, file: string): string {
  try {
    return readFileSync(resolve(config.invokedFrom, file), 'utf8').replace(/^\uFEFF/, '');
  } catch (cause) {
    throw new StartupError(`${file} cannot be read: ${cause instanceof Error ? cause.message : cause}`, { cause });
  }
}

async function* ofText(text: string): AsyncGenerator<Ready> {
  for (const { text: statement, offset } of splitStatements(text)) {
    yield { text: statement, line: text.slice(0, offset).split('\n').length - 1 };
  }
}

async function* ofLines(lines: AsyncIterableIterator<string>): AsyncGenerator<Ready> {
  const statements = new Statements(1);
  for await (const line of lines) yield* statements.add(line);
  yield* statements.rest();
}

/** All of it, or up to what fails: the exit code says which. */
async function runScript(shell: Shell, signal: AbortSignal, script: AsyncGenerator<Ready>): Promise<number> {
  try {
    for await (const ready of script) {
      if (signal.aborted) break;
      const became = await shell.run(ready);
      if (became === 'quit') return 0;
      if (became !== 'done') return 1;
    }
  } catch (error) {
    note(`safetypin: ${error instanceof Error ? error.message : error}`);
    return 1;
  }
  return signal.aborted ? 1 : 0;
}

/** ada@Clinic, as far as a line has room for it. */
function promptOf(email: string, organization: string | null): string {
  const who = email.split('@')[0] ?? '';
  return harmless(organization === null ? who : `${who}@${[...organization].slice(0, 30).join('')}`);
}
