import type { RequestSource, Requests } from '../graphql/adaptor.ts';
import { sqlstateOf } from './errors.ts';
import { describeFault, logFault } from './log.ts';

/** Records of one process in flight; more are only logged, so that a flood of faults cannot take all connections. */
const AT_ONCE = 2;

/** SQLSTATE of a defect outside SQL. */
const INTERNAL_ERROR = 'XX000';

/** Logs an unexpected error and records it in a transaction of its own. Never fails, and nobody waits for it. */
export type RecordFault = (source: RequestSource, cause: unknown, where: string) => void;

/** `requests` is what the record is written through; the fault's own transaction is gone by then. */
export function faultRecorder(requests: Requests): RecordFault {
  let running = 0;
  return (source, cause, where) => {
    logFault(describeFault(cause, source.requestId, where));
    if (running >= AT_ONCE) return;
    running += 1;
    // Without the credential: it may be what the fault is about. The request id ties the two together.
    requests
      .inRequest({ ...source, credential: null }, (client) =>
        client.query({
          name: 'record_fault',
          text: 'select api_steps.record_fault($1, $2, $3)',
          values: [source.requestId, sqlstateOf(cause) ?? INTERNAL_ERROR, where.slice(0, 200)],
        }),
      )
      .catch((error: unknown) => logFault(describeFault(error, source.requestId, 'record_fault')))
      .finally(() => {
        running -= 1;
      });
  };
}
