import type { Request, RequestHandler, Response } from 'express';
import type { JSONValue, RequestDigest, Result } from 'postgraphile/grafserv';
import { processHeaders } from 'postgraphile/grafserv';
import { bindSource, sourceOf } from '../graphql/context.ts';
import type { ErrorRegister } from '../platform/errors.ts';
import type { RecordFault } from '../platform/faults.ts';
import { BodyRefusal } from './body-refusal.ts';
import { readOperation } from './graphql-body.ts';
import type { Authenticator } from './request.ts';
import type { ApiGrafserv } from './serv.ts';

export interface GraphQLOptions {
  readonly serv: ApiGrafserv;
  readonly authenticator: Authenticator;
  readonly register: ErrorRegister;
  readonly recordFault: RecordFault;
  readonly countError: (code: string) => void;
}

const PATH = '/graphql';

/** The request as grafserv takes it from any framework, with the body that was read and checked already. */
function digestOf(request: Request, response: Response, json: JSONValue): RequestDigest {
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

function send(response: Response, result: Result | null): void {
  if (result === null || result.type === 'error') throw result?.error ?? new Error('grafserv took no notice');
  // Nothing here streams: neither @defer nor subscriptions are in the schema.
  if (result.type !== 'buffer') throw new Error(`grafserv answered with ${result.type}`);
  response.writeHead(result.statusCode, result.headers);
  response.end(result.buffer);
}

/**
 * The whole way of a GraphQL request in one handler. A refusal before GraphQL has status 200 and the error in the body, like
 * a session that ends during execution; only a body that is no operation has a status of its own.
 */
export function graphqlHandler(options: GraphQLOptions): RequestHandler {
  const { serv, authenticator, register, recordFault, countError } = options;

  function refuse(request: Request, response: Response, error: unknown): void {
    if (response.headersSent) return void response.destroy();
    const source = sourceOf(request);
    const fault =
      error instanceof BodyRefusal ? { ...error, message: error.message, expected: true } : register.explain(error);
    if (!fault.expected) recordFault(source, error, 'graphql');
    countError(fault.code);
    const extensions = { code: fault.code, requestId: source.requestId };
    response.status(error instanceof BodyRefusal ? error.status : 200);
    response.json({ errors: [{ message: fault.message, extensions }] });
  }

  return async (request, response) => {
    try {
      if (request.method !== 'POST') {
        response.setHeader('Allow', 'POST');
        throw new BodyRefusal(405, 'BAD_INPUT', 'Please use POST.');
      }
      const body = await readOperation(request);
      const source = authenticator.authenticate(sourceOf(request), request.headers.authorization);
      bindSource(request, source instanceof Promise ? await source : source);
      send(response, await serv.answer(digestOf(request, response, body)));
    } catch (error) {
      refuse(request, response, error);
    }
  };
}
