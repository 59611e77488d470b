import type pg from 'pg';

const BEAT_MILLISECONDS = 2000;

export interface Heartbeat {
  /** Seconds since the last beat that succeeded; undefined before the first. */
  readonly age: number | undefined;
  stop(): Promise<void>;
}

/**
 * Lets replicas know how old their copy is, by one function every two seconds that writes only while there is one.
 */
export function startHeartbeat(pool: pg.Pool): Heartbeat {
  let under: Promise<unknown> = Promise.resolve();
  let last: number | undefined;
  const timer = setInterval(() => {
    // A beat that fails needs no word: the database being away is noticed by every request.
    under = pool.query('select platform.beat()').then(
      () => {
        last = performance.now();
      },
      () => {},
    );
  }, BEAT_MILLISECONDS);
  timer.unref();
  return {
    get age() {
      return last === undefined ? undefined : (performance.now() - last) / 1000;
    },
    async stop() {
      clearInterval(timer);
      await under;
    },
  };
}
