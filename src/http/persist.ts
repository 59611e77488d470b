import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'graphql';
import { StartupError } from '../platform/startup-error.ts';
import { hashOf } from './persisted.ts';

/**
 * Writes each `.graphql` file below `from` into `to` under the SHA-256 of its text, as it is: a client names it by the
 * hash of the very same text. What is in `to` already stays, for clients that are not yet updated.
 */
export function persistOperations(from: string, to: string): { readonly hash: string; readonly file: string }[] {
  let files: string[];
  try {
    files = readdirSync(from, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.graphql'));
  } catch {
    throw new StartupError(`${from} is not a folder that can be read`);
  }
  if (files.length === 0) throw new StartupError(`there is no .graphql file in ${from}`);
  const texts = files.sort().map((file) => ({ file, text: readFileSync(join(from, file), 'utf8') }));
  for (const { file, text } of texts) {
    try {
      parse(text);
    } catch (error) {
      throw new StartupError(`${file}: ${(error as Error).message}`);
    }
  }
  mkdirSync(to, { recursive: true });
  return texts.map(({ file, text }) => {
    const hash = hashOf(text);
    writeFileSync(join(to, `${hash}.graphql`), text);
    return { hash, file };
  });
}
