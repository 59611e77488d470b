import type { IncomingMessage, ServerResponse } from 'node:http';
import type { JSONValue, RequestDigest, Result } from 'postgraphile/grafserv';
import { processHeaders } from 'postgraphile/grafserv';
import type { RequestSource } from '../graphql/adaptor.ts';
import { bindSource } from '../graphql/context.ts';
import type { Observer } from '../observe/observer.ts';
import type { ErrorRegister } from '../platform/errors.ts';
import type { RecordFault } from '../platform/faults.ts';
import { BodyRefusal } from './body-refusal.ts';
import type { ClientAddress } from './client-address.ts';
import { readOperation } from './graphql-body.ts';
import { rawSecurityHeaders } from './headers.ts';
import { type Authenticator, anonymousSource, traceparentOf } from './request.ts';
import type { ApiGrafserv } from './serv.ts';

export interface GraphQLOptions {
  readonly serv: ApiGrafserv;
  readonly authenticator: Authenticator;
  readonly register: ErrorRegister;
  readonly recordFault: RecordFault;
  readonly observer: Observer;
  readonly clientAddress: ClientAddress;
  readonly isHttps: boolean;
}

const PATH = '/graphql';

/** Is this request for the handler below? */
export const isGraphQL = ({ url }: IncomingMessage): boolean => /^\/graphql\/?(?:\?|$)/.test(url ?? '');

/** The request as grafserv takes it from any framework, with the body that was read and checked already. */
function digestOf(request: IncomingMessage, response: ServerResponse, json: JSONValue): RequestDigest {
  return {
    httpVersionMajor: request.httpVersionMajor,
    httpVersionMinor: request.httpVersionMinor,
    isSecure: false,
    method: 'POST',
    path: PATH,
    headers: { ...processHeaders(request.headers), 'content-type': 'application/json' },
    getQueryParams: () => ({}),
    getBody: () => ({ type: 'json', json: json as never }),
    requestContext: { node: { req: request, res: response } },
  };
}

/** What to write: status, headers as names and values in turn, body. */
type Answer = readonly [status: number, headers: readonly string[], body: Buffer | string];

function answerOf(result: Result | null): Answer {
  if (result === null || result.type === 'error') throw result?.error ?? new Error('grafserv took no notice');
  // Nothing here streams: neither @defer nor subscriptions are in the schema.
  if (result.type !== 'buffer') throw new Error(`grafserv answered with ${result.type}`);
  return [result.statusCode, Object.entries(result.headers).flat(), result.buffer];
}

/**
 * The whole way of a GraphQL request, ahead of Express: a third of the time that HTTP takes of a request was Express finding
 * its way here. A refusal before GraphQL has status 200 and the error in the body, like a session that ends during
 * execution; only a body that is no operation has a status of its own.
 */
export function graphqlHandler(
  options: GraphQLOptions,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const { serv, authenticator, register, recordFault, observer, clientAddress } = options;
  const security = rawSecurityHeaders(options.isHttps);

  function refusal(source: RequestSource, error: unknown): Answer {
    const fault =
      error instanceof BodyRefusal
        ? { code: error.code, message: error.message, expected: true }
        : register.explain(error);
    if (!fault.expected) recordFault(source, error, 'graphql');
    observer.metrics.countError(fault.code);
    if (error instanceof BodyRefusal && error.status === 413) observer.metrics.countLimit('request.body');
    if (source.note !== undefined) source.note.code = fault.code;
    const body = JSON.stringify({
      errors: [{ message: fault.message, extensions: { code: fault.code, requestId: source.requestId } }],
    });
    const headers = [
      'content-type',
      'application/json; charset=utf-8',
      'content-length',
      String(Buffer.byteLength(body)),
    ];
    if (request405(error)) headers.push('allow', 'POST');
    return [error instanceof BodyRefusal ? error.status : 200, headers, body];
  }

  async function answer(request: IncomingMessage, response: ServerResponse, source: RequestSource): Promise<Answer> {
    if (request.method !== 'POST') throw new BodyRefusal(405, 'BAD_INPUT', 'Please use POST.');
    const body = await readOperation(request);
    const known = authenticator.authenticate(source, request.headers.authorization);
    bindSource(request, known instanceof Promise ? await known : known);
    return answerOf(await serv.answer(digestOf(request, response, body)));
  }

  return async (request, response) => {
    const began = performance.now();
    const source = anonymousSource(request, clientAddress);
    observer.began(source, request.method ?? '', traceparentOf(request, clientAddress));
    const [status, headers, body] = await answer(request, response, source).catch((error: unknown) =>
      refusal(source, error),
    );
    response.writeHead(status, [...security, 'X-Request-Id', source.requestId, ...headers]);
    response.end(request.method === 'HEAD' ? undefined : body);
    observer.answered({ source, route: PATH, method: request.method ?? '', status, began });
  };
}

const request405 = (error: unknown): boolean => error instanceof BodyRefusal && error.status === 405;
