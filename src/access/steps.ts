import type { RequestSource } from '../graphql/adaptor.ts';
import { storable } from '../graphql/transaction.ts';
import { decodeSecret } from '../identity/secrets.ts';
import type { StepTools } from '../sessions/steps.ts';

/** What became of accepting an invitation. */
export interface Accepted {
  readonly outcome: string;
  readonly reasons: readonly string[];
  readonly organizationId: string | null;
  /** Whole seconds until another code is worth trying. */
  readonly retryAfter: number | null;
}

interface AcceptedRow {
  readonly outcome: string;
  readonly reasons: readonly string[] | null;
  readonly organization_id: string | null;
}

interface StartedRow {
  readonly attempt: string | null;
  readonly outcome: string | null;
  readonly reasons: readonly string[] | null;
  readonly retry_after: number | null;
}

export interface AcceptInput {
  readonly token: string;
  readonly code?: string | null | undefined;
}

function answer(row: AcceptedRow | undefined): Accepted {
  if (row === undefined) throw new Error('a step returned no row');
  return {
    outcome: row.outcome,
    reasons: row.reasons ?? [],
    organizationId: row.organization_id,
    retryAfter: null,
  };
}

/** By the token alone, or by a code beside it: a guess, so it is counted, stored and answered in three transactions. */
export function acceptInvitation(tools: StepTools, source: RequestSource, input: AcceptInput): Promise<Accepted> {
  const token = decodeSecret(input.token);
  return typeof input.code === 'string'
    ? byCode(tools, source, token, storable(input.code))
    : byToken(tools, source, token);
}

async function byToken({ requests }: StepTools, source: RequestSource, token: Buffer): Promise<Accepted> {
  const { rows } = await requests.inRequest(source, (client) =>
    client.query<AcceptedRow>({
      name: 'accept_invitation',
      text: 'select * from api_steps.accept_invitation($1)',
      values: [token],
    }),
  );
  return answer(rows[0]);
}

async function byCode({ requests }: StepTools, source: RequestSource, token: Buffer, code: string): Promise<Accepted> {
  const started = await requests.inRequest(source, (client) =>
    client.query<StartedRow>({
      name: 'start_invitation_code',
      text: 'select * from api_steps.start_invitation_code($1)',
      values: [token],
    }),
  );
  const { attempt, outcome, reasons, retry_after: retryAfter } = started.rows[0] as StartedRow;
  if (attempt === null)
    return { outcome: outcome ?? 'REFUSED', reasons: reasons ?? [], organizationId: null, retryAfter };
  await requests.inRequest(source, (client) =>
    client.query({
      name: 'submit_invitation_code',
      text: 'select api_steps.submit_invitation_code($1, $2)',
      values: [attempt, code],
    }),
  );
  const { rows } = await requests.inRequest(source, (client) =>
    client.query<AcceptedRow>({
      name: 'finish_invitation_code',
      text: 'select * from api_steps.finish_invitation_code($1, $2, $3)',
      values: [attempt, token, code],
    }),
  );
  return answer(rows[0]);
}

/** Sends a code to the invited address, if the token is live. */
export async function requestInvitationCode(
  { requests }: StepTools,
  source: RequestSource,
  token: string,
): Promise<string> {
  const { rows } = await requests.inRequest(source, (client) =>
    client.query<{ outcome: string }>({
      name: 'request_invitation_code',
      text: 'select api_steps.request_invitation_code($1) as outcome',
      values: [decodeSecret(token)],
    }),
  );
  return rows[0]?.outcome ?? 'SENT';
}
