import type { RequestHandler, Response } from 'express';

/** Longest body of a GraphQL request, in bytes. */
export const BODY_LIMIT = 100_000;

function refuse(response: Response, status: number, code: string, message: string): void {
  response.status(status).json({ errors: [{ message, extensions: { code } }] });
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** One operation as GraphQL over HTTP describes it; no array of operations, each of which would count once here and many times below. */
function isOperation(body: unknown): boolean {
  if (!isObject(body)) return false;
  const { query, variables, operationName, extensions } = body;
  return (
    typeof query === 'string' &&
    (variables == null || isObject(variables)) &&
    (operationName == null || typeof operationName === 'string') &&
    (extensions == null || isObject(extensions))
  );
}

/**
 * Takes POST and JSON only: nothing that a page of another origin can send without being asked first. The body is read
 * here, so that every refusal carries a code and a client that goes away is no error of ours.
 */
export const graphqlBody: RequestHandler = (request, response, next) => {
  if (request.method !== 'POST') {
    response.setHeader('Allow', 'POST');
    return refuse(response, 405, 'BAD_INPUT', 'Please use POST.');
  }
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/json') return refuse(response, 415, 'BAD_INPUT', 'Please send application/json.');

  const chunks: Buffer[] = [];
  let length = 0;
  request.on('data', (chunk: Buffer) => {
    length += chunk.length;
    if (length <= BODY_LIMIT) chunks.push(chunk);
  });
  request.once('end', () => {
    if (length > BODY_LIMIT) return refuse(response, 413, 'LIMIT_EXCEEDED', 'The request is too large.');
    let body: unknown;
    try {
      body = JSON.parse(Buffer.concat(chunks).toString());
    } catch {
      return refuse(response, 400, 'BAD_INPUT', 'The body is not JSON.');
    }
    if (!isOperation(body)) return refuse(response, 400, 'BAD_INPUT', 'The body is not one GraphQL operation.');
    // grafserv compares letter by letter.
    request.headers['content-type'] = 'application/json';
    request.body = body;
    next();
  });
  request.on('error', () => {});
};
