// `safetypin shell` as a process: fed through a pipe, or at a terminal of its own.
import { type ChildProcess, spawn } from 'node:child_process';
import { realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inject } from 'vitest';
import { projectRoot } from '../../src/config.ts';
import { connectionUrl } from '../../src/platform/connection.ts';
import type { Api, Member } from '../api/api.ts';
import { cleanEnvironment } from '../runtime/programs.ts';
import { whenFileEnds } from '../support/cleanup.ts';

/** Gives a data directory, by default that of an API, what a process needs to log in. */
export function shareSecrets({ config }: Api, directory = config.dataDirectory): void {
  writeFileSync(join(directory, 'secrets.json'), JSON.stringify(inject('cluster').passwords), {
    mode: 0o600,
  });
}

/** The environment of a command beside an API: its database and its keys. */
export const environmentBeside = ({ db, config }: Api): Record<string, string | undefined> => ({
  ...cleanEnvironment(),
  TERM: 'xterm',
  DATABASE_URL: connectionUrl(db.config('admin')),
  SAFETYPIN_DATA_DIR: realpathSync(config.dataDirectory),
});

const quoted = (word: string): string => `'${word.replaceAll("'", `'\\''`)}'`;

/** One running shell and what it has said so far. */
export class ShellProcess {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  out = '';
  err = '';

  private constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv) {
    this.child = spawn(command, args, { env, stdio: 'pipe', cwd: projectRoot });
    this.child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.out += text;
    });
    this.child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      this.err += text;
    });
    this.child.stdin?.on('error', () => {});
    this.ended = new Promise((resolve) => this.child.once('close', resolve));
    whenFileEnds(async () => {
      this.child.kill('SIGKILL');
      await this.ended;
    });
  }

  /** With pipes; the first line that is written is the password. */
  static piped(api: Api, args: readonly string[], env: Readonly<Record<string, string>> = {}): ShellProcess {
    const words = [join(projectRoot, 'src/cli.ts'), 'shell', ...args];
    return new ShellProcess(process.execPath, words, { ...environmentBeside(api), ...env });
  }

  /** At a pseudo-terminal, with a password that was typed: from there on all it says is in `out`. */
  static async atTerminal(api: Api, who: Member, home: string): Promise<ShellProcess> {
    const words = [process.execPath, join(projectRoot, 'src/cli.ts'), 'shell', '--email', who.email, '--rows', '20'];
    const command = `exec ${words.map(quoted).join(' ')}`;
    const shell = new ShellProcess('script', ['-qfec', command, '/dev/null'], {
      ...environmentBeside(api),
      HOME: home,
    });
    await shell.says(/Password of /);
    shell.type(`${who.password}\r`);
    await shell.says(/=> $/);
    return shell;
  }

  type(text: string): void {
    this.child.stdin?.write(text);
  }

  /** What it says from now on, until that matches. */
  async says(pattern: RegExp, from = 0): Promise<string> {
    for (const end = Date.now() + 20_000; Date.now() < end; await sleep(10)) {
      const text = plain(this.out.slice(from));
      if (pattern.test(text)) return text;
      if (this.child.exitCode !== null) break;
    }
    throw new Error(`did not say ${pattern}: ${this.out.slice(from)}\n--- stderr\n${this.err}`);
  }

  /** Types a line, and answers what came until the next prompt. */
  async ask(line: string, prompt = /(=[*!]?|-)> $/): Promise<string> {
    const from = this.out.length;
    this.type(`${line}\r`);
    return await this.says(prompt, from);
  }
}

/** Without what moves the cursor. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what a terminal obeys.
const plain = (text: string): string => text.replace(/\x1b\[[\d;?]*[A-Za-z]/g, '').replaceAll('\r\n', '\n');

/** A whole run through pipes. */
export async function runPiped(
  api: Api,
  who: { email: string; password: string },
  input: string,
  args: readonly string[] = [],
  env: Readonly<Record<string, string>> = {},
): Promise<{ code: number | null; out: string; err: string }> {
  const shell = ShellProcess.piped(api, ['--email', who.email, ...args], env);
  shell.child.stdin?.end(`${who.password}\n${input}`);
  return { code: await shell.ended, out: shell.out, err: shell.err };
}
