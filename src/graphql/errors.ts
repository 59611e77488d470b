import { isSafeError } from 'postgraphile/grafast';
import { GraphQLError } from 'postgraphile/graphql';
import { AppError } from '../platform/app-error.ts';
import { type ErrorRegister, type SafeFault, SQLSTATE } from '../platform/errors.ts';
import type { RequestSource } from './adaptor.ts';

/** What became of an error: what the client gets, and the fault to log and record if it was one of ours. */
export interface MaskedError {
  readonly error: GraphQLError;
  readonly fault: { readonly cause: unknown; readonly where: string } | null;
}

const INVALID_VARIABLE = /^Variable "\$(\w+)" got invalid value /;
/** Endings of GraphQL's messages about input that hold names from the schema and no value of the client's. */
const NAMES_ONLY =
  /(Field "\w+" is not defined by type "\w+"|Field "[\w.]+" of required type "[\w![\]]+" was not provided|Expected (?:non-nullable )?type "[\w![\]]+" not to be null)/;

/**
 * GraphQL's messages about variables quote the value, and values hold passwords. Only the name of the variable and what
 * is known from the schema are kept.
 */
export function withoutValues(message: string): string {
  const variable = INVALID_VARIABLE.exec(message)?.[1];
  if (variable !== undefined) {
    const about = message.split('; ').at(-1) ?? '';
    const named = NAMES_ONLY.exec(about)?.[1];
    return named === undefined ? `Variable "$${variable}" has an invalid value.` : `Variable "$${variable}": ${named}.`;
  }
  return message.replace(/ cannot represent [\s\S]*$/, ' cannot represent that value.');
}

function rebuilt(error: GraphQLError, message: string, extensions: Record<string, unknown>): GraphQLError {
  const { nodes = null, source = null, positions = null, path = null } = error;
  return new GraphQLError(message, { nodes, source, positions, path, extensions });
}

/** A GraphQL path of names, without the positions in lists. */
const pathOf = (error: GraphQLError): string =>
  `graphql:${(error.path ?? []).filter((part) => typeof part === 'string').join('.')}`;

/** Errors of Grafast that were made to be shown: timeouts, and cursors that are none. */
function explainSafe(cause: Error): SafeFault {
  const isTimeout = /timeout/i.test(cause.message);
  return isTimeout
    ? { code: 'TIMEOUT', status: 503, message: 'That took too long.', expected: true }
    : { code: 'BAD_INPUT', status: 400, message: cause.message, expected: true };
}

const MISSING = new AppError(SQLSTATE.notFound, 'nothing was written');

/** What PostGraphile says of a row to delete that is not there, or is somebody else's: to whoever asks it is the same. */
const isMissing = (cause: unknown): boolean =>
  cause instanceof Error && /^No values were deleted in collection /.test(cause.message);

/** Turns any error of an execution into what a client may see. Nothing of PostgreSQL gets through but the register's sentence. */
export function maskError(register: ErrorRegister, error: GraphQLError, source: RequestSource): MaskedError {
  const { requestId, credential } = source;
  const cause = error.originalError ?? undefined;
  const told = (code: string, message: string): MaskedError => ({
    error: rebuilt(error, message, { code, requestId }),
    fault: null,
  });
  const own = cause instanceof GraphQLError ? cause : error;
  if (typeof own.extensions.code === 'string' && register.has(own.extensions.code))
    return told(own.extensions.code, own.message);
  // Without a path the request itself was refused: variables that do not fit, an operation that is not there.
  if (cause === undefined && error.path === undefined) return told('BAD_INPUT', withoutValues(error.message));
  if (cause instanceof GraphQLError) return told('BAD_INPUT', withoutValues(error.message));
  const fault =
    cause instanceof Error && isSafeError(cause)
      ? explainSafe(cause)
      : register.explain(isMissing(cause) ? MISSING : cause, credential === null);
  const masked = told(fault.code, fault.message);
  return fault.expected ? masked : { ...masked, fault: { cause: cause ?? error, where: pathOf(error) } };
}
