import { createHash, hash, randomBytes } from 'node:crypto';
import { hashSecret } from '../identity/secrets.ts';

/**
 * An API key as text: `sp_` and the base64url of 36 bytes, which are a byte for the kind, 256 random bits and a checksum of
 * 24 bits. No spelling but one, and a typo is told without asking the database. Scanners for secrets find it by
 * `\bsp_A[w-z0-9_-][A-Za-z0-9_-]{46}\b`.
 */
const FORM = /^sp_[\w-]{48}$/;
const START = 'sp_';
/** As the kind of the context that it opens: see sql/platform/request.sql. */
const KIND = 3;
const CHECKSUM_BYTES = 3;
/** How much of it is shown afterwards, to recognize it by: 46 of its random bits. */
const SHOWN = 12;

const checksum = (credential: Buffer): Buffer =>
  createHash('sha256').update('safetypin api key').update(credential).digest().subarray(0, CHECKSUM_BYTES);

/** What SQL is asked with: 33 bytes, of which it keeps the SHA-256. */
export interface ApiKeyCredential {
  readonly credential: Buffer;
  readonly credentialHash: Buffer;
}

export interface NewApiKey extends ApiKeyCredential {
  /** Shown once. */
  readonly secret: string;
  readonly prefix: string;
}

export function newApiKey(): NewApiKey {
  const credential = Buffer.concat([Buffer.of(KIND), randomBytes(32)]);
  const secret = START + Buffer.concat([credential, checksum(credential)]).toString('base64url');
  return { credential, credentialHash: hashSecret(credential), secret, prefix: secret.slice(0, SHOWN) };
}

/** Whether a bearer token is meant to be an API key: no other of ours begins so. */
export const isApiKey = (token: string): boolean => token.startsWith(START);

/** The credential in the text of a key; null for a typo, and for whatever else is not one. */
export function parseApiKey(text: string): ApiKeyCredential | null {
  if (!FORM.test(text)) return null;
  const bytes = Buffer.from(text.slice(START.length), 'base64url');
  const credential = bytes.subarray(0, -CHECKSUM_BYTES);
  if (credential[0] !== KIND || !checksum(credential).equals(bytes.subarray(-CHECKSUM_BYTES))) return null;
  return { credential, credentialHash: hashSecret(credential) };
}

/**
 * Keys that were read lately, by a hash of their text: with the same object of a credential goes the same envelope. Whether
 * a key is good is for SQL to say each time.
 */
export class ApiKeys {
  readonly #limit: number;
  readonly #read = new Map<string, ApiKeyCredential>();

  constructor(limit = 5000) {
    this.#limit = limit;
  }

  /** Null for a typo, and for whatever else is not a key. */
  read(text: string): ApiKeyCredential | null {
    const fingerprint = hash('sha256', text, 'base64');
    const known = this.#read.get(fingerprint);
    const key = known ?? parseApiKey(text);
    if (key === null) return null;
    this.#read.delete(fingerprint);
    if (this.#read.size >= this.#limit) {
      for (const oldest of this.#read.keys()) {
        this.#read.delete(oldest);
        break;
      }
    }
    this.#read.set(fingerprint, key);
    return key;
  }
}
