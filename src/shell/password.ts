// A password from a terminal, without showing it. It is never an argument, a setting or a line of a history.
import { StringDecoder } from 'node:string_decoder';
import type { ReadStream, WriteStream } from 'node:tty';

const INTERRUPT = '\u0003';
const END = '\u0004';
const CLEAR = '\u0015';
const ERASE = new Set(['\b', '\u007f']);

/** The line that is typed; undefined on Ctrl-C, the signal, or Ctrl-D before anything else. What follows stays to be read. */
export function askHidden(
  question: string,
  { input, output, signal }: { input: ReadStream; output: WriteStream; signal: AbortSignal },
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const decoder = new StringDecoder('utf8');
    let typed: string[] = [];
    const settle = (answer: string | undefined, rest = ''): void => {
      input.off('data', onData).off('end', onEnd);
      signal.removeEventListener('abort', onEnd);
      input.setRawMode(false).pause();
      if (rest !== '') input.unshift(Buffer.from(rest));
      output.write('\n');
      resolve(answer);
    };
    const onEnd = (): void => settle(undefined);
    const onData = (data: Buffer): void => {
      const characters = [...decoder.write(data)];
      for (const [index, character] of characters.entries()) {
        if (character === '\r' || character === '\n') {
          settle(typed.join(''), characters.slice(index + 1).join(''));
          return;
        }
        if (character === INTERRUPT || (character === END && typed.length === 0)) {
          settle(undefined);
          return;
        }
        if (character === CLEAR) typed = [];
        else if (ERASE.has(character)) typed.pop();
        else typed.push(character);
      }
    };
    signal.addEventListener('abort', onEnd);
    // Not shown from before it is asked for: what is typed at once would be.
    input.setRawMode(true).on('data', onData).on('end', onEnd).resume();
    output.write(question);
  });
}
