import { getSystemErrorName } from 'node:util';
import { sqlstateOf } from '../platform/errors.ts';

/**
 * Why a job failed, in words that may be kept: graphile-worker writes message and stack into the job and the log, where
 * an address, a row's value or a mail server's answer has no place.
 */
export class JobFailure extends Error {
  override readonly name = 'JobFailure';
  /** `final`: trying again cannot help. `stopped`: the worker broke it off, and the try does not count. */
  readonly kind: 'again' | 'final' | 'stopped';

  constructor(message: string, kind: JobFailure['kind'] = 'again') {
    super(message);
    this.kind = kind;
  }
}

/** The job was made by hand (CTXJB), who asked for it may not any more (CTXRV), or what it is about was erased (KEYER). */
const FINAL_SQLSTATES = new Set(['CTXJB', 'CTXRV', 'KEYER']);

/** RFC 4954: the mail server wants another sign-in from us. That is a setting of ours and says nothing of the mail. */
const SIGN_IN_REPLIES = new Set([530, 534, 535, 538]);

/** Any error as a JobFailure. Only codes survive. */
export function failureOf(error: unknown, doing: string): JobFailure {
  if (error instanceof JobFailure) return error;
  const sqlstate = sqlstateOf(error);
  const { code, errno, responseCode, command } = (typeof error === 'object' && error !== null ? error : {}) as Record<
    string,
    unknown
  >;
  const kind = error instanceof Error ? error.constructor.name : typeof error;
  const known = [
    systemErrorOf(errno),
    sqlstate,
    typeof code === 'string' && /^[A-Z][A-Z0-9_]{2,40}$/.test(code) ? code : null,
    responseCode,
  ];
  const codes = [...new Set(known.filter((part) => typeof part === 'string' || typeof part === 'number'))];
  const final = (sqlstate !== null && FINAL_SQLSTATES.has(sqlstate)) || isRefusal(responseCode, command);
  const failure = new JobFailure(`${doing}: ${codes.join(' ') || kind}`, final ? 'final' : 'again');
  // The stack's first line is the message; the rest are places in our code.
  failure.stack = `${failure.name}: ${failure.message}`;
  return failure;
}

/** A mail server refused this recipient or this text for good (RFC 5321: 5yz), not our connection, sender or sign-in. */
function isRefusal(reply: unknown, command: unknown): boolean {
  return (
    typeof reply === 'number' &&
    reply >= 500 &&
    reply < 600 &&
    !SIGN_IN_REPLIES.has(reply) &&
    (command === 'RCPT TO' || command === 'DATA')
  );
}

/** What the operating system said, such as ECONNREFUSED: nodemailer and others put a code of their own in its place. */
function systemErrorOf(errno: unknown): string | null {
  try {
    return typeof errno === 'number' ? getSystemErrorName(errno) : null;
  } catch {
    return null;
  }
}
