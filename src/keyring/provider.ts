// Where the application's half of the key is kept. A key management service stands behind the same interface.
import { createHash } from 'node:crypto';
import { join, resolve } from 'node:path';
import type { Config } from '../config.ts';
import { StartupError } from '../platform/startup-error.ts';
import { KeyFile } from './key-file.ts';

/** The application's half of the key-encryption key: 32 bytes; while it is being replaced, the next one beside it. */
export interface Halves {
  readonly current: Buffer;
  readonly next?: Buffer;
}

/**
 * Keeps the halves. A rotation asks it to `prepare`, brings the whole database under the next half, and then lets it
 * `commit`; broken off anywhere it does the same again. Whatever fails throws, and nothing has changed.
 */
export interface KeyProvider {
  /** What people call it. */
  readonly name: string;
  /** The folder it lies in, where it is a file. */
  readonly folder?: string;
  /** What there is now, asked for anew each time. */
  halves(): Promise<Halves>;
  /** 32 bytes that further keys of the application are derived from. They outlive every rotation of the half. */
  seed(): Promise<Buffer>;
  /** Makes the next half, durably, and answers both; the same one again while there is one. */
  prepare(): Promise<Halves>;
  /** The next half becomes the current one, and the old one is forgotten. Nothing happens if that is so already. */
  commit(next: Buffer): Promise<Halves>;
  /** What is wrong with it, in one line; undefined when nothing is. */
  health(): Promise<string | undefined>;
}

/** Which half this is, as the database knows it: eight bytes that say nothing of it. The same as half_id() in SQL. */
export function halfId(half: Buffer): Buffer {
  return createHash('sha256').update('safetypin half ').update(half).digest().subarray(0, 8);
}

const IN_PRODUCTION = [
  'KEY_PROVIDER is missing: in production the application’s half of the key does not lie in a file beside the data.',
  'Make one with `npm run safetypin -- keys new FILE`, let your secret store bring it to each machine (mode 0600),',
  'and set KEY_PROVIDER=file:/run/secrets/safetypin-key, or wherever it brings it to',
].join('\n');

/** The provider that KEY_PROVIDER names. Refuses the local file in production. */
export function openProvider(config: Pick<Config, 'environment' | 'keyProvider' | 'dataDirectory'>): KeyProvider {
  const { environment, keyProvider, dataDirectory } = config;
  if (keyProvider !== 'local') {
    const path = resolve(keyProvider.slice('file:'.length));
    if (environment === 'production' && path.startsWith(join(dataDirectory, '/'))) {
      throw new StartupError(`KEY_PROVIDER=${keyProvider} lies beside the data: keep it where the data are not`);
    }
    return new KeyFile(path, { make: false });
  }
  if (environment === 'production') throw new StartupError(IN_PRODUCTION);
  return localFile(dataDirectory);
}

/** The file beside the data of a development installation, made at its first start. */
export const localFile = (dataDirectory: string): KeyProvider =>
  new KeyFile(join(dataDirectory, 'keys', 'application.json'), { make: true });
