import { setTimeout as sleep } from 'node:timers/promises';
import type { Requests } from '../graphql/adaptor.ts';
import { SQLSTATE, sqlstateOf } from '../platform/errors.ts';
import { log } from '../platform/log.ts';
import { nobody } from './request.ts';

/** What is missing while requests cannot be served: a word for whoever operates, and no secret. */
export type Readiness =
  | 'READY'
  | 'STOPPING'
  | 'DATABASE_UNREACHABLE'
  | 'DATABASE_SLOW'
  | 'NOT_MIGRATED'
  | 'KEY_UNAVAILABLE'
  | 'REPLICA_BEHIND'
  | 'DATABASE_REFUSES';

const ANSWER_MILLISECONDS = 2000;
const REMEMBER_MILLISECONDS = 500;
/** One connection that broke is no reason to take a server out: only what fails twice is missing. */
const AGAIN_MILLISECONDS = 100;

const MEANING: Readonly<Record<string, Readiness>> = {
  [SQLSTATE.unreachable]: 'DATABASE_UNREACHABLE',
  [SQLSTATE.keyUnavailable]: 'KEY_UNAVAILABLE',
  [SQLSTATE.canceled]: 'DATABASE_SLOW',
  OLDCP: 'REPLICA_BEHIND',
  // No such schema, table or function.
  '3F000': 'NOT_MIGRATED',
  '42P01': 'NOT_MIGRATED',
  '42883': 'NOT_MIGRATED',
};

/**
 * Whether requests can be served now: a request is opened, which needs the database, its migrations, and the login. The
 * answer is kept for a moment, so that asking often costs the database nothing.
 */
export function readinessOf(requests: Requests): () => Promise<Readiness> {
  let asked = 0;
  let answer: Promise<Readiness> = Promise.resolve('DATABASE_UNREACHABLE');
  let last: Readiness = 'READY';

  const attempt = (): Promise<Readiness> =>
    requests
      .inRequest(nobody(), (client) => client.query({ text: 'select api."current_user"()' }))
      .then(
        () => 'READY' as const,
        (error: unknown) => MEANING[sqlstateOf(error) ?? ''] ?? 'DATABASE_REFUSES',
      );

  async function ask(): Promise<Readiness> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<Readiness>((resolve) => {
      timer = setTimeout(() => resolve('DATABASE_SLOW'), ANSWER_MILLISECONDS);
    });
    const answered = attempt().then(async (first) => {
      if (first === 'READY') return first;
      await sleep(AGAIN_MILLISECONDS);
      return attempt();
    });
    const readiness = await Promise.race([answered, late]);
    clearTimeout(timer);
    if (readiness !== last) log(readiness === 'READY' ? 'info' : 'warn', 'readiness', { code: readiness });
    last = readiness;
    return readiness;
  }

  return () => {
    if (Date.now() - asked > REMEMBER_MILLISECONDS) {
      asked = Date.now();
      answer = ask();
    }
    return answer;
  };
}
