import type { RequestSource, Requests } from '../graphql/adaptor.ts';
import { sqlstateOf } from './errors.ts';
import { describeFault, logFault } from './log.ts';

/** Records of one process in flight; more are only logged, so that a flood of faults cannot take all connections. */
const AT_ONCE = 2;
/** Records of one process in a minute: whoever finds a fault must not fill the audit trail with it. */
const PER_MINUTE = 60;

/** SQLSTATE of a defect outside SQL. */
const INTERNAL_ERROR = 'XX000';

/** Logs an unexpected error and records it in a transaction of its own. Never fails, and nobody waits for it. */
export type RecordFault = (source: RequestSource, cause: unknown, where: string) => void;

export interface FaultRecorderOptions {
  /** What the record is written through; the fault's own transaction is gone by then. */
  readonly requests: Requests;
  /** Told the SQLSTATE of each fault, and whether it was recorded, for the metrics. Defaults to nothing. */
  readonly onFault?: (sqlstate: string, isRecorded: boolean) => void;
}

export function faultRecorder({ requests, onFault }: FaultRecorderOptions): RecordFault {
  let running = 0;
  let minute = 0;
  let recorded = 0;
  let leftOut = 0;

  async function record(source: RequestSource, sqlstate: string, where: string): Promise<void> {
    const before = leftOut;
    leftOut = 0;
    const write = (from: RequestSource): Promise<unknown> =>
      requests.inRequest(from, (client) =>
        client.query({
          name: 'record_fault',
          text: 'select api_steps.record_fault($1, $2, $3, $4)',
          values: [source.requestId, sqlstate, where.slice(0, 200), before],
        }),
      );
    try {
      // With the credential, so that the event says who. It may be what the fault is about: then nobody's will do, and
      // the request id ties the two together.
      await write(source).catch((error: unknown) => {
        if (source.credential === null) throw error;
        return write({ ...source, credential: null });
      });
    } catch (error) {
      leftOut += before + 1;
      logFault(describeFault(error, source.requestId, 'record_fault'));
    }
  }

  return (source, cause, where) => {
    logFault(describeFault(cause, source.requestId, where));
    const sqlstate = sqlstateOf(cause) ?? INTERNAL_ERROR;
    const now = Math.floor(Date.now() / 60_000);
    if (now !== minute) {
      minute = now;
      recorded = 0;
    }
    const isRecorded = running < AT_ONCE && recorded < PER_MINUTE;
    onFault?.(sqlstate, isRecorded);
    if (!isRecorded) {
      leftOut += 1;
      return;
    }
    running += 1;
    recorded += 1;
    void record(source, sqlstate, where).finally(() => {
      running -= 1;
    });
  };
}
