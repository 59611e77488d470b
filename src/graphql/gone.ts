import type { ServerResponse } from 'node:http';
import type { Gone } from './transaction.ts';

/** Tells when the client of a response goes away before it has all of it. */
export function clientOf(response: ServerResponse): Gone {
  const listeners = new Set<() => void>();
  const isGone = (): boolean => response.closed && !response.writableFinished;
  // One listener on the response, however many statements ask: a document may hold many.
  response.once('close', () => {
    if (isGone()) for (const listener of listeners) listener();
  });
  return {
    get aborted() {
      return isGone();
    },
    addEventListener: (_type, listener) => void listeners.add(listener),
    removeEventListener: (_type, listener) => void listeners.delete(listener),
  };
}
