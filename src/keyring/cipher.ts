// A256CBC-HS512, the same construction as sql/keyring/cipher.sql: what one seals, the other opens.
import { createCipheriv, createDecipheriv, createHmac, timingSafeEqual } from 'node:crypto';
import { AppError } from '../platform/app-error.ts';

export interface Sealed {
  ciphertext: Buffer;
  tag: Buffer;
}

/**
 * AEAD_AES_256_CBC_HMAC_SHA_512 (RFC 7518 section 5.2.5): 64-byte key, of which the first half is for the MAC and the
 * second for AES; 16-byte IV; 32-byte tag. Throws KEYBD for other sizes.
 */
export function encrypt(key: Buffer, iv: Buffer, plaintext: Buffer, aad: Buffer): Sealed {
  if (key.length !== 64 || iv.length !== 16) throw new AppError('KEYBD', 'the value cannot be sealed');
  const cipher = createCipheriv('aes-256-cbc', key.subarray(32), iv);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return { ciphertext, tag: mac(key, iv, ciphertext, aad) };
}

/** The reverse of encrypt(); the tag is checked before anything is decrypted. KEYBD for every failure alike. */
export function decrypt(key: Buffer, iv: Buffer, ciphertext: Buffer, tag: Buffer, aad: Buffer): Buffer {
  const sizes =
    key.length === 64 && iv.length === 16 && tag.length === 32 && ciphertext.length > 0 && ciphertext.length % 16 === 0;
  if (sizes && timingSafeEqual(mac(key, iv, ciphertext, aad), tag)) {
    // Padding is checked by hand: bad padding under a good tag must be the same error as all else.
    const decipher = createDecipheriv('aes-256-cbc', key.subarray(32), iv).setAutoPadding(false);
    const padded = Buffer.concat([decipher.update(ciphertext), decipher.final()]);
    const padding = padded.at(-1) ?? 0;
    if (padding >= 1 && padding <= 16 && padded.subarray(-padding).every((byte) => byte === padding)) {
      return padded.subarray(0, -padding);
    }
  }
  throw new AppError('KEYBD', 'the value cannot be opened');
}

/**
 * Length (int4), value, zeros, up to 28, 60, 124, 252 … bytes in all, so that what is sealed shows its bucket and not its
 * length.
 */
export function pad(value: Buffer): Buffer {
  let size = 28;
  while (size < value.length + 4) size = size * 2 + 4;
  const padded = Buffer.alloc(size);
  padded.writeInt32BE(value.length);
  value.copy(padded, 4);
  return padded;
}

/** The reverse of pad(); KEYBD for what pad() did not make. */
export function unpad(padded: Buffer): Buffer {
  if (padded.length >= 28) {
    const length = padded.readInt32BE();
    if (length >= 0 && length <= padded.length - 4) {
      const value = padded.subarray(4, 4 + length);
      if (pad(value).equals(padded)) return value;
    }
  }
  throw new AppError('KEYBD', 'the value cannot be opened');
}

function mac(key: Buffer, iv: Buffer, ciphertext: Buffer, aad: Buffer): Buffer {
  const bits = Buffer.alloc(8);
  bits.writeBigUInt64BE(BigInt(aad.length) * 8n);
  return createHmac('sha512', key.subarray(0, 32))
    .update(aad)
    .update(iv)
    .update(ciphertext)
    .update(bits)
    .digest()
    .subarray(0, 32);
}
