import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { isReachable, isRoot, serverAccount } from './embedded/account.ts';
import { explainFileError, StartupError } from './startup-error.ts';

const PUBLIC_PLACE = '/var/tmp/safetypin-';
const CURE = 'choose another folder with SAFETYPIN_DATA_DIR';

/** What we make in a data directory, finished or not. */
const OURS = /^(secrets\.json|location\.json|socket|keys|postgres|postgres\.log|embedded-[\w.-]+)(\.new|\.\d+)?$/;

function isOurs(entry: string): boolean {
  return OURS.test(entry);
}

/** Some of our names are common ones, so a folder of another program may have one; the secrets tell. */
function belongsToOthers(entries: readonly string[]): boolean {
  return !entries.includes('secrets.json') && !entries.every(isOurs);
}

/** Makes the data directory, private to us, and answers its real path. Refuses a folder that holds other things. */
export function openDataDirectory(path: string): string {
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 });
    if (belongsToOthers(readdirSync(path))) {
      throw new StartupError(`${path} holds files that are not SafetyPin's: ${CURE}`);
    }
    const { mode, uid } = statSync(path);
    // As root, PostgreSQL's own account passes through this folder; what is in it is closed one by one.
    const wanted = isRoot ? 0o711 : 0o700;
    if (uid === process.getuid?.() && (mode & 0o777) !== wanted) chmodSync(path, wanted);
    return realpathSync(path);
  } catch (error) {
    throw explainFileError(error, path, CURE);
  }
}

/** A folder of root's own, where every account may pass: for what PostgreSQL's account cannot reach in root's clone. */
export function publicPlace(forPath: string): string {
  const place = `${PUBLIC_PLACE}${createHash('sha256').update(forPath).digest('hex').slice(0, 16)}`;
  mkdirSync(place, { recursive: true, mode: 0o755 });
  // The name can be guessed: somebody else may have made it first, and would own our database.
  const found = lstatSync(place);
  if (!found.isDirectory() || found.uid !== 0 || (found.mode & 0o022) !== 0) {
    throw new StartupError(`${place} exists and is not root's alone: remove it, or start as an ordinary user`);
  }
  chmodSync(place, 0o755);
  return place;
}

interface Location {
  readonly cluster: string;
}

function rememberedLocation(dataDirectory: string): string | undefined {
  const file = join(dataDirectory, 'location.json');
  if (!existsSync(file)) return undefined;
  return (JSON.parse(readFileSync(file, 'utf8')) as Location).cluster;
}

/** Where the PostgreSQL cluster of a data directory is, made or not. */
export function clusterDirectory(dataDirectory: string): string {
  return rememberedLocation(dataDirectory) ?? join(dataDirectory, 'postgres');
}

/**
 * Decides once where a new cluster goes: into the data directory, or under /var/tmp when root starts us and the
 * account that runs PostgreSQL cannot get there (a clone in a 0700 home).
 */
export function placeCluster(dataDirectory: string): string {
  const chosen = clusterDirectory(dataDirectory);
  if (rememberedLocation(dataDirectory) !== undefined) {
    // Cleaners of /var/tmp remove what is old. An empty database in its place would be silent loss.
    if (existsSync(join(chosen, 'PG_VERSION'))) return chosen;
    throw new StartupError(
      `the database was at ${chosen} and is gone: restore it, or remove ${dataDirectory} to begin anew`,
    );
  }
  const account = serverAccount(chosen);
  if (isReachable(dataDirectory, account)) return chosen;
  if (existsSync(chosen)) {
    const cure = 'open the folders above it to others (chmod o+x), or start as an ordinary user';
    throw new StartupError(`${account?.name}, who runs PostgreSQL, cannot get to ${chosen} any more: ${cure}`);
  }
  return join(publicPlace(dataDirectory), 'postgres');
}

/**
 * Moves a cluster under /var/tmp out of the way whose data directory was removed, and its passwords with it.
 * It stays until the next one is moved.
 */
export function setAside(dataDirectory: string, cluster: string, say: (line: string) => void): void {
  if (!isOutside(dataDirectory, cluster) || rememberedLocation(dataDirectory) || !existsSync(cluster)) return;
  rmSync(`${cluster}.abandoned`, { recursive: true, force: true });
  renameSync(cluster, `${cluster}.abandoned`);
  say(`moved the database of a data directory that was removed to ${cluster}.abandoned`);
}

function isOutside(dataDirectory: string, cluster: string): boolean {
  return cluster !== join(dataDirectory, 'postgres');
}

/** Remembers a cluster outside the data directory, after it was made, and says where it is. */
export function rememberCluster(dataDirectory: string, cluster: string, say: (line: string) => void): void {
  if (!isOutside(dataDirectory, cluster)) return;
  const file = join(dataDirectory, 'location.json');
  writeFileSync(`${file}.new`, `${JSON.stringify({ cluster } satisfies Location)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  say(`the database is at ${cluster}, since the account that runs PostgreSQL cannot enter ${dataDirectory}`);
}

/** Deletes the database with its secrets, keys and log, wherever they are. Only for the owner of the directory. */
export function removeDataDirectory(dataDirectory: string): void {
  if (!existsSync(dataDirectory)) return;
  const path = openDataDirectory(dataDirectory);
  const cluster = clusterDirectory(path);
  if (cluster.startsWith(PUBLIC_PLACE)) rmSync(dirname(cluster), { recursive: true, force: true });
  for (const entry of readdirSync(path).filter(isOurs)) rmSync(join(path, entry), { recursive: true, force: true });
}
