import type { RequestSource } from './adaptor.ts';

/** What is learnt of a request on its way, by whoever learns it: for its line in the log, its metrics and its trace. */
export interface RequestNote {
  /** First field at the root, after the kind of the operation: names of our schema, such as `mutation login`. */
  operation?: string;
  /** The client's own name of its operation, cut and cleaned. */
  name?: string;
  /** Code of the first error that was told. */
  code?: string;
  /** The span of the request and the one of its operation, while traces are made. */
  span?: unknown;
  operationSpan?: unknown;
}

/** Steps of a request's transaction: waiting for a connection, opening, each statement, the commit. */
export type Step = 'wait' | 'open' | 'statement' | 'commit';

/** Told of each step when it is over, with `performance.now()` at its begin and end. It must be cheap and never throw. */
export type Observe = (
  step: Step,
  began: number,
  ended: number,
  source: RequestSource,
  statement?: { readonly text: string; readonly name?: string | undefined },
) => void;
