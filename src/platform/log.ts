import pino from 'pino';
import { sqlstateOf } from './errors.ts';
import { type LogLevel, oneLine, readable, redacted } from './log-line.ts';

/** What a line may say: names and numbers of ours. Values of people have no place in any of them. */
export type LogFields = Readonly<Record<string, string | number | boolean | null | undefined | readonly string[]>>;

export interface LogOptions {
  readonly level: LogLevel;
  /** Lines for a person instead of JSON. Defaults to false. */
  readonly readable?: boolean;
}

/** Lines wait this long, so that many are written at once; what is wrong is written at once. */
const WAIT_MILLISECONDS = 100;
const WAITING_CHARACTERS = 16_384;

let waiting = '';
let timer: NodeJS.Timeout | undefined;

/** Writes what waits. At the end of the process this happens by itself. */
export function flushLog(): void {
  clearTimeout(timer);
  timer = undefined;
  if (waiting === '') return;
  const lines = waiting;
  waiting = '';
  process.stderr.write(lines);
}

function enqueue(line: string): void {
  waiting += line;
  if (waiting.length >= WAITING_CHARACTERS) flushLog();
  else timer ??= setTimeout(flushLog, WAIT_MILLISECONDS).unref();
}

process.on('exit', flushLog);

function create({ level, readable: forPeople = false }: LogOptions): pino.Logger {
  const write = forPeople ? (line: string) => enqueue(readable(line)) : (line: string) => enqueue(oneLine(line));
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }), log: redacted },
    },
    { write },
  );
}

/** What the settings say: lines for a person where one looks on in development, else JSON. */
export const logOptions = (config: { readonly logLevel: LogLevel; readonly environment: string }): LogOptions => ({
  level: config.logLevel,
  readable: config.environment !== 'production' && process.stderr.isTTY === true,
});

// Until a program has read its settings, and in tests, only what is wrong is told.
let logger = create({ level: 'warn' });

/** Sets what the process logs. Called once by each program. */
export function setUpLog(options: LogOptions): void {
  flushLog();
  logger = create(options);
}

/** Whether a line of this level would be written: to spare the work of making it. */
export const isLogged = (level: Exclude<LogLevel, 'silent'>): boolean => logger.isLevelEnabled(level);

/** One line: `event` is its name, the fields are what is known. */
export function log(level: Exclude<LogLevel, 'silent'>, event: string, fields: LogFields = {}): void {
  logger[level]({ event, ...fields });
  if (level === 'error') flushLog();
}

const LINES_PER_SECOND = 20;

/** Lets so many lines a second pass and counts the rest, so that a flood cannot fill the disk. */
export class Bounded {
  #second = 0;
  #written = 0;
  #suppressed = 0;

  /** Logs, or leaves it out; the next line says how many were. */
  log(level: Exclude<LogLevel, 'silent'>, event: string, fields: LogFields): void {
    const now = Math.floor(Date.now() / 1000);
    if (now !== this.#second) {
      this.#second = now;
      this.#written = 0;
    }
    if (this.#written >= LINES_PER_SECOND) {
      this.#suppressed += 1;
      return;
    }
    this.#written += 1;
    log(level, event, this.#suppressed > 0 ? { ...fields, suppressed: this.#suppressed } : fields);
    this.#suppressed = 0;
  }
}

/** One fault as it is logged: never a message, a detail, SQL text or a value, because all of them can hold personal data. */
export interface FaultLine {
  readonly requestId: string;
  readonly sqlstate: string | null;
  readonly kind: string;
  readonly where: string;
  readonly frames: readonly string[];
}

const FRAMES = 6;

/** A place in code. */
const FRAME = /^\s+at (?:(?:async |new )*[\w$.<># [\]]{1,100} \()?(?:file:\/\/|node:)?[\w./@:+-]{1,300}:\d+:\d+\)?$/;

/** Source positions of a stack behind its message, which can hold lines that look like one. */
function framesOf(error: unknown): string[] {
  if (!(error instanceof Error) || typeof error.stack !== 'string') return [];
  const { stack, message } = error;
  const behind = message === '' ? 0 : stack.indexOf(message) + message.length;
  // A message that was changed since is not in the stack, and another one is: its lines cannot be told from frames.
  if (behind < message.length) return [];
  const lines = stack.slice(behind).split('\n');
  const frames = lines.filter((line) => FRAME.test(line)).slice(0, FRAMES);
  return frames.map((line) => line.trim().replace(/\(?file:\/\/\/?/, '(/'));
}

/** Describes an error for the log. `where` is a GraphQL path or a route, both made of names from our own schema. */
export function describeFault(error: unknown, requestId: string, where: string): FaultLine {
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  return { requestId, sqlstate: sqlstateOf(error), kind, where: where.slice(0, 200), frames: framesOf(error) };
}

const faults = new Bounded();

/** One line of level error, written at once and bounded. */
export const logFault = (line: FaultLine): void => faults.log('error', 'fault', { ...line });
