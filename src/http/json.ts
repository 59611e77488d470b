import { isUtf8 } from 'node:buffer';
import { LIMITS } from '../graphql/limits.ts';
import { BodyRefusal } from './body-refusal.ts';

const bad = (message: string): BodyRefusal => new BodyRefusal(400, 'BAD_INPUT', message);

/** Lists and objects of a body inside one another: the variables', in `variables`, in the body. */
const DEPTH = LIMITS.valueDepth + 2;

const QUOTE = 0x22;
const COLON = 0x3a;
const BACKSLASH = 0x5c;

/** Where the string ends that begins at `from`. */
function endOfString(text: string, from: number): number {
  let end = text.indexOf('"', from + 1);
  for (;;) {
    let slashes = 0;
    while (text.charCodeAt(end - 1 - slashes) === BACKSLASH) slashes += 1;
    if (slashes % 2 === 0) return end;
    end = text.indexOf('"', end + 1);
  }
}

/**
 * Looks at good JSON for what its parser lets pass: a name twice in one object, of which whoever reads the body before us
 * may take the other, and depth that whoever goes through the values later may not stand.
 */
function checkShape(text: string): void {
  const names: (Set<string> | null)[] = [];
  for (let i = 0; i < text.length; i += 1) {
    const sign = text.charCodeAt(i);
    if (sign === QUOTE) {
      const end = endOfString(text, i);
      let next = end + 1;
      while (text.charCodeAt(next) <= 0x20) next += 1;
      if (text.charCodeAt(next) === COLON) {
        const raw = text.slice(i + 1, end);
        const name = raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw;
        const known = names.at(-1);
        if (known?.has(name)) throw bad('The body names a field twice.');
        known?.add(name);
      }
      i = next - 1;
    } else if (sign === 0x7b || sign === 0x5b) {
      names.push(sign === 0x7b ? new Set() : null);
      if (names.length > DEPTH) throw new BodyRefusal(400, 'LIMIT_EXCEEDED', 'The body is nested too deeply.');
    } else if (sign === 0x7d || sign === 0x5d) names.pop();
  }
}

/** Reads a body as JSON in UTF-8, with nothing that could be read in two ways. */
export function parseJson(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) throw bad('The body is not UTF-8.');
  const text = bytes.toString();
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw bad('The body is not JSON.');
  }
  checkShape(text);
  return value;
}
