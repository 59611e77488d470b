// The application's half of the key, and what is derived from it, for one process.
import { hkdfSync } from 'node:crypto';
import { type Halves, type KeyProvider, localFile } from './provider.ts';

export interface ApplicationKeys {
  /** The half in use: 32 bytes. Leaves this process sealed only. */
  readonly half: Buffer;
  /** Under which assertions are made (passkey, OIDC, SAML): 32 bytes. */
  readonly assertion: Buffer;
  /** A further key of 32 bytes for a purpose, by HKDF-SHA-256 (RFC 5869). The same whatever half is in use. */
  derive(purpose: string): Buffer;
  /** The halves, read anew: they may have been replaced since. What is at hand when they cannot be read. */
  halves(): Promise<Halves>;
}

/** Reads the keys of a provider. Refuses what others can read, or what is damaged. */
export async function readKeys(provider: KeyProvider): Promise<ApplicationKeys> {
  let held = await provider.halves();
  const seed = await provider.seed();
  const derive = (purpose: string) => Buffer.from(hkdfSync('sha256', seed, 'safetypin', purpose, 32));
  return {
    get half() {
      return held.current;
    },
    assertion: derive('assertion'),
    derive,
    // A provider that is away, or a file that is just being copied, must not stop a process that holds its key.
    async halves() {
      held = await provider.halves().catch(() => held);
      return held;
    },
  };
}

/** The keys in the file of a development installation, which is made at the first start. */
export const loadApplicationKeys = (dataDirectory: string): Promise<ApplicationKeys> =>
  readKeys(localFile(dataDirectory));
