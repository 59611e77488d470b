import { createHash, createHmac, randomBytes } from 'node:crypto';

/** base64url of 32 bytes; the last sign has two spare bits, which must be zero, so that no second spelling exists. */
const SECRET = /^[\w-]{42}[AEIMQUYcgkosw048]$/;

/** 256 random bits: the credential of a session, or a refresh token. */
export const newSecret = (): Buffer => randomBytes(32);

/** SQL stores nothing of a secret but this. */
export const hashSecret = (secret: Buffer): Buffer => createHash('sha256').update(secret).digest();

/** The refresh token that follows the presented one. It is derived, not stored: asking twice gives the same answer. */
export const successorOf = (key: Buffer, presented: Buffer): Buffer =>
  createHmac('sha256', key).update(presented).digest();

/** Bytes of a base64url secret of ours, or empty for anything else, which SQL refuses like any unknown secret. */
export function decodeSecret(text: string): Buffer {
  return SECRET.test(text) ? Buffer.from(text, 'base64url') : Buffer.alloc(0);
}
