// Looks for many secrets at once in anything: files, folders, texts; in the forms in which bytes get written down.
import { closeSync, openSync, readdirSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** All the ways in which bytes stand in files and logs, that somebody could turn back. */
function formsOf(secret: Buffer): Buffer[] {
  const forms = [secret, Buffer.from(secret.toString('hex')), Buffer.from(secret.toString('hex').toUpperCase())];
  // In base64 the same bytes have three looks, by where they begin.
  for (let shift = 0; shift < 3; shift += 1) {
    const text = Buffer.concat([Buffer.alloc(shift), secret])
      .toString('base64')
      .replaceAll('=', '');
    const inner = text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + secret.length) * 8) / 6));
    forms.push(Buffer.from(inner), Buffer.from(inner.replaceAll('+', '-').replaceAll('/', '_')));
  }
  const text = secret.toString('utf8');
  if (/^[\x20-\x7e]+$/.test(text)) forms.push(Buffer.from(text, 'utf16le'), Buffer.from(text.toUpperCase()));
  return forms;
}

/** Bytes as a printed plan has them, without its blanks: signed numbers, broken into lines anywhere. */
export const asInPlans = (value: Buffer): string => Array.from(value, (byte) => (byte << 24) >> 24).join('');

/** Names the secrets that were added and are found; never one of their bytes. */
export class Hunt {
  readonly #byStart = new Map<number, { name: string; form: Buffer }[]>();
  /** Whether a secret may begin with four bytes of this hash. */
  readonly #may = new Uint8Array(1 << 20);
  readonly #piece = Buffer.alloc(4_000_000);

  /** Bytes longer than 24 are found by either end of them. */
  add(name: string, secret: Buffer | string): void {
    const bytes = Buffer.from(secret);
    if (bytes.length < 8) throw new Error(`${name} is too short to be looked for`);
    const ends = bytes.length > 24 ? [bytes.subarray(0, 24), bytes.subarray(-24)] : [bytes];
    for (const form of ends.flatMap(formsOf)) {
      const start = form.readInt32LE();
      const same = this.#byStart.get(start);
      if (same) same.push({ name, form });
      else this.#byStart.set(start, [{ name, form }]);
      this.#may[hash(start)] = 1;
    }
  }

  in(text: Buffer | string, found = new Set<string>()): Set<string> {
    const bytes = typeof text === 'string' ? Buffer.from(text) : text;
    let window = 0;
    for (let i = 0; i < bytes.length; i += 1) {
      window = (window >>> 8) | ((bytes[i] as number) << 24);
      if (i < 3 || this.#may[hash(window)] === 0) continue;
      for (const { name, form } of this.#byStart.get(window) ?? []) {
        const end = i - 3 + form.length;
        if (end <= bytes.length && bytes.compare(form, 0, form.length, i - 3, end) === 0) found.add(name);
      }
    }
    return found;
  }

  /** In one file, piece by piece. */
  inFile(path: string, found = new Set<string>(), from = 0): Set<string> {
    const file = openSync(path, 'r');
    // Pieces overlap, so that nothing is lost between them.
    const overlap = 256;
    try {
      for (let at = from; ; ) {
        const read = readSync(file, this.#piece, 0, this.#piece.length, at);
        this.in(this.#piece.subarray(0, read), found);
        if (read < this.#piece.length) return found;
        at += read - overlap;
      }
    } finally {
      closeSync(file);
    }
  }

  /** In all files under a folder that are wanted: what was found, and in which files. */
  inFolder(folder: string, isWanted: (path: string) => boolean = () => true): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const path of filesUnder(folder).filter(isWanted)) {
      try {
        for (const name of this.inFile(path))
          found.set(name, [...(found.get(name) ?? []), path.slice(folder.length + 1)]);
      } catch (error) {
        // A server that runs removes files.
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
    }
    return found;
  }
}

const hash = (window: number): number => Math.imul(window, 0x9e3779b1) >>> 12;

/** Every file below, sockets and the like left out. */
export function filesUnder(folder: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .map((name) => join(folder, name))
    .filter((path) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false);
}
