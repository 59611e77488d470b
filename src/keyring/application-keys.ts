// The application's half of the key, and what is derived from it. In development a file beside the data; a KMS later.
import { createHmac, hkdfSync, randomBytes } from 'node:crypto';
import { chmod, link, mkdir, readFile, stat, unlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { StartupError } from '../platform/startup-error.ts';

export interface ApplicationKeys {
  /** The application's half of the key-encryption key: 32 bytes. Leaves this process sealed only. */
  half: Buffer;
  /** Under which assertions are made (passkey, OIDC, SAML): 32 bytes. */
  assertion: Buffer;
  /** A further key of 32 bytes for a purpose, by HKDF-SHA-256 (RFC 5869). */
  derive(purpose: string): Buffer;
}

/** Reads the key file, and makes it at the first start. Refuses a file that others can read, or that is damaged. */
export async function loadApplicationKeys(dataDirectory: string): Promise<ApplicationKeys> {
  const path = join(dataDirectory, 'keys', 'application.json');
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const half = (await read(path)) ?? (await make(path));
  const derive = (purpose: string) => Buffer.from(hkdfSync('sha256', half, 'safetypin', purpose, 32));
  return { half, assertion: derive('assertion'), derive };
}

async function read(path: string): Promise<Buffer | null> {
  let text: string;
  try {
    if ((await stat(path)).mode & 0o077) {
      throw new StartupError(`${path} can be read by others: chmod 600 it, and replace the key if that matters`);
    }
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
  try {
    const { half, check } = JSON.parse(text) as { half: string; check: string };
    const key = Buffer.from(half, 'base64');
    if (key.length === 32 && checkOf(key) === check) return key;
  } catch {
    // falls through: damaged
  }
  throw new StartupError(`${path} is damaged: put it back from its backup. Without it sealed values cannot be opened`);
}

async function make(path: string): Promise<Buffer> {
  const key = randomBytes(32);
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  await writeFile(draft, `${JSON.stringify({ half: key.toString('base64'), check: checkOf(key) }, null, 2)}\n`, {
    mode: 0o600,
    flush: true,
  });
  await chmod(draft, 0o600);
  try {
    // A link appears whole or not at all, and never over a key that another process made first.
    await link(draft, path);
    return key;
  } catch (error) {
    const other = await read(path);
    if (!other) throw error;
    return other;
  } finally {
    await unlink(draft);
  }
}

function checkOf(key: Buffer): string {
  return createHmac('sha256', key).update('safetypin key file').digest('base64').slice(0, 12);
}
