// A PostgreSQL that the system's packages brought. The embedded builds cannot compile statements (JIT) and have an old
// OpenSSL; a distribution's can and has not.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

const HOME = '/usr/lib/postgresql';

/** The newest one with JIT that we support, or undefined. */
export function distributionWithJit(): string | undefined {
  const majors = existsSync(HOME) ? readdirSync(HOME).map(Number) : [];
  return majors
    .filter((major) => major >= 15 && major <= 18)
    .sort((a, b) => b - a)
    .map((major) => join(HOME, String(major)))
    .find((folder) => existsSync(join(folder, 'bin', 'postgres')) && existsSync(join(folder, 'lib', 'llvmjit.so')));
}
