// Splits SQL text into statements, so that an error can be shown with the statement and line it came from.

/** One statement of a file. */
export interface Statement {
  readonly text: string;
  /** Index of its first character in the file. */
  readonly offset: number;
}

// Each alternative is one thing that a semicolon inside it does not end. Order matters: comments and quotes first.
const TOKEN =
  /--[^\n]*|\/\*|[eE]'(?:[^'\\]|\\[\s\S]|'')*(?:'|$)|'(?:[^']|'')*(?:'|$)|"(?:[^"]|"")*(?:"|$)|\$([A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?\$|[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*|[();]/g;

/** The statements of a text, without the semicolons and the comments before them. */
export function splitStatements(sql: string): Statement[] {
  const statements: Statement[] = [];
  let start = 0;
  let begun = -1; // where the statement's first token is; -1 while there are only blanks and comments
  let parentheses = 0;
  let words: string[] = []; // the first words, enough to know `create function`
  let blocks = 0; // depth of `begin atomic … end` and `case … end`
  const finish = (end: number) => {
    const from = begun < 0 ? start : begun;
    const text = sql.slice(from, end).trimEnd();
    if (begun >= 0 && text !== '') statements.push({ text, offset: from });
    begun = -1;
    parentheses = 0;
    blocks = 0;
    words = [];
    start = end + 1;
  };
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(sql); match; match = TOKEN.exec(sql)) {
    const token = match[0];
    if (token.startsWith('--')) continue;
    if (token === '/*') {
      TOKEN.lastIndex = endOfComment(sql, match.index);
      continue;
    }
    if (token === ';' && parentheses === 0 && blocks === 0) {
      finish(match.index);
      continue;
    }
    if (begun < 0) begun = firstVisible(sql, start, match.index);
    if (token.startsWith('$')) TOKEN.lastIndex = endOfDollar(sql, match.index, token);
    else if (token === '(') parentheses += 1;
    else if (token === ')') parentheses = Math.max(0, parentheses - 1);
    else if (/^\w/.test(token)) {
      const word = token.toLowerCase();
      if (words.length < 5) words.push(word);
      if (isRoutine(words)) {
        if (word === 'atomic' && /begin\s+$/i.test(sql.slice(0, match.index))) blocks += 1;
        else if (blocks > 0 && word === 'case') blocks += 1;
        else if (blocks > 0 && word === 'end') blocks -= 1;
      }
    }
  }
  if (
    begun < 0 &&
    sql
      .slice(start)
      .replace(/--[^\n]*|\/\*[\s\S]*?\*\//g, '')
      .trim() !== ''
  ) {
    begun = start + (sql.slice(start).match(/\S/)?.index ?? 0);
  }
  finish(sql.length);
  return statements;
}

function isRoutine(words: readonly string[]): boolean {
  return words[0] === 'create' && words.some((word) => word === 'function' || word === 'procedure');
}

/** Characters that are no token (an operator, a digit, a backslash) can begin a statement too. */
function firstVisible(sql: string, from: number, token: number): number {
  const between = sql.slice(from, token);
  const blanked = between.replace(/--[^\n]*|\/\*[\s\S]*?\*\//g, (comment) => ' '.repeat(comment.length));
  const visible = blanked.search(/\S/);
  return visible < 0 ? token : from + visible;
}

function endOfComment(sql: string, from: number): number {
  const marks = /\/\*|\*\//g;
  marks.lastIndex = from;
  let depth = 0;
  for (let mark = marks.exec(sql); mark; mark = marks.exec(sql)) {
    depth += mark[0] === '/*' ? 1 : -1;
    if (depth === 0) return marks.lastIndex;
  }
  return sql.length;
}

function endOfDollar(sql: string, from: number, quote: string): number {
  const end = sql.indexOf(quote, from + quote.length);
  return end < 0 ? sql.length : end + quote.length;
}
