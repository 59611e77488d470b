// The application's half of the key in a file of JSON that is its owner's alone.
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { chmod, link, mkdir, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf, StartupError } from '../platform/startup-error.ts';
import type { Halves, KeyProvider } from './provider.ts';

interface Contents {
  readonly half: Buffer;
  readonly next?: Buffer;
  /** Only in a file whose first half was replaced: until then further keys are derived from that half. */
  readonly seed?: Buffer;
}

export class KeyFile implements KeyProvider {
  readonly name: string;
  readonly folder: string;
  readonly #path: string;
  readonly #make: boolean;

  /** `make`: whether a file that is not there is made. */
  constructor(path: string, { make }: { make: boolean }) {
    this.name = `file ${path}`;
    this.folder = dirname(path);
    this.#path = path;
    this.#make = make;
  }

  async halves(): Promise<Halves> {
    return halvesOf(await this.#read());
  }

  async seed(): Promise<Buffer> {
    const { seed, half } = await this.#read();
    return seed ?? half;
  }

  async prepare(): Promise<Halves> {
    const contents = await this.#read();
    return contents.next ? halvesOf(contents) : this.#replace({ ...contents, next: randomBytes(32) });
  }

  async commit(next: Buffer): Promise<Halves> {
    const contents = await this.#read();
    if (contents.half.equals(next)) return halvesOf(contents);
    if (!contents.next?.equals(next)) throw new StartupError(`${this.#path} does not hold the half to go over to`);
    return this.#replace({ half: next, seed: contents.seed ?? contents.half });
  }

  async health(): Promise<string | undefined> {
    try {
      await this.#read();
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    return undefined;
  }

  /** Makes a file that is not there yet; false if there is one. */
  async create(contents: Contents = { half: randomBytes(32) }): Promise<boolean> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    const draft = await write(this.#path, contents);
    try {
      // A link appears whole or not at all, and never over a key that another process made first.
      await link(draft, this.#path);
      return true;
    } catch (error) {
      if (codeOf(error) !== 'EEXIST') throw error;
      return false;
    } finally {
      await unlink(draft);
    }
  }

  /** Makes another file that holds the next half too; false if there is one. */
  async copyWithNext(path: string): Promise<boolean> {
    const contents = await this.#read();
    return new KeyFile(path, { make: false }).create({ ...contents, next: contents.next ?? randomBytes(32) });
  }

  async #read(): Promise<Contents> {
    let contents = await read(this.#path);
    if (contents === undefined && this.#make) {
      await this.create();
      contents = await read(this.#path);
    }
    if (contents === undefined) {
      throw new StartupError(`${this.#path} is not there: without it sealed values cannot be opened`);
    }
    return contents;
  }

  async #replace(contents: Contents): Promise<Halves> {
    let draft: string;
    try {
      draft = await write(this.#path, contents);
    } catch (error) {
      const cure = 'make the next file with `safetypin keys new FILE --after OLD` and let your secret store bring it';
      throw new StartupError(`${this.#path} cannot be replaced from here (${codeOf(error)}): ${cure}`, {
        cause: error,
      });
    }
    await rename(draft, this.#path);
    await sync(dirname(this.#path));
    return halvesOf(contents);
  }
}

async function read(path: string): Promise<Contents | undefined> {
  let text: string;
  try {
    if ((await stat(path)).mode & 0o077) {
      throw new StartupError(`${path} can be read by others: chmod 600 it, and replace the key if that matters`);
    }
    if ((await stat(dirname(path))).mode & 0o022) {
      throw new StartupError(
        `${dirname(path)} can be written by others, who could put another key there: chmod 700 it`,
      );
    }
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
  const contents = parse(text);
  if (contents) return contents;
  throw new StartupError(`${path} is damaged: put it back from its backup. Without it sealed values cannot be opened`);
}

const FIELDS = ['half', 'seed', 'next'] as const;

function parse(text: string): Contents | undefined {
  try {
    const json = JSON.parse(text) as Record<string, string>;
    const keys: Partial<Record<(typeof FIELDS)[number], Buffer>> = {};
    for (const field of FIELDS) {
      if (json[field] === undefined) continue;
      const key = Buffer.from(json[field], 'base64');
      if (key.length !== 32) return undefined;
      keys[field] = key;
    }
    const { half, ...rest } = keys;
    if (half === undefined) return undefined;
    const contents = { half, ...rest };
    const check = Buffer.from(checkOf(contents));
    const found = Buffer.from(json.check ?? '');
    return check.length === found.length && timingSafeEqual(check, found) ? contents : undefined;
  } catch {
    return undefined;
  }
}

/** Writes all of it to a file of another name in the same folder, on the disk. */
async function write(path: string, contents: Contents): Promise<string> {
  const draft = `${path}.${randomBytes(6).toString('hex')}`;
  const json = Object.fromEntries(
    FIELDS.filter((field) => contents[field]).map((field) => [field, contents[field]?.toString('base64')]),
  );
  const file = await open(draft, 'wx', 0o600);
  try {
    await file.writeFile(`${JSON.stringify({ ...json, check: checkOf(contents) }, null, 2)}\n`);
    await file.sync();
  } finally {
    await file.close();
  }
  // Whatever the umask took away.
  await chmod(draft, 0o600);
  return draft;
}

async function sync(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync().finally(() => handle.close());
}

const halvesOf = ({ half, next }: Contents): Halves => (next ? { current: half, next } : { current: half });

function checkOf({ half, seed, next }: Contents): string {
  const mac = createHmac('sha256', half).update('safetypin key file');
  if (seed) mac.update(seed);
  if (next) mac.update('next').update(next);
  return mac.digest('base64').slice(0, 12);
}
