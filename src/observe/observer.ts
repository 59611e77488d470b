// Follows each request: its line in the log, its metrics, its trace; and the steps of its transactions.
import { createHash } from 'node:crypto';
import type { RequestSource } from '../graphql/adaptor.ts';
import type { Observe } from '../graphql/observe.ts';
import { Bounded, isLogged, log } from '../platform/log.ts';
import type { Metrics } from './metrics.ts';
import type { Tracer } from './trace.ts';

export interface ObserverOptions {
  readonly metrics: Metrics;
  /** Undefined while no traces are made. */
  readonly tracer: Tracer | undefined;
  /** Milliseconds after which a statement is slow. */
  readonly slowQueryMilliseconds: number;
  /** Whether lines of requests have the client's address. */
  readonly logAddresses: boolean;
}

/** An answered request. `route` is a route of ours, never a path that a client made up. */
export interface Answered {
  readonly source: RequestSource;
  readonly route: string;
  readonly method: string;
  readonly status: number;
  /** `performance.now()` when it came. */
  readonly began: number;
}

export interface Observer {
  readonly metrics: Metrics;
  /** A request came; `traceparent` is given only if whoever sent it is trusted. */
  began(source: RequestSource, method: string, traceparent: string | undefined): void;
  answered(request: Answered): void;
  /** A GraphQL operation begins; what is returned is told that it is over. */
  operation(source: RequestSource): (() => void) | undefined;
  readonly observe: Observe;
}

/** Routes that machines ask all day. */
const QUIET = new Set(['/healthz', '/readyz', '/metrics']);
const FINGERPRINTS = 1000;

export function createObserver(options: ObserverOptions): Observer {
  const { metrics, tracer, slowQueryMilliseconds, logAddresses } = options;
  const slow = new Bounded();
  const fingerprints = new Map<string, string>();

  /** Stands for a statement: SQL text can hold what a log must not. */
  function fingerprint(text: string): string {
    let known = fingerprints.get(text);
    if (known === undefined) {
      if (fingerprints.size >= FINGERPRINTS) fingerprints.clear();
      known = createHash('sha256').update(text).digest('hex').slice(0, 12);
      fingerprints.set(text, known);
    }
    return known;
  }

  const nameOf = (statement: { readonly text: string; readonly name?: string | undefined }): string =>
    statement.name !== undefined && /^[a-z_]{1,63}$/.test(statement.name)
      ? statement.name
      : fingerprint(statement.text);

  return {
    metrics,

    began(source, method, traceparent) {
      if (tracer !== undefined && source.note !== undefined) tracer.begin(source.note, method, traceparent);
    },

    operation: ({ note }) => (tracer === undefined || note === undefined ? undefined : tracer.operation(note)),

    answered({ source, route, method, status, began }) {
      const milliseconds = performance.now() - began;
      const { operation, name, code } = source.note ?? {};
      metrics.request(route, method, status, milliseconds / 1000);
      if (route === '/graphql') metrics.operation(operation ?? 'none', code ?? 'OK', milliseconds / 1000);
      if (tracer !== undefined && source.note !== undefined) tracer.end(source.note, { route, status });
      const level = QUIET.has(route) ? 'debug' : status >= 500 ? 'warn' : 'info';
      if (!isLogged(level)) return;
      log(level, 'request', {
        requestId: source.requestId,
        method,
        route,
        operation,
        name,
        status,
        code: code ?? (status < 400 ? 'OK' : undefined),
        ms: Math.round(milliseconds * 10) / 10,
        ip: logAddresses ? source.ip : undefined,
      });
    },

    observe(step, began, ended, source, statement) {
      const milliseconds = ended - began;
      metrics.step(step, milliseconds / 1000);
      if (tracer !== undefined && source.note !== undefined) {
        tracer.step(source.note, step, began, ended, statement && nameOf(statement));
      }
      if (statement === undefined || milliseconds <= slowQueryMilliseconds) return;
      metrics.countSlowQuery();
      slow.log('warn', 'slow_query', {
        requestId: source.requestId,
        statement: nameOf(statement),
        operation: source.note?.operation,
        ms: Math.round(milliseconds),
      });
    },
  };
}
