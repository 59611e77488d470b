import type { IncomingMessage } from 'node:http';
import type { JSONValue } from 'postgraphile/grafserv';
import { BodyRefusal } from './body-refusal.ts';

/** Longest body of a GraphQL request, in bytes. */
export const BODY_LIMIT = 100_000;

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** One operation as GraphQL over HTTP describes it; no list of operations, each of which would count once here and many times below. */
function isOperation(body: unknown): body is JSONValue {
  if (!isObject(body)) return false;
  const { query, variables, operationName, extensions } = body;
  return (
    typeof query === 'string' &&
    (variables == null || isObject(variables)) &&
    (operationName == null || typeof operationName === 'string') &&
    (extensions == null || isObject(extensions))
  );
}

function parsed(bytes: Buffer): JSONValue {
  let body: unknown;
  try {
    body = JSON.parse(bytes.toString());
  } catch {
    throw new BodyRefusal(400, 'BAD_INPUT', 'The body is not JSON.');
  }
  if (!isOperation(body)) throw new BodyRefusal(400, 'BAD_INPUT', 'The body is not one GraphQL operation.');
  return body;
}

/**
 * Takes POST and JSON only: nothing that a page of another origin can send without being asked first. Read here and not by
 * grafserv, so that every refusal carries a code and a client that goes away is no error of ours.
 */
export function readOperation(request: IncomingMessage): Promise<JSONValue> {
  const type = request.headers['content-type']?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/json') throw new BodyRefusal(415, 'BAD_INPUT', 'Please send application/json.');
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    request.on('data', (chunk: Buffer) => {
      length += chunk.length;
      if (length <= BODY_LIMIT) chunks.push(chunk);
    });
    request.once('end', () => {
      try {
        if (length > BODY_LIMIT) throw new BodyRefusal(413, 'LIMIT_EXCEEDED', 'The request is too large.');
        resolve(parsed(chunks.length === 1 && chunks[0] !== undefined ? chunks[0] : Buffer.concat(chunks)));
      } catch (error) {
        reject(error);
      }
    });
    request.once('error', () => reject(new BodyRefusal(400, 'BAD_INPUT', 'The body ended early.')));
  });
}
