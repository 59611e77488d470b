import { availableParallelism } from 'node:os';
import { hashRaw } from '@node-rs/argon2';
import { AppError } from '../platform/app-error.ts';
import { SQLSTATE } from '../platform/errors.ts';

/** How SQL wants a password hashed. */
export interface HashRecipe {
  readonly scheme: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly salt: Buffer;
}

export interface PasswordHasher {
  /** Computes the tag of a password; throws UNAVAILABLE when too many wait already. */
  hash(password: string, recipe: HashRecipe): Promise<Buffer>;
  /** Hashes computed so far: the tests compare it with the attempts that were counted. */
  readonly computed: number;
  /** How many wait for their turn. */
  readonly waiting: number;
}

export interface PasswordHasherOptions {
  /** Hashes at a time. Each takes one thread and `memory` KiB. Defaults to the number of processors. */
  readonly atOnce?: number;
  /** How many may wait for their turn. Defaults to 200: at 15 ms each on two processors the last waits 1.5 s. */
  readonly waiting?: number;
  /** Told how long each waited and took, in seconds. Defaults to nothing. */
  readonly observe?: (stage: 'waiting' | 'computing', seconds: number) => void;
  /** Told of each that was refused because too many waited. Defaults to nothing. */
  readonly onOverload?: () => void;
}

/** Longest password that is hashed at all; SQL's limit is lower, this one keeps a wrong setting from costing memory. */
const MAXIMUM_BYTES = 4096;
/** `Algorithm.Argon2id` of the package: a const enum, which cannot be imported where types are only stripped. */
const ARGON2ID = 2;

/** Half a surrogate pair has no bytes of its own, so it cannot be told from another. */
export const isHashable = (password: string): boolean =>
  password.isWellFormed() && Buffer.byteLength(password) <= MAXIMUM_BYTES;

const within = (value: unknown, minimum: number, maximum: number): number => {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < minimum || value > maximum) {
    throw new Error('a parameter of the password hash is out of range');
  }
  return value;
};

function compute(password: string, { scheme, parameters, salt }: HashRecipe): Promise<Buffer> {
  if (scheme !== 'argon2id') throw new Error('unknown password scheme');
  // Taken exactly as received: no normalisation, no cut.
  return hashRaw(Buffer.from(password), {
    algorithm: ARGON2ID,
    memoryCost: within(parameters.memory, 8, 1_048_576),
    timeCost: within(parameters.passes, 1, 100),
    parallelism: within(parameters.parallelism, 1, 16),
    outputLen: within(parameters.length, 16, 64),
    salt,
  });
}

/** Hashes on the thread pool, a bounded number at a time: more would only take the processors from everybody else. */
export function createPasswordHasher(options: PasswordHasherOptions = {}): PasswordHasher {
  const atOnce = options.atOnce ?? Math.max(1, availableParallelism());
  const limit = options.waiting ?? 200;
  const { observe, onOverload } = options;
  const queue: (() => void)[] = [];
  let running = 0;
  let computed = 0;

  return {
    get computed() {
      return computed;
    },
    get waiting() {
      return queue.length;
    },
    async hash(password, recipe) {
      if (!isHashable(password)) throw new AppError(SQLSTATE.malformedText, 'the password cannot be hashed');
      const asked = performance.now();
      if (running >= atOnce) {
        if (queue.length >= limit) {
          onOverload?.();
          throw new AppError(SQLSTATE.overloaded, 'too many passwords wait to be hashed');
        }
        await new Promise<void>((resolve) => queue.push(resolve));
      } else {
        running += 1;
      }
      try {
        computed += 1;
        const began = performance.now();
        observe?.('waiting', (began - asked) / 1000);
        const tag = await compute(password, recipe);
        observe?.('computing', (performance.now() - began) / 1000);
        return tag;
      } finally {
        // The turn goes straight to the next in line, so nobody can slip in between.
        const next = queue.shift();
        if (next === undefined) running -= 1;
        else next();
      }
    },
  };
}
