// What worker tests share: a database with an application beside it, and workers in this process or in one of their own.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { inject, onTestFinished } from 'vitest';
import { loadConfig } from '../../src/config.ts';
import { startWorker } from '../../src/worker/runner.ts';
import type { Application } from '../support/actors.ts';
import type { TestDatabase } from '../support/database.ts';
import type { WorkerProcess } from '../support/worker-process.ts';

const PUBLIC_URL = 'https://id.example.org';

/** A worker in this process. `lines` is what it said. */
export async function workerHere(app: Application, environment: Record<string, string> = {}) {
  const lines: string[] = [];
  const worker = await startWorker({
    config: loadConfig({ NODE_ENV: 'test', PUBLIC_URL, ...environment }),
    access: app.db.access,
    keys: app.keys,
    say: (line) => lines.push(line),
  });
  onTestFinished(worker.close);
  return { lines, close: worker.close };
}

/** A worker in a process of its own, which is starting. */
export function spawnWorker(db: TestDatabase, keys: string, environment: Record<string, string>): ChildProcess {
  const told: WorkerProcess = {
    cluster: inject('cluster'),
    database: db.name,
    keys,
    environment: { NODE_ENV: 'test', PUBLIC_URL, ...environment },
  };
  const script = fileURLToPath(new URL('../support/worker-process.ts', import.meta.url));
  const child = spawn(process.execPath, [script, JSON.stringify(told)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => killHard(child));
  return child;
}

/** A worker in a process of its own, ready for work. */
export async function workerApart(
  db: TestDatabase,
  keys: string,
  environment: Record<string, string>,
): Promise<ChildProcess> {
  const child = spawnWorker(db, keys, environment);
  await new Promise<void>((resolve, reject) => {
    const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream });
    lines.on('line', (line) => line === 'ready' && resolve());
    child.once('exit', (code) => reject(new Error(`the worker ended with ${code}`)));
  });
  return child;
}

/** Kills it as the kernel would, and waits until it is gone. */
export async function killHard(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGKILL');
  await gone;
}

/** Waits for something to become true; says what when it does not. */
export async function until(what: string, condition: () => boolean | Promise<boolean>, seconds = 20): Promise<void> {
  for (const end = Date.now() + seconds * 1000; Date.now() < end; ) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new Error(`waited ${seconds} s in vain until ${what}`);
}

/** The token in the link of a mail. */
export function tokenOf(text: string): Buffer {
  return Buffer.from(/\/api\/auth\/[a-z-]+\/([\w-]{20,})/.exec(text)?.[1] ?? '', 'base64url');
}
