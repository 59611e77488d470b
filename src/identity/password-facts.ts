/** Facts about a password for SQL to judge. The password itself never leaves this process. */

/** What `api_steps` takes as `password jsonb`. A password that is no text at all has no number of characters. */
export interface PasswordFacts {
  readonly characters: number | null;
  readonly bytes: number;
  readonly common: boolean;
  readonly context: boolean;
}

const PRODUCT = 'safetypin';

let list: Promise<ReadonlySet<string>> | undefined;

/** The 49,233 most used passwords, lower case, packaged: checking needs no service that could be down. Loaded when first needed. */
export function commonPasswords(): Promise<ReadonlySet<string>> {
  list ??= import('@zxcvbn-ts/language-common').then(({ dictionary }) => new Set(dictionary['passwords-common']));
  return list;
}

const fold = (text: string): string => text.normalize('NFKC').toLowerCase();

/** Shortest beginning that, repeated and cut, gives the whole: "abcabca" gives "abc". Knuth, Morris and Pratt's border. */
function repeatedUnit(text: string): string {
  const border = new Uint32Array(text.length);
  for (let at = 1, length = 0; at < text.length; at++) {
    while (length > 0 && text[at] !== text[length]) length = border[length - 1] ?? 0;
    if (text[at] === text[length]) length += 1;
    border[at] = length;
  }
  return text.slice(0, text.length - (border[text.length - 1] ?? 0));
}

/**
 * Compares the whole string, never a part of it (SP 800-63B-4 section 3.1.1.2). Few of the listed ones are as long as we
 * demand, so a listed one written several times over counts as listed, and so does one sign or pair of signs.
 */
async function isCommon(password: string): Promise<boolean> {
  const folded = fold(password);
  const common = await commonPasswords();
  if (common.has(folded)) return true;
  const { length } = repeatedUnit(folded);
  if (length < folded.length && length <= 2) return true;
  // "123123123" repeats "123", which is not listed, and so "123123", which is.
  for (let end = length; end < folded.length; end += length) {
    if (common.has(folded.slice(0, end))) return true;
  }
  return false;
}

const bare = (text: string): string => fold(text).replace(/\s+/gu, '');

/** Is the whole password a name from its surroundings, in any case, with or without spaces and digits at its end? */
function isContext(password: string, words: readonly string[]): boolean {
  const whole = bare(password);
  const core = whole.replace(/\d+$/, '');
  const units = new Set([whole, core, repeatedUnit(whole), repeatedUnit(core)]);
  return [...words, PRODUCT].map(bare).some((word) => word.length > 0 && units.has(word));
}

/** `context` are the names around it: address, display name, organization name. */
export async function passwordFacts(password: string, context: readonly string[]): Promise<PasswordFacts> {
  const bytes = Buffer.byteLength(password);
  // Half a surrogate pair has no bytes of its own: two such passwords would be one.
  if (!password.isWellFormed()) return { characters: null, bytes, common: false, context: false };
  const words = context.flatMap((word) => (word.includes('@') ? [word, word.slice(0, word.indexOf('@'))] : [word]));
  // Longer ones are refused for their length alone; they are not worth the work.
  if (bytes > 4096) return { characters: password.length, bytes, common: false, context: false };
  return {
    characters: [...password].length,
    bytes,
    common: await isCommon(password),
    context: isContext(password, words),
  };
}
