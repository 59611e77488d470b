import { getSystemErrorName } from 'node:util';
import { sqlstateOf } from '../platform/errors.ts';

/**
 * Why a job failed, in words that may be kept: graphile-worker writes message and stack into the job and the log, where
 * an address, a row's value or a mail server's answer has no place.
 */
export class JobFailure extends Error {
  override readonly name = 'JobFailure';
}

/** Any error as a JobFailure. Only codes survive. */
export function failureOf(error: unknown, doing: string): JobFailure {
  if (error instanceof JobFailure) return error;
  const sqlstate = sqlstateOf(error);
  const { code, errno, responseCode } = (typeof error === 'object' && error !== null ? error : {}) as Record<
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
  const failure = new JobFailure(`${doing}: ${codes.join(' ') || kind}`);
  // The stack's first line is the message; the rest are places in our code.
  failure.stack = `${failure.name}: ${failure.message}`;
  return failure;
}

/** What the operating system said, such as ECONNREFUSED: nodemailer and others put a code of their own in its place. */
function systemErrorOf(errno: unknown): string | null {
  try {
    return typeof errno === 'number' ? getSystemErrorName(errno) : null;
  } catch {
    return null;
  }
}
