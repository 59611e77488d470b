/**
 * The one error register. SQLSTATE is the key everywhere: what PostgreSQL raises, what our SQL raises and what
 * TypeScript throws on purpose are all looked up in the table platform.errors, which is read once at start.
 */

/** What a client may learn of an error. Everything else stays inside. */
export interface SafeFault {
  /** Stable upper-case code, `extensions.code` in GraphQL and `meta.code` over REST. */
  readonly code: string;
  /** HTTP status of the REST door. */
  readonly status: number;
  readonly message: string;
  /** False is a fault of ours (status 500 or not in the register): it is logged and recorded. */
  readonly expected: boolean;
}

/** A row of platform.errors. */
export interface RegisterRow {
  readonly sqlstate: string;
  readonly code: string;
  readonly http_status: number;
  readonly message: string;
}

/** SQLSTATEs that TypeScript raises itself. Their meaning for the client stands in the register like any other. */
export const SQLSTATE = {
  unauthenticated: 'AUTHN',
  forbidden: '42501',
  notFound: 'NTFND',
  limit: 'LIMIT',
  keyUnavailable: 'KEYNO',
  malformedText: '22021',
  overloaded: '53300',
  busy: '55P03',
  canceled: '57014',
  transactionAborted: '25P02',
  unreachable: '57P03',
} as const;

const INTERNAL: SafeFault = {
  code: 'INTERNAL',
  status: 500,
  message: 'Something went wrong on our side. It has been recorded.',
  expected: false,
};

/** Needed before the register was read, and for a database that is older than this code. Rows of the table win. */
const BUILT_IN: readonly RegisterRow[] = [
  { sqlstate: SQLSTATE.unauthenticated, code: 'UNAUTHENTICATED', http_status: 401, message: 'Please sign in.' },
  { sqlstate: SQLSTATE.malformedText, code: 'BAD_INPUT', http_status: 400, message: 'The input is not valid.' },
  {
    sqlstate: SQLSTATE.notFound,
    code: 'NOT_FOUND',
    http_status: 404,
    message: 'There is no such thing here.',
  },
  {
    sqlstate: SQLSTATE.limit,
    code: 'LIMIT_EXCEEDED',
    http_status: 429,
    message: 'That is over a limit. Please try again later.',
  },
  {
    sqlstate: SQLSTATE.unreachable,
    code: 'UNAVAILABLE',
    http_status: 503,
    message: 'The service is not available. Please try again.',
  },
  {
    sqlstate: SQLSTATE.overloaded,
    code: 'TRY_AGAIN',
    http_status: 503,
    message: 'Too busy right now. Please try again in a moment.',
  },
];

const SQLSTATE_SHAPE = /^[0-9A-Z]{5}$/;

/** The SQLSTATE an error carries, or null. */
export function sqlstateOf(error: unknown): string | null {
  // EPIPE and EPERM look like one; system errors say which call failed.
  if (typeof error !== 'object' || error === null || 'syscall' in error) return null;
  const code = (error as { code?: unknown }).code;
  return typeof code === 'string' && SQLSTATE_SHAPE.test(code) ? code : null;
}

/**
 * Whether PostgreSQL, or the way to it, cannot work at all now, whatever it is asked: connections (08), resources such as
 * disk, memory and connections (53), shutdown and crash (57P0), failing disks (58).
 */
export function isOutage(error: unknown): boolean {
  const sqlstate = sqlstateOf(error);
  return sqlstate !== null && /^(?:08|53[0-3]|57P0|58)/.test(sqlstate);
}

/** Codes that go away by themselves, and after how many seconds asking again is worth it. */
const RETRY_AFTER: ReadonlyMap<string, number> = new Map([
  ['UNAVAILABLE', 2],
  ['TRY_AGAIN', 1],
  ['REPLICA_BEHIND', 2],
  ['KEY_UNAVAILABLE', 2],
]);

/** Value of the header Retry-After for a code, or undefined. */
export const retryAfterOf = (code = ''): string | undefined => RETRY_AFTER.get(code)?.toString();

/** Looks up what may be said about an error. */
export class ErrorRegister {
  readonly #faults = new Map<string, SafeFault>();
  readonly #codes = new Set([INTERNAL.code]);

  constructor(rows: readonly RegisterRow[] = []) {
    for (const row of [...BUILT_IN, ...rows]) {
      const expected = row.http_status !== 500;
      this.#faults.set(row.sqlstate, { code: row.code, status: row.http_status, message: row.message, expected });
      this.#codes.add(row.code);
    }
  }

  /** Whether clients know this code. */
  has(code: string): boolean {
    return this.#codes.has(code);
  }

  /** `isAnonymous`: whoever has no session yet is told to sign in, not that he may not. */
  explain(error: unknown, isAnonymous = false): SafeFault {
    const sqlstate = sqlstateOf(error);
    const known = sqlstate === SQLSTATE.forbidden && isAnonymous ? SQLSTATE.unauthenticated : sqlstate;
    return (known !== null && this.#faults.get(known)) || INTERNAL;
  }
}
