// `npm run dev`: the server, started again after each change, and migrations/current.sql run before that.
import { type ChildProcess, spawn } from 'node:child_process';
import { watch } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Config, projectRoot } from '../config.ts';
import { openDatabase } from './access.ts';
import type { Say } from './connection.ts';
import { Lifetime } from './lifetime.ts';
import { composeCurrent } from './migrate/db-commit.ts';
import { onParentGone } from './parent.ts';
import { runSql } from './sql/runner.ts';
import { splitStatements } from './sql/statements.ts';

const SETTLE = 200; // an editor saves in several steps, and a checkout touches many files

/** Runs until it is told to end. A change that fails is told and leaves the server as it was. */
export async function develop(config: Config, say: Say): Promise<void> {
  const lifetime = new Lifetime(say);
  lifetime.watch();
  onParentGone(config.parent, () => lifetime.end(0));
  await lifetime.run(async () => {
    const server = new Server(say);
    lifetime.own(() => server.stop());
    server.start();
    let last = '';
    let work = Promise.resolve();
    let timer: NodeJS.Timeout | undefined;
    const changed = () => {
      clearTimeout(timer);
      timer = setTimeout(() => {
        work = work.then(async () => {
          const current = await composeCurrent().catch((error: unknown) => tell(error, say));
          const another = current !== undefined && current !== last && splitStatements(current).length > 0;
          if (another && !(await runCurrent(config, current, say))) return;
          last = current ?? last;
          await server.stop();
          if (!lifetime.signal.aborted) server.start();
        });
      }, SETTLE);
    };
    for (const folder of ['src', 'sql', 'migrations']) {
      const watcher = watch(join(projectRoot, folder), { recursive: true }, changed);
      lifetime.own(() => watcher.close());
    }
  });
}

function tell(error: unknown, say: Say): undefined {
  say(error instanceof Error ? error.message : String(error));
}

/** Runs the change in hand as owner; the server beside us has the database open. */
async function runCurrent(config: Config, sql: string, say: Say): Promise<boolean> {
  try {
    const access = await openDatabase(config, say);
    try {
      await runSql(access, { sql, name: 'migrations/current.sql', out: () => {}, note: say });
      say('migrations/current.sql has run');
      return true;
    } finally {
      await access.close();
    }
  } catch (error) {
    tell(error, say);
    return false;
  }
}

class Server {
  readonly #say: Say;
  #child: ChildProcess | undefined;

  constructor(say: Say) {
    this.#say = say;
  }

  start(): void {
    const child = spawn(process.execPath, [join(projectRoot, 'src/main.ts')], { cwd: projectRoot, stdio: 'inherit' });
    this.#child = child;
    child.once('exit', (code) => {
      if (this.#child !== child) return;
      this.#child = undefined;
      this.#say(`the server ended (${code}); it starts again after the next change`);
    });
  }

  async stop(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#child = undefined;
    const gone = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGTERM');
    await Promise.race([gone, sleep(15_000).then(() => child.kill('SIGKILL'))]);
    await gone;
  }
}
