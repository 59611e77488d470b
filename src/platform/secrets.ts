import { randomBytes } from 'node:crypto';
import { existsSync, linkSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { codeOf, StartupError } from './startup-error.ts';

/** Passwords of the database logins, made at the first start. */
export interface Secrets {
  readonly postgres: string;
  readonly safetypin_authenticator: string;
  readonly safetypin_jobs: string;
  readonly safetypin_auditor: string;
}

const LOGINS = ['postgres', 'safetypin_authenticator', 'safetypin_jobs', 'safetypin_auditor'] as const;

function assertSecrets(value: unknown, file: string): asserts value is Secrets {
  const record = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>;
  const missing = LOGINS.find((login) => typeof record[login] !== 'string' || record[login] === '');
  if (missing) throw new StartupError(`${file} has no password for ${missing}: restore the file`);
}

/** Two servers may start at once beside a database of your own: the first file stays, and both read it. */
function create(file: string): void {
  const fresh = Object.fromEntries(LOGINS.map((login) => [login, randomBytes(32).toString('base64url')]));
  const unfinished = `${file}.${process.pid}`;
  writeFileSync(unfinished, `${JSON.stringify(fresh, null, 2)}\n`, { mode: 0o600 });
  try {
    linkSync(unfinished, file);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
  } finally {
    rmSync(unfinished);
  }
}

/** Reads `secrets.json` of a data directory, and makes it when it is not there. Never readable by others. */
export function loadSecrets(dataDirectory: string): Secrets {
  const file = join(dataDirectory, 'secrets.json');
  if (!existsSync(file)) create(file);
  if ((statSync(file).mode & 0o077) !== 0) {
    throw new StartupError(
      `${file} can be read by others, so its passwords are not secret any more: chmod 600 ${file}`,
    );
  }
  let secrets: unknown;
  try {
    secrets = JSON.parse(readFileSync(file, 'utf8'));
  } catch (cause) {
    throw new StartupError(`${file} cannot be read: restore the file`, { cause });
  }
  assertSecrets(secrets, file);
  return secrets;
}
