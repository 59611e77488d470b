// Nothing but Argon2id, as many at a time as there are processors.
import { availableParallelism } from 'node:os';
import { createPasswordHasher } from '../../src/identity/password.ts';

export interface HashOrder {
  readonly parameters: Record<string, unknown>;
  readonly seconds: number;
}

process.on('message', async ({ parameters, seconds }: HashOrder) => {
  const hasher = createPasswordHasher();
  const recipe = { scheme: 'argon2id', parameters, salt: Buffer.alloc(16, 1) };
  const began = performance.now();
  const end = began + seconds * 1000;
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      while (performance.now() < end) await hasher.hash('a sentence to be hashed', recipe);
    }),
  );
  process.send?.(hasher.computed / ((performance.now() - began) / 1000));
});
