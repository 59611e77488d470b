import { readFileSync, realpathSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { StartupError } from '../startup-error.ts';

/** The system account that runs PostgreSQL when root starts us: PostgreSQL refuses to run as root. */
export interface Account {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/** Whether another account than our own must run PostgreSQL. */
export const isRoot = process.getuid?.() === 0;

function accounts(): Account[] {
  return readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'))
    .filter((fields) => fields.length >= 4)
    .map(([name = '', , uid, gid]) => ({ name, uid: Number(uid), gid: Number(gid) }));
}

/**
 * The account for PostgreSQL, or undefined when we are not root and it runs as ourselves. An existing cluster keeps
 * the account it was made by: its files belong to it. A new one gets `postgres`, else `nobody`.
 */
export function serverAccount(clusterDirectory: string): Account | undefined {
  if (!isRoot) return undefined;
  const owner = statSync(clusterDirectory, { throwIfNoEntry: false })?.uid;
  const known = accounts();
  const found =
    owner === undefined || owner === 0
      ? (known.find(({ name }) => name === 'postgres') ?? known.find(({ name }) => name === 'nobody'))
      : known.find(({ uid }) => uid === owner);
  if (found && found.uid !== 0) return found;
  // A bare uid would not do: PostgreSQL looks its own name up.
  throw new StartupError(
    owner
      ? `${clusterDirectory} belongs to user ${owner}, who has no name here: start as that user`
      : 'as root, PostgreSQL needs an account named postgres or nobody to run as: start as an ordinary user',
  );
}

/** Whether `account` may pass through `path` and all folders above it. Without an account: ourselves, so yes. */
export function isReachable(path: string, account: Account | undefined): boolean {
  if (!account) return true;
  for (let folder = realpathSync(path); ; folder = dirname(folder)) {
    const { mode, uid, gid } = statSync(folder);
    const may = uid === account.uid ? mode & 0o100 : gid === account.gid ? mode & 0o010 : mode & 0o001;
    if (!may) return false;
    if (folder === dirname(folder)) return true;
  }
}
