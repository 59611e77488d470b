import type pg from 'pg';

const BEAT_MILLISECONDS = 2000;

/**
 * Lets replicas know how old their copy is, by one function every two seconds that writes only while there is one.
 * Returns what stops it.
 */
export function startHeartbeat(pool: pg.Pool): () => Promise<void> {
  let under: Promise<unknown> = Promise.resolve();
  const timer = setInterval(() => {
    // A beat that fails needs no word: the database being away is noticed by every request.
    under = pool.query('select platform.beat()').catch(() => {});
  }, BEAT_MILLISECONDS);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await under;
  };
}
