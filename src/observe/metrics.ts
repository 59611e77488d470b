import type pg from 'pg';
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client';
import type { Step } from '../graphql/observe.ts';
import type { PasswordHasher } from '../identity/password.ts';
import type { EnvelopeSealer } from '../keyring/envelope.ts';
import type { Heartbeat } from '../platform/heartbeat.ts';
import { beginAtNothing, countEvents, Figures } from './figures.ts';
import { Counts, type Description, Durations, figure, type Reading } from './series.ts';

export interface Measured {
  readonly pool: pg.Pool;
  /** The login that counts events of the audit trail. */
  readonly auditor: pg.ClientConfig;
  readonly hasher: PasswordHasher;
  readonly sealer: EnvelopeSealer;
  readonly heartbeat: Heartbeat;
}

/** Metrics of one server. Labels come from our own names only: nothing of a person, nothing without bound. */
export interface Metrics {
  /** One answered request. `route` is a route of ours, never a path that a client made up. */
  request(route: string, method: string, status: number, seconds: number): void;
  /** One GraphQL operation, by its first field at the root. */
  operation(operation: string, code: string, seconds: number): void;
  countError(code: string): void;
  countLimit(limit: string): void;
  countFault(sqlstate: string, isRecorded: boolean): void;
  step(step: Step, seconds: number): void;
  countSlowQuery(): void;
  passwordHash(stage: 'waiting' | 'computing', seconds: number): void;
  /** Text in the format of Prometheus, at most a second old. */
  read(): Promise<string>;
  readonly contentType: string;
  readonly registry: Registry;
  close(): Promise<void>;
}

const REMEMBER_MILLISECONDS = 1000;
/** Operations with a name of their own; a host application can have more. */
const OPERATIONS = 200;

function poolStates(pool: pg.Pool): readonly Reading[] {
  const { idleCount, totalCount, waitingCount } = pool;
  return [
    [idleCount, 'idle'],
    [totalCount - idleCount, 'used'],
    [waitingCount, 'waiting'],
  ];
}

export function createMetrics({ pool, auditor, hasher, sealer, heartbeat }: Measured): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const keep = <Kept extends { readonly metric: Metric }>(kept: Kept): Kept => {
    registry.registerMetric(kept.metric);
    return kept;
  };
  const counts = (name: string, help: string, ...labels: string[]): Counts => keep(new Counts({ name, help, labels }));
  const durations = (name: string, help: string, label: string): Durations =>
    keep(new Durations({ name, help, labels: [label] }));
  const figures = (description: Description, read: () => number | undefined | readonly Reading[]): void =>
    registry.registerMetric(figure(description, read));

  const requests = counts(
    'safetypin_http_requests_total',
    'Requests answered, by route of ours, method and HTTP status.',
    'route',
    'method',
    'status',
  );
  const requestSeconds = durations(
    'safetypin_http_request_duration_seconds',
    'Time from the first byte of a request to the last of its answer, by route.',
    'route',
  );
  const operations = counts(
    'safetypin_graphql_operations_total',
    'GraphQL operations, by their first field at the root and the code of their first error (OK without one).',
    'operation',
    'code',
  );
  const operationSeconds = durations(
    'safetypin_graphql_operation_duration_seconds',
    'Time of a GraphQL operation, by its first field at the root.',
    'operation',
  );
  const errors = counts('safetypin_errors_total', 'Errors told to clients, by code of the register.', 'code');
  const faults = counts(
    'safetypin_faults_total',
    'Errors that should not have happened, by SQLSTATE (XX000 outside SQL), and whether the audit trail has each.',
    'sqlstate',
    'recorded',
  );
  const limits = counts('safetypin_limit_hits_total', 'Times a limit was reached, by limit.', 'limit');
  const steps = durations(
    'safetypin_database_step_duration_seconds',
    'Time of the steps of a transaction: wait (for a connection), open (the request), statement, commit.',
    'step',
  );
  const slow = counts(
    'safetypin_slow_queries_total',
    'Statements that took longer than DB_SLOW_QUERY_THRESHOLD; the log names them.',
  );
  figures(
    {
      name: 'safetypin_pool_connections',
      help: 'Connections of this process to the database, by state; waiting are requests without one.',
      labels: ['state'],
    },
    () => poolStates(pool),
  );
  figures({ name: 'safetypin_pool_size', help: 'Most connections that this process makes.' }, () => pool.options.max);
  const hashes = durations(
    'safetypin_password_hash_duration_seconds',
    'Time of a password hash, by stage: waiting for its turn, computing.',
    'stage',
  );
  figures(
    { name: 'safetypin_password_hashes_waiting', help: 'Passwords that wait for their turn to be hashed.' },
    () => hasher.waiting,
  );

  const series = {
    events: counts(
      'safetypin_audit_events_total',
      'Events of the audit trail since this process began to count, by action. The same from every process: take the max, not the sum.',
      'action',
    ),
    signIns: counts(
      'safetypin_sign_ins_total',
      'Sign-ins by outcome and reason, counted in the audit trail. The same from every process: take the max, not the sum.',
      'outcome',
      'reason',
    ),
    registrations: counts('safetypin_registrations_total', 'Registrations, counted in the audit trail.', 'outcome'),
    verifications: counts(
      'safetypin_verifications_total',
      'Proofs of mail addresses, counted in the audit trail.',
      'outcome',
    ),
    resets: counts('safetypin_password_resets_total', 'Resets of passwords, counted in the audit trail.', 'outcome'),
    locks: counts(
      'safetypin_account_locks_total',
      'Accounts locked for a while after failures, counted in the audit trail.',
    ),
  };
  beginAtNothing(series);
  const database = new Figures({ pool, auditor, onEvents: (events) => countEvents(series, events) });
  // Events are counted from now on, not from when somebody first looks.
  void database.refresh();
  figures({ name: 'safetypin_jobs', help: 'Jobs in the queue, by task and state.', labels: ['task', 'state'] }, () =>
    database.queue.map(({ jobs, task, state }): Reading => [Number(jobs), task, state]),
  );
  figures(
    {
      name: 'safetypin_job_oldest_age_seconds',
      help: 'How long the oldest job of a task has been in its state.',
      labels: ['task', 'state'],
    },
    () => database.queue.map(({ oldest_seconds: age, task, state }): Reading => [age, task, state]),
  );
  figures(
    { name: 'safetypin_database_up', help: 'Whether the last question for these figures was answered (1) or not (0).' },
    () => (database.isUp === undefined ? undefined : Number(database.isUp)),
  );
  figures(
    { name: 'safetypin_figures_age_seconds', help: 'How old the figures that come from the database are.' },
    () => database.age,
  );
  figures(
    {
      name: 'safetypin_transport_key_age_seconds',
      help: 'How long ago this process was given the transport key it uses; replaced daily.',
    },
    () => sealer.keyAge,
  );
  figures(
    { name: 'safetypin_heartbeat_age_seconds', help: 'How long ago the last heartbeat of this process succeeded.' },
    () => heartbeat.age,
  );

  const named = new Set<string>();
  const nameOf = (operation: string): string => {
    if (named.has(operation)) return operation;
    if (named.size >= OPERATIONS) return 'other';
    named.add(operation);
    return operation;
  };
  let text: Promise<string> | undefined;
  let readAt = Number.NEGATIVE_INFINITY;

  return {
    request(route, method, status, seconds) {
      requests.add(1, route, method, String(status));
      requestSeconds.observe(seconds, route);
    },
    operation(operation, code, seconds) {
      const name = nameOf(operation);
      operations.add(1, name, code);
      operationSeconds.observe(seconds, name);
    },
    countError: (code) => errors.add(1, code),
    countLimit: (limit) => limits.add(1, limit),
    countFault: (sqlstate, isRecorded) => faults.add(1, sqlstate, String(isRecorded)),
    step: (step, seconds) => steps.observe(seconds, step),
    countSlowQuery: () => slow.add(1),
    passwordHash: (stage, seconds) => hashes.observe(seconds, stage),
    read() {
      const now = performance.now();
      if (text === undefined || now - readAt >= REMEMBER_MILLISECONDS) {
        readAt = now;
        text = database.refresh().then(() => registry.metrics());
      }
      return text;
    },
    contentType: registry.contentType,
    registry,
    close: () => database.close(),
  };
}
