import { sqlstateOf } from './errors.ts';

/** One fault as it is logged: never a message, a detail, SQL text or a value, because all of them can hold personal data. */
export interface FaultLine {
  readonly requestId: string;
  readonly sqlstate: string | null;
  readonly kind: string;
  readonly where: string;
  readonly frames: readonly string[];
}

const FRAMES = 6;
const LINES_PER_SECOND = 20;

let second = 0;
let written = 0;
let suppressed = 0;

/** Source positions of a stack without its first line: that one is the message. */
function framesOf(error: unknown): string[] {
  if (!(error instanceof Error) || typeof error.stack !== 'string') return [];
  const lines = error.stack.split('\n').filter((line) => /^\s+at /.test(line));
  return lines.slice(0, FRAMES).map((line) => line.trim().replace(/\(?file:\/\/\/?/, '(/'));
}

/** Describes an error for the log. `where` is a GraphQL path or a route, both made of names from our own schema. */
export function describeFault(error: unknown, requestId: string, where: string): FaultLine {
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  return { requestId, sqlstate: sqlstateOf(error), kind, where: where.slice(0, 200), frames: framesOf(error) };
}

/** One JSON line on stderr. Bounded, so that a flood of faults cannot fill the disk; the next line says how many were left out. */
export function logFault(line: FaultLine): void {
  const now = Math.floor(Date.now() / 1000);
  if (now !== second) {
    second = now;
    written = 0;
  }
  if (written >= LINES_PER_SECOND) {
    suppressed += 1;
    return;
  }
  written += 1;
  const entry = {
    time: new Date().toISOString(),
    level: 'error',
    event: 'fault',
    ...line,
    ...(suppressed > 0 ? { suppressed } : {}),
  };
  suppressed = 0;
  process.stderr.write(`${JSON.stringify(entry)}\n`);
}
