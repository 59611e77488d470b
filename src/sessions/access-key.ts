import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
} from 'node:crypto';
import { link, mkdir, open, readFile, rename, unlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** A key that signs or has signed access tokens. `retiredAt` is set when a newer one took over. */
export interface AccessKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly publicKey: KeyObject;
  readonly createdAt: Date;
  readonly retiredAt: Date | null;
}

/** A public key as JWKS shows it. */
export interface PublicJwk {
  readonly kty: string;
  readonly crv: string;
  readonly x: string;
  readonly y: string;
  readonly kid: string;
  readonly alg: 'ES256';
  readonly use: 'sig';
}

interface StoredKey {
  readonly pem: string;
  readonly createdAt: string;
  readonly retiredAt: string | null;
}

const FILE = 'access-token.json';

/** Where the keys of this data directory lie. */
export const accessKeyFile = (dataDirectory: string): string => join(dataDirectory, 'keys', FILE);

/** JWK of the public half only; `kid` is the RFC 7638 thumbprint, so that equal keys have equal names everywhere. */
export function publicJwk(publicKey: KeyObject): PublicJwk {
  const { crv, kty, x, y } = publicKey.export({ format: 'jwk' });
  if (kty !== 'EC' || crv !== 'P-256' || x === undefined || y === undefined) throw new Error('not a P-256 key');
  const kid = createHash('sha256').update(JSON.stringify({ crv, kty, x, y })).digest('base64url');
  return { kty, crv, x, y, kid, alg: 'ES256', use: 'sig' };
}

function toKey({ pem, createdAt, retiredAt }: StoredKey): AccessKey {
  const privateKey = createPrivateKey(pem);
  const publicKey = createPublicKey(privateKey);
  const { kid } = publicJwk(publicKey);
  return {
    kid,
    privateKey,
    publicKey,
    createdAt: new Date(createdAt),
    retiredAt: retiredAt === null ? null : new Date(retiredAt),
  };
}

function toStored(key: AccessKey): StoredKey {
  const pem = key.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { pem, createdAt: key.createdAt.toISOString(), retiredAt: key.retiredAt?.toISOString() ?? null };
}

/** Writes beside the file and moves it in place whole; `first` fails with EEXIST if somebody else was faster. */
async function write(file: string, keys: readonly AccessKey[], first: boolean): Promise<void> {
  await mkdir(dirname(file), { recursive: true, mode: 0o700 });
  const draft = `${file}.${randomUUID()}`;
  const handle = await open(draft, 'wx', 0o600);
  try {
    await handle.writeFile(JSON.stringify({ keys: keys.map(toStored) }));
    await handle.sync();
  } finally {
    await handle.close();
  }
  if (!first) return rename(draft, file);
  await link(draft, file).finally(() => unlink(draft));
}

function newKey(): AccessKey {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  return { kid: publicJwk(publicKey).kid, privateKey, publicKey, createdAt: new Date(), retiredAt: null };
}

async function read(file: string): Promise<AccessKey[] | null> {
  try {
    const { keys } = JSON.parse(await readFile(file, 'utf8')) as { keys: StoredKey[] };
    return keys.map(toKey);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}

/** Reads the keys, newest first; makes the first one if there is none. Two processes that start at once end with the same key. */
export async function loadAccessKeys(dataDirectory: string): Promise<AccessKey[]> {
  const file = accessKeyFile(dataDirectory);
  const existing = await read(file);
  if (existing !== null) return existing;
  try {
    const keys = [newKey()];
    await write(file, keys, true);
    return keys;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    const made = await read(file);
    if (made === null) throw error;
    return made;
  }
}

/** Adds a new signing key; older ones are kept for `keepSeconds` after they were replaced, so that their tokens live out. */
export async function rotateAccessKeys(dataDirectory: string, keepSeconds: number): Promise<AccessKey[]> {
  const now = new Date();
  const older = (await loadAccessKeys(dataDirectory))
    .map((key) => ({ ...key, retiredAt: key.retiredAt ?? now }))
    .filter((key) => key.retiredAt.getTime() + keepSeconds * 1000 >= now.getTime());
  const keys = [newKey(), ...older];
  await write(accessKeyFile(dataDirectory), keys, false);
  return keys;
}
