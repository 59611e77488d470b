// The application's half of the key on its way into a request: sealed for a minute, for one credential, under a key
// that both sides destroy after a day. What a log catches of it opens nothing.
import { createHash, randomBytes } from 'node:crypto';
import type pg from 'pg';
import type { ApplicationKeys } from './application-keys.ts';
import { encrypt } from './cipher.ts';
import { halfId } from './provider.ts';

interface TransportKey {
  id: Buffer;
  key: Buffer;
  /** What is sealed: the half, and the next one behind it while it is being replaced. */
  halves: Buffer;
  replaceAt: number;
  /** `performance.now()` when it was given to us. */
  since: number;
}

/** Milliseconds between 1970 and 2000, where PostgreSQL's timestamps begin. */
const POSTGRES_EPOCH = 946_684_800_000;
const SECONDS = 60;
const NOBODY = Buffer.alloc(32);

/** Makes envelopes for sessions.open_request() and platform.open_job(). One per process and pool. */
export class EnvelopeSealer {
  readonly #pool: pg.Pool;
  readonly #keys: ApplicationKeys;
  #transport: Promise<TransportKey> | null = null;
  #current: TransportKey | null = null;
  /** Server clock minus ours, in milliseconds: the expiry is compared with the server's. */
  #skew = 0;

  constructor(pool: pg.Pool, keys: ApplicationKeys) {
    this.#pool = pool;
    this.#keys = keys;
  }

  /** Seconds since the transport key in use was given to us; undefined without one. */
  get keyAge(): number | undefined {
    return this.#current === null ? undefined : (performance.now() - this.#current.since) / 1000;
  }

  /** An envelope for one credential (null: for nobody), good for a minute. */
  async seal(credential: Buffer | null): Promise<Buffer> {
    return this.sealSync(credential) ?? this.#sealWith(await this.#fetch(), credential);
  }

  /** The same without waiting, or null while there is no transport key at hand. */
  sealSync(credential: Buffer | null): Buffer | null {
    if (!this.#current || this.#current.replaceAt < Date.now()) return null;
    return this.#sealWith(this.#current, credential);
  }

  /** Forgets the transport key of an envelope that was refused with KEYNO: a crash empties the database's table of them. */
  forget(refused: Buffer): void {
    if (this.#current === null || !refused.subarray(1, 17).equals(this.#current.id)) return;
    erase(this.#current);
    this.#current = null;
  }

  /** Asks for the transport key by a connection at hand: a pool may have no other to give. */
  async renew(client: pg.ClientBase): Promise<void> {
    if (this.#current === null) await this.#ask(client);
  }

  #sealWith(transport: TransportKey, credential: Buffer | null): Buffer {
    const header = Buffer.alloc(25);
    header[0] = 1;
    transport.id.copy(header, 1);
    header.writeBigInt64BE(BigInt(Date.now() + this.#skew + SECONDS * 1000 - POSTGRES_EPOCH) * 1000n, 17);
    const recipient = credential ? createHash('sha256').update(credential).digest() : NOBODY;
    const iv = randomBytes(16);
    const { ciphertext, tag } = encrypt(transport.key, iv, transport.halves, Buffer.concat([header, recipient]));
    return Buffer.concat([header, iv, ciphertext, tag]);
  }

  #fetch(): Promise<TransportKey> {
    this.#transport ??= this.#ask(this.#pool).finally(() => {
      this.#transport = null;
    });
    return this.#transport;
  }

  async #ask(asked: pg.Pool | pg.ClientBase): Promise<TransportKey> {
    // A transport key that was taken back is how a process hears that its half is being replaced.
    const { current, next } = await this.#keys.halves();
    const halves = next ? [current, next] : [current];
    const sent = Date.now();
    const { rows } = await asked.query<{ id: string; key: Buffer; expires_at: Date; now: Date }>(
      'select t.id, t.key, t.expires_at, clock_timestamp() as now from keyring.transport_key($1) t',
      [halves.map(halfId)],
    );
    const row = rows[0];
    if (!row) throw new Error('keyring.transport_key() answered nothing');
    this.#skew = Math.round(row.now.getTime() - (sent + Date.now()) / 2);
    const previous = this.#current;
    this.#current = {
      id: Buffer.from(row.id.replaceAll('-', ''), 'hex'),
      key: row.key,
      halves: Buffer.concat(halves),
      replaceAt: row.expires_at.getTime() - this.#skew,
      since: performance.now(),
    };
    if (previous) erase(previous);
    return this.#current;
  }
}

function erase({ key, halves }: TransportKey): void {
  key.fill(0);
  halves.fill(0);
}
