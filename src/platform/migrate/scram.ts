// SCRAM-SHA-256 verifiers (RFC 5803) made here, so that no password ever travels or is logged inside SQL.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from 'node:crypto';

const ITERATIONS = 4096; // what PostgreSQL uses itself; our passwords are random, so more would buy nothing

/** The text that `alter role … password` takes for this password. It must be ASCII (SASLprep is not applied). */
export function scramVerifier(
  password: string,
  salt: Buffer = randomBytes(16),
  iterations: number = ITERATIONS,
): string {
  const salted = pbkdf2Sync(password, salt, iterations, 32, 'sha256');
  const hmac = (text: string) => createHmac('sha256', salted).update(text).digest();
  const storedKey = createHash('sha256').update(hmac('Client Key')).digest('base64');
  const serverKey = hmac('Server Key').toString('base64');
  return `SCRAM-SHA-256$${iterations}:${salt.toString('base64')}$${storedKey}:${serverKey}`;
}

/** Whether a stored verifier was made from this password. */
export function matchesVerifier(verifier: string, password: string): boolean {
  const parts = /^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$/.exec(verifier);
  if (!parts?.[1] || !parts[2]) return false;
  const again = Buffer.from(scramVerifier(password, Buffer.from(parts[2], 'base64'), Number(parts[1])));
  const stored = Buffer.from(verifier);
  return again.length === stored.length && timingSafeEqual(again, stored);
}
