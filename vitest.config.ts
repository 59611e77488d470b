import { defineConfig } from 'vitest/config';
import { loadConfig } from './src/config.ts';
import * as parts from './tests/versions/parts.ts';
import { hasOthers, SHIPPED } from './tests/versions/servers.ts';

const { testPostgres } = loadConfig();
const others = hasOthers ? testPostgres : [];
if (others.length < testPostgres.length) {
  process.stderr.write(`safetypin: no PostgreSQL ${testPostgres.join(', ')} is packaged for this machine: left out\n`);
}

/** Tests that share one PostgreSQL of a version. */
const onPostgres = (
  postgres: number,
  test: { name: string; include: string[]; exclude: string[] },
  settings: Record<string, string> = {},
) => ({
  extends: true as const,
  test: {
    ...test,
    provide: { postgres, settings },
    globalSetup: ['tests/support/global-setup.ts'],
    setupFiles: ['tests/support/setup.ts'],
    testTimeout: 30_000,
    hookTimeout: 60_000,
    // Half of what a test does is to wait for PostgreSQL.
    maxWorkers: 2,
    // Not 0: with one worker, as on two processors, vitest would put these files last.
    sequence: { groupOrder: 1 },
  },
});

export default defineConfig({
  test: {
    // `npm run test:coverage`. What runs in processes of its own (starts, killed workers) is not counted.
    coverage: { provider: 'v8', include: ['src/**'], reporter: ['text', 'html'] },
    projects: [
      onPostgres(SHIPPED, {
        name: 'main',
        include: ['tests/**/*.test.ts'],
        exclude: ['**/node_modules/**', 'tests/runtime/**'],
      }),
      ...others.flatMap((major) => [
        onPostgres(major, { name: `pg${major}`, include: parts.include, exclude: parts.exclude }),
        onPostgres(
          major,
          { name: `pg${major}-workers`, include: parts.withWorkers, exclude: [] },
          parts.workers(major),
        ),
      ]),
      {
        // Whole starts and stops of real processes: after everything else, since they want the processors to
        // themselves. Two at once, for they mostly wait.
        extends: true,
        test: {
          name: 'runtime',
          include: ['tests/runtime/**/*.test.ts'],
          provide: { postgres: SHIPPED },
          testTimeout: 120_000,
          hookTimeout: 120_000,
          maxWorkers: 2,
          sequence: { groupOrder: 2 },
        },
      },
    ],
  },
});
