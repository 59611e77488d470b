import express, { type Request, type Response, type Router } from 'express';
import { z } from 'zod';
import type { RequestSource } from '../graphql/adaptor.ts';
import { storable } from '../graphql/transaction.ts';
import { type ReasonedAnswer, register, resetPassword, verifyEmail } from '../identity/steps.ts';
import { login, refreshSession, type SignInAnswer, type StepTools } from '../sessions/steps.ts';
import { type FieldReasons, type Refusal, sendData, sendRefusal } from './envelope.ts';
import { hasBody, readJson } from './read-body.ts';

/** Longest body of a door, in bytes. */
const BODY_LIMIT = 32_768;

const text = z.string().max(10_000);
const token = z.string().max(1000);

type Reply = { readonly data: unknown } | { readonly refusal: Refusal };
type Handler<Input> = (tools: StepTools, source: RequestSource, input: Input, response: Response) => Promise<Reply>;

interface Door {
  readonly input: z.ZodType;
  readonly handle: Handler<never>;
}

const door = <Shape extends z.ZodType>(input: Shape, handle: Handler<z.infer<Shape>>): Door => ({ input, handle });

/** Which field of the input a reason is about: PASSWORD_TOO_SHORT is about the password. */
function fieldsOf(reasons: readonly string[], passwordField: string): FieldReasons {
  const fields: Record<string, string[]> = {};
  for (const reason of reasons) {
    const words = reason.split('_').slice(0, -1);
    const name = words[0] === 'PASSWORD' ? passwordField : words.join('_').toLowerCase();
    const field = name.replace(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase());
    fields[field] = [...(fields[field] ?? []), reason];
  }
  return fields;
}

function reasoned({ outcome, reasons }: ReasonedAnswer, passwordField: string, message: string): Reply {
  if (outcome !== 'REFUSED') return { data: { outcome } };
  const fields = fieldsOf(reasons, passwordField);
  return { refusal: { code: 'REFUSED', status: 400, message, data: { outcome, reasons }, fields } };
}

/** The same for every refused sign-in, whoever it was; a lock says how long. */
function signedIn(answer: SignInAnswer, response: Response, message: string): Reply {
  if (answer.outcome !== 'REFUSED') return { data: answer };
  const { outcome, retryAfter } = answer;
  if (retryAfter !== null) response.setHeader('Retry-After', String(retryAfter));
  return {
    refusal: { code: 'REFUSED', status: retryAfter === null ? 401 : 429, message, data: { outcome, retryAfter } },
  };
}

/** Calls a function of `api` that answers with an outcome. */
async function outcomeOf(tools: StepTools, source: RequestSource, sql: string, values: unknown[]): Promise<string> {
  const { rows } = await tools.requests.inRequest(source, (client) =>
    client.query<{ outcome: string }>({ text: sql, values }),
  );
  return rows[0]?.outcome ?? 'REFUSED';
}

const DOORS: Readonly<Record<string, Door>> = {
  register: door(
    z.object({ email: text, password: text, displayName: text, organizationName: text.nullish() }),
    async (tools, source, input) =>
      reasoned(await register(tools, source, input), 'password', 'The registration was refused.'),
  ),
  login: door(
    z.object({ email: text, password: text, organizationId: z.uuid().nullish() }),
    async (tools, source, input, response) =>
      signedIn(await login(tools, source, input), response, 'The sign-in was refused.'),
  ),
  refresh: door(z.object({ refreshToken: token }), async (tools, source, input, response) =>
    signedIn(await refreshSession(tools, source, input.refreshToken), response, 'Please sign in again.'),
  ),
  logout: door(z.object({}), async (tools, source) => {
    const outcome = await outcomeOf(tools, source, 'select api.logout() as outcome', []);
    return { data: { outcome } };
  }),
  'verify-email': door(
    z.union([z.object({ token }), z.object({ email: text, code: token })]),
    async (tools, source, input) => {
      const outcome = await verifyEmail(tools, source, input);
      return reasoned({ outcome, reasons: [] }, '', 'The address was not confirmed.');
    },
  ),
  'resend-verification': door(z.object({ email: text }), async (tools, source, { email }) => ({
    data: {
      outcome: await outcomeOf(tools, source, 'select api.resend_verification($1) as outcome', [storable(email)]),
    },
  })),
  'request-password-reset': door(z.object({ email: text }), async (tools, source, { email }) => ({
    data: {
      outcome: await outcomeOf(tools, source, 'select api.request_password_reset($1) as outcome', [storable(email)]),
    },
  })),
  'reset-password': door(z.object({ token, newPassword: text }), async (tools, source, input) =>
    reasoned(
      await resetPassword(tools, source, input.token, input.newPassword),
      'newPassword',
      'The password was not changed.',
    ),
  ),
};

/** Last part of each door's path. */
export const DOOR_NAMES: readonly string[] = Object.keys(DOORS);

function invalid(error: z.ZodError): Refusal {
  const fields: Record<string, string[]> = {};
  for (const issue of error.issues) fields[String(issue.path[0] ?? 'body')] = ['INVALID'];
  return { code: 'BAD_INPUT', status: 400, message: 'The input is not valid.', fields };
}

/** The thin REST door: the same steps as the GraphQL mutations, in an envelope with HTTP's own statuses. */
export function restRouter(tools: StepTools, sourceOf: (request: Request) => RequestSource): Router {
  const router = express.Router();
  for (const [name, { input, handle }] of Object.entries(DOORS)) {
    router.post(`/${name}`, async (request, response) => {
      const source = sourceOf(request);
      // Logging out needs no body.
      const body = hasBody(request) ? await readJson(request, BODY_LIMIT) : {};
      const parsed = input.safeParse(body);
      if (!parsed.success) {
        sendRefusal(response, source.requestId, invalid(parsed.error));
        return;
      }
      const reply = await handle(tools, source, parsed.data as never, response);
      if ('data' in reply) sendData(response, source.requestId, reply.data);
      else sendRefusal(response, source.requestId, reply.refusal);
    });
  }
  return router;
}
