// Lines as they come, put together to statements.
import { splitStatements } from '../platform/sql/statements.ts';

/** What can be run now: a statement of SQL, or a command of the shell, which begins with a backslash. */
export interface Ready {
  readonly text: string;
  /** Number of lines before its own. */
  readonly line: number;
}

/** More than this without an end is no statement that would be taken, and looking through it again and again takes time. */
const LONGEST = 200_000;

export class Statements {
  #text = '';
  /** Lines before the text at hand. */
  #line: number;

  /** `line`: how many lines of its source came before. */
  constructor(line = 0) {
    this.#line = line;
  }

  /** Whether a statement was begun and not ended. */
  get isPending(): boolean {
    return splitStatements(this.#text).length > 0;
  }

  /** Takes one line, and answers what is complete with it. */
  add(line: string): Ready[] {
    const ready: Ready[] = [];
    const isCommand = /^\s*\\/.test(line) && !this.isPending;
    if (isCommand) {
      ready.push({ text: line.trim(), line: this.#line + this.#text.split('\n').length - 1 });
      this.#consume(`${this.#text}${line}\n`.length, line);
      return ready;
    }
    this.#text += `${line}\n`;
    let end = 0;
    for (const { text, offset } of splitStatements(this.#text)) {
      const after = /^\s*;/.exec(this.#text.slice(offset + text.length));
      if (after === null) {
        // Behind a statement on the same line.
        if (text.startsWith('\\')) {
          ready.push({ text: text.split('\n')[0]?.trim() ?? '', line: this.#lineOf(offset) });
          end = this.#text.length;
        }
        break;
      }
      ready.push({ text, line: this.#lineOf(offset) });
      end = offset + text.length + after[0].length;
    }
    this.#consume(end);
    if (this.#text.length > LONGEST)
      throw new Error('the statement is too long, or its quotes are not closed: it was not run');
    return ready;
  }

  /** What is left when there are no more lines. */
  rest(): Ready[] {
    const [last] = splitStatements(this.#text);
    const ready = last === undefined ? [] : [{ text: last.text, line: this.#lineOf(last.offset) }];
    this.clear();
    return ready;
  }

  /** Forgets what was begun. */
  clear(): void {
    this.#consume(this.#text.length);
  }

  #lineOf(offset: number): number {
    return this.#line + this.#text.slice(0, offset).split('\n').length - 1;
  }

  #consume(length: number, further?: string): void {
    const text = further === undefined ? this.#text : `${this.#text}${further}\n`;
    this.#line += text.slice(0, length).split('\n').length - 1;
    this.#text = text.slice(length);
  }
}
