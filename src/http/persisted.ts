import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { StartupError } from '../platform/startup-error.ts';
import { BodyRefusal } from './body-refusal.ts';
import type { GraphQLBody } from './graphql-body.ts';

/** Documents by the SHA-256 of their text, in hexadecimal. */
export type PersistedOperations = ReadonlyMap<string, string>;

/** Text of the operation that a body asks for. */
export type DocumentOf = (body: GraphQLBody) => string;

export const hashOf = (text: string): string => createHash('sha256').update(text).digest('hex');

/**
 * Reads a folder of `<SHA-256>.graphql` files. A file whose name is not the hash of what is in it was changed by hand or
 * cut short; with the folder as the list of what may be asked, that is no small thing, and the server does not start.
 */
export function loadPersistedOperations(folder: string): PersistedOperations {
  let names: string[];
  try {
    names = readdirSync(folder).filter((name) => name.endsWith('.graphql'));
  } catch {
    throw new StartupError(`PERSISTED_OPERATIONS=${folder} is not a folder that can be read`);
  }
  const operations = new Map<string, string>();
  for (const name of names) {
    const text = readFileSync(join(folder, name), 'utf8');
    const hash = hashOf(text);
    if (name !== `${hash}.graphql`) {
      throw new StartupError(`${join(folder, name)} does not hold what its name says: make the folder anew`);
    }
    operations.set(hash, text);
  }
  if (operations.size === 0) throw new StartupError(`PERSISTED_OPERATIONS=${folder} holds no operations`);
  return operations;
}

/** The hash in a body: as the appendix of GraphQL over HTTP writes it, or as Apollo does. */
function askedHash({ documentId, extensions }: GraphQLBody): string | undefined {
  if (typeof documentId === 'string') return documentId.replace(/^sha256:/, '').toLowerCase();
  const persisted = extensions?.persistedQuery as { sha256Hash?: unknown } | null | undefined;
  return typeof persisted?.sha256Hash === 'string' ? persisted.sha256Hash.toLowerCase() : undefined;
}

const bad = (message: string): BodyRefusal => new BodyRefusal(400, 'BAD_INPUT', message);

/**
 * Finds the text to run. With `only`, text that comes in the body is refused, even beside a hash: what may be asked is in
 * the folder. Otherwise text may come with its hash, but the two must agree. Nothing is ever stored by a request.
 */
export function documentsFrom(operations: PersistedOperations | undefined, only: boolean): DocumentOf {
  return (body) => {
    const { query } = body;
    const hash = askedHash(body);
    if (only && query != null) throw new BodyRefusal(403, 'FORBIDDEN', 'Only known operations are run here.');
    if (hash === undefined) {
      if (query == null) throw bad('The body is not one GraphQL operation.');
      return query;
    }
    if (query != null) {
      if (hashOf(query) !== hash) throw bad('The hash is not the one of the query.');
      return query;
    }
    const text = operations?.get(hash);
    // The message is the one by which Apollo's clients know that they have to send the text.
    if (text === undefined) throw new BodyRefusal(404, 'NOT_FOUND', 'PersistedQueryNotFound');
    return text;
  };
}
