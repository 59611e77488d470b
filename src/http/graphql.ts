import type { IncomingMessage, ServerResponse } from 'node:http';
import type { RequestDigest, Result } from 'postgraphile/grafserv';
import { processHeaders } from 'postgraphile/grafserv';
import type { RequestSource } from '../graphql/adaptor.ts';
import { bindSource } from '../graphql/context.ts';
import type { Observer } from '../observe/observer.ts';
import { type ErrorRegister, retryAfterOf } from '../platform/errors.ts';
import type { RecordFault } from '../platform/faults.ts';
import { BodyRefusal } from './body-refusal.ts';
import type { ClientAddress } from './client-address.ts';
import { type GraphQLBody, readOperation } from './graphql-body.ts';
import { rawSecurityHeaders } from './headers.ts';
import type { DocumentOf } from './persisted.ts';
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
  readonly documentOf: DocumentOf;
}

const PATH = '/graphql';

/** Is this request for the handler below? */
export const isGraphQL = ({ url }: IncomingMessage): boolean => /^\/graphql\/?(?:\?|$)/.test(url ?? '');

/** The request as grafserv takes it from any framework, with the body that was read and checked already. */
function digestOf(
  request: IncomingMessage,
  response: ServerResponse,
  json: Pick<GraphQLBody, 'query' | 'variables' | 'operationName'>,
): RequestDigest {
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

const OWN_TYPE = 'application/graphql-response+json';

/**
 * Whether a client takes what is sent here, and whether it asks for GraphQL's own media type by name: with that, a status
 * says what became of the request; without, it is 200 as soon as the body is an operation, as older clients expect.
 */
function wanted(accept: string | undefined): 'own' | 'json' | null {
  if (accept === undefined || accept === '*/*') return 'json';
  const types = accept
    .toLowerCase()
    .split(',')
    .map((part) => part.split(';').map((piece) => piece.trim()));
  const taken = types
    .filter(([, ...parameters]) => !parameters.some((one) => /^q=0(\.0*)?$/.test(one)))
    .map(([type]) => type);
  if (taken.includes(OWN_TYPE)) return 'own';
  return taken.some((type) => type === 'application/json' || type === '*/*' || type === 'application/*')
    ? 'json'
    : null;
}

/**
 * The whole way of a GraphQL request, ahead of Express: a third of the time that HTTP takes of a request was Express finding
 * its way here.
 */
export function graphqlHandler(
  options: GraphQLOptions,
): (request: IncomingMessage, response: ServerResponse) => Promise<void> {
  const { serv, authenticator, register, recordFault, observer, clientAddress, documentOf } = options;
  const security = rawSecurityHeaders(options.isHttps);

  function refusal(source: RequestSource, error: unknown, accept: string | undefined): Answer {
    const fault =
      error instanceof BodyRefusal
        ? { code: error.code, message: error.message, status: error.status, expected: true }
        : register.explain(error);
    if (!fault.expected) recordFault(source, error, 'graphql');
    observer.metrics.countError(fault.code);
    if (error instanceof BodyRefusal && error.status === 413) observer.metrics.countLimit('request.body');
    if (source.note !== undefined) source.note.code = fault.code;
    const body = JSON.stringify({
      errors: [{ message: fault.message, extensions: { code: fault.code, requestId: source.requestId } }],
    });
    const isOwn = wanted(accept) === 'own';
    const headers = [
      'content-type',
      `${isOwn ? OWN_TYPE : 'application/json'}; charset=utf-8`,
      'content-length',
      String(Buffer.byteLength(body)),
    ];
    if (fault.status === 405) headers.push('allow', 'POST');
    return [isOwn || error instanceof BodyRefusal ? fault.status : 200, headers, body];
  }

  async function answer(request: IncomingMessage, response: ServerResponse, source: RequestSource): Promise<Answer> {
    if (request.method !== 'POST') throw new BodyRefusal(405, 'BAD_INPUT', 'Please use POST.');
    if (wanted(request.headers.accept) === null) {
      throw new BodyRefusal(406, 'BAD_INPUT', `Please accept ${OWN_TYPE} or application/json.`);
    }
    const body = await readOperation(request);
    const { variables, operationName } = body;
    const operation = { query: documentOf(body), variables, operationName };
    const known = authenticator.authenticate(source, request.headers.authorization);
    bindSource(request, known instanceof Promise ? await known : known);
    return answerOf(await serv.answer(digestOf(request, response, operation)));
  }

  return async (request, response) => {
    const began = performance.now();
    const source = anonymousSource(request, clientAddress);
    observer.began(source, request.method ?? '', traceparentOf(request, clientAddress));
    const [status, headers, body] = await answer(request, response, source).catch((error: unknown) =>
      refusal(source, error, request.headers.accept),
    );
    // What is left of the body is nobody's next request.
    if (!request.complete) response.shouldKeepAlive = false;
    const retryAfter = retryAfterOf(source.note?.code);
    const later = retryAfter === undefined ? [] : ['Retry-After', retryAfter];
    response.writeHead(status, [...security, 'X-Request-Id', source.requestId, ...later, ...headers]);
    response.end(request.method === 'HEAD' ? undefined : body);
    observer.answered({ source, route: PATH, method: request.method ?? '', status, began });
  };
}
