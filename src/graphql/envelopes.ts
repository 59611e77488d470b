import type pg from 'pg';

/** Seals the application's half of the key for one credential; the result travels with each opening of a request. */
export interface Sealer {
  seal(credential: Buffer | null): Promise<Buffer>;
  /** Told that the database does not know the transport key of this envelope any more. */
  forget?(refused: Buffer): void;
  /** Makes ready to seal, by a connection at hand. */
  renew?(client: pg.ClientBase): Promise<void>;
}

/**
 * An envelope is good for a minute; used again for a third of it, it still outlives the longest request (30 s). Sealing
 * anew each time took an eighth of a request's time on the processor.
 */
const REUSE_MILLISECONDS = 20_000;

interface Envelope {
  readonly bytes: Buffer;
  readonly until: number;
}

/** Envelopes by credential: by the very object, which lives as long as its token is remembered. */
export class Envelopes {
  readonly #sealer: Sealer;
  #sealed = new WeakMap<object, Envelope>();
  /** Stands for nobody's credential. */
  #nobody: object = {};

  constructor(sealer: Sealer) {
    this.#sealer = sealer;
  }

  /** The envelope at hand, or undefined when one must be made. */
  at(credential: Buffer | null): Buffer | undefined {
    const envelope = this.#sealed.get(credential ?? this.#nobody);
    return envelope !== undefined && envelope.until > Date.now() ? envelope.bytes : undefined;
  }

  async seal(credential: Buffer | null): Promise<Buffer> {
    const until = Date.now() + REUSE_MILLISECONDS;
    const bytes = await this.#sealer.seal(credential);
    this.#sealed.set(credential ?? this.#nobody, { bytes, until });
    return bytes;
  }

  /** After KEYNO: a crash of the database empties its table of transport keys. */
  forget(refused: Buffer): void {
    this.#sealed = new WeakMap();
    this.#nobody = {};
    this.#sealer.forget?.(refused);
  }

  /** Another envelope in place of a refused one, without taking a further connection. */
  async sealAnew(credential: Buffer | null, refused: Buffer, client: pg.ClientBase): Promise<Buffer> {
    this.forget(refused);
    await this.#sealer.renew?.(client);
    return this.seal(credential);
  }
}
