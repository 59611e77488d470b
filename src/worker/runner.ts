// The worker: graphile-worker under safetypin_jobs, with connections of its own, until it is closed.
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ParsedCronItem, type Runner, run, type TaskList, type WorkerEvents } from 'graphile-worker';
import pg from 'pg';
import { txtLookup } from '../access/dns.ts';
import { domainTasks } from '../access/tasks.ts';
import type { Config } from '../config.ts';
import type { ApplicationKeys } from '../keyring/application-keys.ts';
import { EnvelopeSealer } from '../keyring/envelope.ts';
import { mailTask } from '../mail/tasks.ts';
import { openTransport } from '../mail/transport.ts';
import { tracerFor } from '../observe/trace.ts';
import type { DatabaseAccess } from '../platform/access.ts';
import type { Say } from '../platform/connection.ts';
import { JobFailure } from './failure.ts';
import type { JobTools } from './job.ts';
import { FailureLog, workerLogger } from './log.ts';
import { believeTheTable } from './notifications.ts';
import { Presence } from './presence.ts';
import { cronItems, scheduledTasks } from './schedule.ts';
import { watchStuck } from './stuck.ts';
import { traced } from './trace.ts';
import { withTries } from './tries.ts';

export interface WorkerOptions {
  readonly config: Config;
  readonly access: DatabaseAccess;
  readonly keys: ApplicationKeys;
  readonly say: Say;
}

export const CONCURRENCY = 4;
/** How long a job may go on after the worker was told to stop. */
const GRACE = 2_000;
/** After that the worker leaves it: its lock ends with our connection. */
const PATIENCE = 4_000;
const LONGEST_PAUSE = 30_000;

/** Runs jobs until `close()`. Comes back by itself when the database was away. */
export async function startWorker(o: WorkerOptions): Promise<{ close(): Promise<void> }> {
  const pool = new pg.Pool({ ...o.access.jobs, max: CONCURRENCY + 3, application_name: 'safetypin worker pool' });
  pool.on('error', () => {});
  pool.on('connect', (client) => client.on('error', () => {}));
  await believeTheTable(pool);
  const transport = openTransport(o.config);
  const tools: JobTools = { pool, envelopes: new EnvelopeSealer(pool, o.keys) };
  const tracer = await tracerFor(o.config.tracesUrl, 'safetypin-worker');
  const known: TaskList = {
    mail__send: mailTask(tools, transport, o.config.publicUrl),
    ...domainTasks(tools, txtLookup(o.config)),
    ...scheduledTasks(tools),
  };
  const tasks = withTries(traced(known, tracer), pool);
  const closing = new AbortController();
  const say = (line: string) => {
    if (!closing.signal.aborted) o.say(line);
  };
  let current = await startRun(o.access.jobs, pool, tasks, say);
  const supervision = (async () => {
    for (let pause = 1_000; ; pause = Math.min(2 * pause, LONGEST_PAUSE)) {
      await current.ended;
      if (closing.signal.aborted) return;
      say(`worker: stopped by itself, starts again in ${pause / 1000} s`);
      await sleep(pause, undefined, { signal: closing.signal }).catch(() => {});
      if (closing.signal.aborted) return;
      const next = await startRun(o.access.jobs, pool, tasks, say).catch(() => undefined);
      if (next) [current, pause] = [next, 1_000];
    }
  })();
  const end = async () => {
    closing.abort();
    const stopped = Promise.all([current.stop(), supervision]);
    await Promise.race([stopped, sleep(PATIENCE, undefined, { ref: false })]);
    transport.close();
    await tracer?.close();
    await Promise.race([pool.end(), sleep(1_000, undefined, { ref: false })]);
  };
  let ended: Promise<void> | undefined;
  return {
    close() {
      ended ??= end();
      return ended;
    },
  };
}

export interface Run {
  /** Settles when the runner is over, for whatever reason. */
  readonly ended: Promise<void>;
  stop(): Promise<void>;
}

/** Takes jobs of these tasks until it is stopped. */
export async function startRun(
  login: pg.ClientConfig,
  pool: pg.Pool,
  taskList: TaskList,
  say: Say,
  parsedCronItems: ParsedCronItem[] = cronItems,
): Promise<Run> {
  const presence = new Presence(login);
  await presence.start();
  const events = new EventEmitter() as WorkerEvents;
  const failures = new FailureLog(say);
  events.on('job:error', ({ job, error }) => {
    const message = error instanceof Error ? error.message : 'unknown';
    const kind = error instanceof JobFailure ? error.kind : 'again';
    failures.failed(job.task_identifier, job.attempts, kind === 'final' ? job.attempts : job.max_attempts, message);
  });
  events.on('job:start', ({ job }) => presence.began(job.id));
  events.on('job:complete', ({ job }) => presence.over(job.id));
  const named = new Promise<string>((resolve) => events.on('pool:create', ({ workerPool }) => resolve(workerPool.id)));
  let runner: Runner;
  try {
    runner = await run({
      pgPool: pool,
      taskList,
      parsedCronItems,
      concurrency: CONCURRENCY,
      noHandleSignals: true,
      gracefulShutdownAbortTimeout: GRACE,
      logger: workerLogger(say),
      events,
    });
    const taken = runner;
    watchStuck(
      events,
      () => presence.answered,
      () => void taken.stop().catch(() => {}),
    );
    await presence.named(await named);
  } catch (error) {
    await presence.close();
    throw error;
  }
  const ended = runner.promise.catch(() => {}).finally(() => presence.close());
  return {
    ended,
    stop: async () =>
      void (await runner.stop().then(
        () => ended,
        () => ended,
      )),
  };
}
