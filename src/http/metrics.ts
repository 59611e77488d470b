import type pg from 'pg';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { PasswordHasher } from '../identity/password.ts';

export interface Metrics {
  /** One answered request. `route` is a route of ours, never a path that a client made up. */
  observe(route: string, method: string, status: number, seconds: number): void;
  countError(code: string): void;
  /** Text in the format of Prometheus. */
  read(): Promise<string>;
  readonly contentType: string;
}

export interface Measured {
  readonly pool: pg.Pool;
  readonly hasher: PasswordHasher;
}

const SECONDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 30];

/** Metrics of one server. Labels come from our own names only: nothing of a person, nothing without bound. */
export function createMetrics({ pool, hasher }: Measured): Metrics {
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const requests = new Counter({
    name: 'safetypin_http_requests_total',
    help: 'Requests answered.',
    labelNames: ['route', 'method', 'status'],
    registers,
  });
  const durations = new Histogram({
    name: 'safetypin_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the last of its answer.',
    labelNames: ['route'],
    buckets: SECONDS,
    registers,
  });
  const errors = new Counter({
    name: 'safetypin_errors_total',
    help: 'Errors told to clients, by code of the register.',
    labelNames: ['code'],
    registers,
  });
  new Gauge({
    name: 'safetypin_pool_connections',
    help: 'Connections to the database, by state; waiting are requests without one.',
    labelNames: ['state'],
    registers,
    collect() {
      this.set({ state: 'idle' }, pool.idleCount);
      this.set({ state: 'used' }, pool.totalCount - pool.idleCount);
      this.set({ state: 'waiting' }, pool.waitingCount);
    },
  });
  new Gauge({
    name: 'safetypin_password_hashes',
    help: 'Password hashes computed since the start.',
    registers,
    collect() {
      this.set(hasher.computed);
    },
  });

  return {
    observe(route, method, status, seconds) {
      requests.inc({ route, method, status });
      durations.observe({ route }, seconds);
    },
    countError: (code) => errors.inc({ code }),
    read: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
