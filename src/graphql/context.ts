import type { IncomingMessage } from 'node:http';
import type { StepTools } from '../sessions/steps.ts';
import type { RequestSource } from './adaptor.ts';
import type { OpenedValues } from './sealed-columns.ts';

/** What plans find in the GraphQL context under one name of ours. */
export interface SafetyPinContext {
  readonly source: RequestSource;
  readonly tools: StepTools;
  /** Sealed values that came with the rows of this request. */
  readonly opened: OpenedValues;
}

declare global {
  namespace Grafast {
    interface Context {
      safetypin: SafetyPinContext;
    }
  }
}

const sources = new WeakMap<IncomingMessage, RequestSource>();

/** Remembers who asks, once the bearer token was checked. */
export function bindSource(request: IncomingMessage, source: RequestSource): void {
  sources.set(request, source);
}

/** Who asks. There is no default: a request that nobody checked gets no context at all. */
export function sourceOf(request: IncomingMessage | undefined): RequestSource {
  const source = request && sources.get(request);
  if (source === undefined) throw new Error('the request was not authenticated');
  return source;
}
