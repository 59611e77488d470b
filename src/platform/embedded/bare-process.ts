import { existsSync } from 'node:fs';

/** PostgreSQL must see no setting of ours: PGHOST, PGDATA and their kin would change what it does. */
export const bareEnvironment = { PATH: '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/**
 * util-linux can ask the kernel to end a program gently when we are killed, so that nothing is left behind. Where it
 * is missing, the next start clears that away. The program is meant to run in a session of its own (`detached`):
 * Ctrl-C in the terminal is for us, and we end requests before the database.
 */
export function withParent(signal: string, command: string, args: readonly string[]): [string, string[]] {
  const setpriv = ['/usr/bin/setpriv', '/bin/setpriv'].find((path) => existsSync(path));
  return setpriv ? [setpriv, ['--pdeathsig', signal, '--', command, ...args]] : [command, [...args]];
}
