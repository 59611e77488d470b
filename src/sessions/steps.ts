import { type RequestSource, withoutCredential } from '../graphql/adaptor.ts';
import { type Statement, storable } from '../graphql/transaction.ts';
import { type HashRecipe, isHashable } from '../identity/password.ts';
import { decodeSecret, hashSecret, newSecret, successorOf } from '../identity/secrets.ts';
import type { IdentityTools } from '../identity/steps.ts';
import type { AccessTokens } from './tokens.ts';

/** What the steps need besides their input. One per server. */
export interface StepTools extends IdentityTools {
  readonly tokens: AccessTokens;
  /** Key from which the successor of a refresh token is derived. */
  readonly refreshKey: Buffer;
}

/** The answer of everything that can sign somebody in. */
export interface SignInAnswer {
  readonly outcome: string;
  readonly accessToken: string | null;
  readonly refreshToken: string | null;
  readonly expiresAt: Date | null;
  readonly sessionExpiresAt: Date | null;
  readonly mfaToken: string | null;
  readonly mfaMethods: readonly string[] | null;
  readonly retryAfter: number | null;
}

/** Row of the SQL type api_steps.sign_in_result. */
interface SignInResult {
  readonly outcome: string;
  readonly session_id: string | null;
  readonly person_id: string | null;
  readonly organization_id: string | null;
  readonly access_expires_at: Date | null;
  readonly expires_at: Date | null;
  readonly retry_after: number | null;
  readonly mfa_methods: readonly string[] | null;
}

const NOTHING: SignInAnswer = {
  outcome: 'REFUSED',
  accessToken: null,
  refreshToken: null,
  expiresAt: null,
  sessionExpiresAt: null,
  mfaToken: null,
  mfaMethods: null,
  retryAfter: null,
};

/** Turns what SQL decided into tokens. The credential and the refresh token were made here; SQL has only their hashes. */
function answer(tools: StepTools, result: SignInResult, credential: Buffer, refreshToken: Buffer): SignInAnswer {
  const refused = {
    ...NOTHING,
    outcome: result.outcome,
    retryAfter: result.retry_after,
    mfaMethods: result.mfa_methods,
  };
  const {
    session_id: sessionId,
    person_id: personId,
    organization_id: organizationId,
    access_expires_at: expiresAt,
  } = result;
  if (sessionId === null || personId === null || expiresAt === null) return refused;
  return {
    ...refused,
    accessToken: tools.tokens.issue({ credential, sessionId, personId, organizationId, expiresAt }),
    refreshToken: refreshToken.toString('base64url'),
    expiresAt,
    sessionExpiresAt: result.expires_at,
  };
}

/** Calls one of the functions that answer with sign_in_result, in a request of its own. */
async function call(tools: StepTools, source: RequestSource, statement: Statement): Promise<SignInResult> {
  const { rows } = await tools.requests.inRequest(source, (client) => client.query<SignInResult>(statement));
  const row = rows[0];
  if (row === undefined) throw new Error('a sign-in function returned no row');
  return row;
}

interface SignInStart extends HashRecipe {
  readonly attempt: string | null;
  readonly retry_after: number | null;
}

export interface LoginInput {
  readonly email: string;
  readonly password: string;
  readonly organizationId?: string | null | undefined;
}

/**
 * Three transactions: the attempt is counted, the guess is stored, the guess is answered. Nothing here looks at the
 * password but the hash, and a known and an unknown address go the same way.
 */
export async function login(tools: StepTools, from: RequestSource, input: LoginInput): Promise<SignInAnswer> {
  // No account has such a password, so nothing is tried and nothing counted.
  if (!isHashable(input.password)) return NOTHING;
  const source = withoutCredential(from);
  const { requests, hasher } = tools;
  const started = await requests.inRequest(source, (client) =>
    client.query<SignInStart>({
      name: 'start_sign_in',
      text: 'select * from api_steps.start_sign_in($1)',
      values: [storable(input.email)],
    }),
  );
  const attempt = started.rows[0];
  if (attempt === undefined || attempt.attempt === null)
    return { ...NOTHING, retryAfter: attempt?.retry_after ?? null };
  const tag = await hasher.hash(input.password, attempt);
  await requests.inRequest(source, (client) =>
    client.query({
      name: 'submit_sign_in',
      text: 'select api_steps.submit_sign_in($1, $2)',
      values: [attempt.attempt, tag],
    }),
  );
  const credential = newSecret();
  const refreshToken = newSecret();
  const result = await call(tools, source, {
    name: 'finish_sign_in',
    text: 'select * from api_steps.finish_sign_in($1, $2, $3, $4, $5)',
    values: [attempt.attempt, tag, input.organizationId ?? null, hashSecret(credential), hashSecret(refreshToken)],
  });
  return answer(tools, result, credential, refreshToken);
}

/** The successor is derived from the presented token, so that a repeated request gets the same one; the credential is always new. */
export async function refreshSession(tools: StepTools, from: RequestSource, presented: string): Promise<SignInAnswer> {
  const token = decodeSecret(presented);
  const successor = successorOf(tools.refreshKey, token);
  const credential = newSecret();
  const result = await call(tools, withoutCredential(from), {
    name: 'refresh_session',
    text: 'select * from api_steps.refresh_session($1, $2, $3)',
    values: [token, hashSecret(successor), hashSecret(credential)],
  });
  return answer(tools, result, credential, successor);
}

/** Needs a session, and ends the tokens it was asked with. */
export async function switchOrganization(
  tools: StepTools,
  source: RequestSource,
  organizationId: string,
): Promise<SignInAnswer> {
  const credential = newSecret();
  const refreshToken = newSecret();
  const result = await call(tools, source, {
    name: 'switch_organization',
    text: 'select * from api_steps.switch_organization($1, $2, $3)',
    values: [organizationId, hashSecret(credential), hashSecret(refreshToken)],
  });
  return answer(tools, result, credential, refreshToken);
}
