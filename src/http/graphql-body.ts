import type { IncomingMessage } from 'node:http';
import { BodyRefusal } from './body-refusal.ts';
import { readJson } from './read-body.ts';

/** Longest body of a GraphQL request, in bytes. */
export const BODY_LIMIT = 100_000;

/** What GraphQL over HTTP knows of a body; other names in it are left behind. */
export interface GraphQLBody {
  readonly query?: string | null | undefined;
  readonly variables?: Record<string, unknown> | null | undefined;
  readonly operationName?: string | null | undefined;
  readonly extensions?: Record<string, unknown> | null | undefined;
  /** Of a persisted operation. */
  readonly documentId?: string | null | undefined;
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const isText = (value: unknown): value is string | null | undefined => value == null || typeof value === 'string';
const isMap = (value: unknown): value is Record<string, unknown> | null | undefined => value == null || isObject(value);

/**
 * Takes POST and JSON only, and one operation: no list of them, each of which would count once here and many times below.
 * Read here and not by grafserv, so that every refusal carries a code.
 */
export async function readOperation(request: IncomingMessage): Promise<GraphQLBody> {
  const body = await readJson(request, BODY_LIMIT);
  if (isObject(body)) {
    const { query, variables, operationName, extensions, documentId } = body;
    if (isText(query) && isMap(variables) && isText(operationName) && isMap(extensions) && isText(documentId)) {
      return { query, variables, operationName, extensions, documentId };
    }
  }
  throw new BodyRefusal(400, 'BAD_INPUT', 'The body is not one GraphQL operation.');
}
