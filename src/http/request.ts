import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { RequestSource, Requests, Turn } from '../graphql/adaptor.ts';
import { AppError } from '../platform/app-error.ts';
import { SQLSTATE } from '../platform/errors.ts';
import type { Activity } from '../sessions/activity.ts';
import { type ApiKeyCredential, ApiKeys, isApiKey } from '../sessions/api-key.ts';
import type { AccessToken, AccessTokens } from '../sessions/tokens.ts';
import type { ClientAddress } from './client-address.ts';
import { networkOf } from './turns.ts';

const USER_AGENT_LENGTH = 512;
const UUID = /^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i;
/** A word, not a text: it stands in the audit trail in clear. */
const PURPOSE = /^[a-z0-9][a-z0-9._:/-]{0,63}$/i;
const BEARER = /^Bearer +([^ ]+) *$/i;

/** Who is asking, before any token was looked at. */
export function anonymousSource(request: IncomingMessage, clientAddress: ClientAddress): RequestSource {
  const { headers, socket } = request;
  const forwarded = headers['x-forwarded-for'];
  const purpose = headers['x-purpose'];
  const userAgent = headers['user-agent']?.slice(0, USER_AGENT_LENGTH).toWellFormed() ?? null;
  const ip = clientAddress(socket.remoteAddress, Array.isArray(forwarded) ? forwarded.join(',') : forwarded);
  return {
    requestId: requestIdOf(request, clientAddress),
    credential: null,
    note: {},
    ip,
    turn: { name: networkOf(ip) },
    userAgent,
    ...(typeof purpose === 'string' && PURPOSE.test(purpose) ? { purpose } : {}),
  };
}

/** The id that a trusted proxy gave the request, if it is one; anybody else's would let him choose what the log says. */
function requestIdOf({ headers, socket }: IncomingMessage, clientAddress: ClientAddress): string {
  const given = headers['x-request-id'];
  const isGood = typeof given === 'string' && UUID.test(given) && clientAddress.isProxy(socket.remoteAddress);
  return isGood ? given.toLowerCase() : randomUUID();
}

/** The trace that a request is part of, if a trusted proxy says so. */
export function traceparentOf({ headers, socket }: IncomingMessage, clientAddress: ClientAddress): string | undefined {
  const { traceparent } = headers;
  return typeof traceparent === 'string' && clientAddress.isProxy(socket.remoteAddress) ? traceparent : undefined;
}

/** The application itself, asking for nobody. */
export const nobody = (): RequestSource => ({ requestId: randomUUID(), credential: null, ip: null, userAgent: null });

const turnOf = ({ organizationId, personId }: AccessToken): Turn => ({ name: organizationId ?? personId });

/** Turns a bearer token or an API key into the credential that SQL asks for. One that is not good is an error, never anonymous. */
export class Authenticator {
  readonly #tokens: AccessTokens;
  readonly #requests: Requests;
  readonly #activity: Activity;
  readonly #apiKeys = new ApiKeys();
  readonly #checking = new Map<string, Promise<AccessToken>>();

  constructor(tokens: AccessTokens, requests: Requests, activity: Activity) {
    this.#tokens = tokens;
    this.#requests = requests;
    this.#activity = activity;
  }

  /** Known tokens are answered at once; only a new one makes a promise. */
  authenticate(source: RequestSource, authorization: string | undefined): RequestSource | Promise<RequestSource> {
    if (authorization === undefined) return source;
    const token = BEARER.exec(authorization)?.[1];
    if (token === undefined) throw new AppError(SQLSTATE.unauthenticated, 'not a bearer token');
    if (isApiKey(token)) {
      const key = this.#apiKeys.read(token);
      if (key === null) throw new AppError(SQLSTATE.unauthenticated, 'not an API key');
      const { name } = source.turn ?? { name: networkOf(source.ip) };
      return this.#as(source, key, { name, once: key.credentialHash.toString('base64') });
    }
    const known = this.#tokens.recall(token);
    if (known !== undefined) return this.#as(source, known, turnOf(known));
    return this.#firstUse(source, token).then((verified) => this.#as(source, verified, turnOf(verified)));
  }

  #as(source: RequestSource, { credential, credentialHash }: ApiKeyCredential, turn: Turn): RequestSource {
    this.#activity.note(credentialHash);
    return { ...source, credential, turn };
  }

  /** Several requests at once with a new token check it once. */
  #firstUse(source: RequestSource, token: string): Promise<AccessToken> {
    let checking = this.#checking.get(token);
    if (checking === undefined) {
      checking = this.#check(source, token).finally(() => this.#checking.delete(token));
      this.#checking.set(token, checking);
    }
    return checking;
  }

  /** SQL is told that the token arrived before anything is done with it: the refresh token it replaced is dead from now on. */
  async #check(source: RequestSource, token: string): Promise<AccessToken> {
    const verified = await this.#tokens.verify(token);
    if (verified === null) throw new AppError(SQLSTATE.unauthenticated, 'not a good token');
    await this.#requests.inRequest(source, (client) =>
      client.query({
        name: 'note_first_use',
        text: 'select api_steps.note_first_use($1)',
        values: [verified.credential],
      }),
    );
    this.#tokens.remember(verified);
    return verified;
  }
}
