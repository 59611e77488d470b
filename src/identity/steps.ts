import { type RequestSource, type Requests, withoutCredential } from '../graphql/adaptor.ts';
import { storable } from '../graphql/transaction.ts';
import type { HashRecipe, PasswordHasher } from './password.ts';
import { type PasswordFacts, passwordFacts } from './password-facts.ts';
import { decodeSecret } from './secrets.ts';

/** What these steps need besides their input. One per server; `from` is who asks. */
export interface IdentityTools {
  readonly requests: Requests;
  readonly hasher: PasswordHasher;
}

/** Outcome of a step that can refuse for reasons the person can do something about. */
export interface ReasonedAnswer {
  readonly outcome: string;
  readonly reasons: readonly string[];
}

/** What `prepare_…` answers: an outcome when it ends here, else how to hash. */
interface Prepared extends HashRecipe {
  readonly outcome: string | null;
  readonly reasons: readonly string[] | null;
}

interface Decided {
  readonly outcome: string;
  readonly reasons: readonly string[] | null;
}

const reasoned = (row: Decided | undefined): ReasonedAnswer => {
  if (row === undefined) throw new Error('a step returned no row');
  return { outcome: row.outcome, reasons: row.reasons ?? [] };
};

export interface RegisterInput {
  readonly email: string;
  readonly password: string;
  readonly displayName: string;
  readonly organizationName?: string | null | undefined;
}

/** SQL judges the facts, hands out how to hash, and takes the tag: the same work for an address that has an account. */
export async function register(
  tools: IdentityTools,
  from: RequestSource,
  input: RegisterInput,
): Promise<ReasonedAnswer> {
  const source = withoutCredential(from);
  const organization = typeof input.organizationName === 'string' ? storable(input.organizationName) : null;
  const names = [storable(input.email), storable(input.displayName), organization];
  const known = names.filter((name) => name !== null);
  const facts = JSON.stringify(await passwordFacts(input.password, known));
  const { rows } = await tools.requests.inRequest(source, (client) =>
    client.query<Prepared>({
      name: 'prepare_registration',
      text: 'select * from api_steps.prepare_registration($1, $2, $3, $4)',
      values: [...names, facts],
    }),
  );
  const prepared = rows[0];
  if (prepared === undefined || prepared.outcome !== null) return reasoned(prepared as Decided | undefined);
  const tag = await tools.hasher.hash(input.password, prepared);
  const registered = await tools.requests.inRequest(source, (client) =>
    client.query<Decided>({
      name: 'register',
      text: 'select * from api_steps.register($1, $2, $3, $4, $5, $6, $7, $8)',
      values: [...names, facts, prepared.scheme, JSON.stringify(prepared.parameters), prepared.salt, tag],
    }),
  );
  return reasoned(registered.rows[0]);
}

/** By the token of the mail's link. */
async function verifyEmailByToken(tools: IdentityTools, from: RequestSource, token: string): Promise<string> {
  const { rows } = await tools.requests.inRequest(withoutCredential(from), (client) =>
    client.query<{ outcome: string }>({
      name: 'verify_email',
      text: 'select api_steps.verify_email($1) as outcome',
      values: [decodeSecret(token)],
    }),
  );
  return rows[0]?.outcome ?? 'REFUSED';
}

/** By the short code of the mail: a guess, so it is counted, stored and answered in three transactions. */
async function verifyEmailByCode(
  tools: IdentityTools,
  from: RequestSource,
  email: string,
  code: string,
): Promise<string> {
  const source = withoutCredential(from);
  const { requests } = tools;
  const started = await requests.inRequest(source, (client) =>
    client.query<{ attempt: string | null }>({
      name: 'start_email_code',
      text: 'select * from api_steps.start_email_code($1)',
      values: [storable(email)],
    }),
  );
  const attempt = started.rows[0]?.attempt ?? null;
  if (attempt === null) return 'REFUSED';
  const values = [attempt, storable(code)];
  await requests.inRequest(source, (client) =>
    client.query({ name: 'submit_email_code', text: 'select api_steps.submit_email_code($1, $2)', values }),
  );
  const { rows } = await requests.inRequest(source, (client) =>
    client.query<{ outcome: string }>({
      name: 'finish_email_code',
      text: 'select api_steps.finish_email_code($1, $2) as outcome',
      values,
    }),
  );
  return rows[0]?.outcome ?? 'REFUSED';
}

export interface VerifyEmailInput {
  readonly token?: string | null | undefined;
  readonly email?: string | null | undefined;
  readonly code?: string | null | undefined;
}

/** Either way is one outcome; half of a way is refused by SQL like any wrong guess. */
export function verifyEmail(tools: IdentityTools, from: RequestSource, input: VerifyEmailInput): Promise<string> {
  const { token, email, code } = input;
  if (typeof token === 'string' || typeof email !== 'string') return verifyEmailByToken(tools, from, token ?? '');
  return verifyEmailByCode(tools, from, email, code ?? '');
}

/** The token is looked at when preparing and consumed when the new password is set. */
export async function resetPassword(
  tools: IdentityTools,
  from: RequestSource,
  token: string,
  newPassword: string,
): Promise<ReasonedAnswer> {
  const source = withoutCredential(from);
  const secret = decodeSecret(token);
  const facts: PasswordFacts = await passwordFacts(newPassword, []);
  const { rows } = await tools.requests.inRequest(source, (client) =>
    client.query<Prepared>({
      name: 'prepare_password_reset',
      text: 'select * from api_steps.prepare_password_reset($1, $2)',
      values: [secret, JSON.stringify(facts)],
    }),
  );
  const prepared = rows[0];
  if (prepared === undefined || prepared.outcome !== null) return reasoned(prepared as Decided | undefined);
  const tag = await tools.hasher.hash(newPassword, prepared);
  const { scheme, parameters, salt } = prepared;
  const reset = await tools.requests.inRequest(source, (client) =>
    client.query<Decided>({
      name: 'reset_password',
      text: 'select * from api_steps.reset_password($1, $2, $3, $4, $5, $6)',
      values: [secret, JSON.stringify(facts), scheme, JSON.stringify(parameters), salt, tag],
    }),
  );
  return reasoned(reset.rows[0]);
}
