// Random choices that can be made again.
import { loadConfig } from '../../src/config.ts';

const { SAFETYPIN_TEST_SEED } = process.env;

/**
 * The same in each `npm test`, so that what is red is red because of a change; another one in each `npm run test:full`,
 * which looks further. What fails tells its seed: SAFETYPIN_TEST_SEED runs it again.
 */
export const SEED: number =
  SAFETYPIN_TEST_SEED === undefined
    ? loadConfig().testScale < 1
      ? 20261122
      : (crypto.getRandomValues(new Uint32Array(1))[0] as number)
    : Number(SAFETYPIN_TEST_SEED);

/** mulberry32: numbers below a limit, the same from the same seed. */
export function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}
