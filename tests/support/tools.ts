// pg_dump and its kin, which the embedded builds leave out: a distribution's, where it is not older than the server.
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { inject } from 'vitest';

const HOME = '/usr/lib/postgresql';

/** A folder with pg_dump and pg_basebackup for the server of this run, or undefined. */
export function distributionTools(): string | undefined {
  const majors = existsSync(HOME) ? readdirSync(HOME).map(Number) : [];
  return majors
    .filter((major) => major >= inject('postgres'))
    .map((major) => join(HOME, String(major), 'bin'))
    .find((folder) => existsSync(join(folder, 'pg_dump')) && existsSync(join(folder, 'pg_basebackup')));
}
