// An error of PostgreSQL as a person wants to read it: where, the line, a caret, what is wrong, what helps.
import pg from 'pg';

/** Where a statement stands: the whole text it is part of, its place in it, and what to call that text. */
export interface Place {
  readonly text: string;
  readonly offset: number;
  readonly name: string;
}

/** Several lines, without a line break at the end. Anything that is not from PostgreSQL is its own message. */
export function explainSqlError(error: unknown, place: Place): string {
  if (!(error instanceof pg.DatabaseError)) return error instanceof Error ? error.message : String(error);
  const position = error.position === undefined ? undefined : Number(error.position);
  const at = place.offset + (position === undefined ? 0 : utf16Index(place.text.slice(place.offset), position - 1));
  const { line: ownLine, column, source } = locate(place.text, at);
  const included = includedFrom(place.text, at);
  const line = included?.line ?? ownLine;
  const gutter = `${line} | `;
  return [
    `${error.severity ?? 'ERROR'} ${error.code}: ${error.message}`,
    `  ${included ? `sql/${included.file}` : place.name}, line ${line}:`,
    `  ${gutter}${source}`,
    ...(position === undefined ? [] : [`  ${' '.repeat(gutter.length + column)}^`]),
    ...(error.internalQuery ? [`  in: ${error.internalQuery.trim()}`] : []),
    ...(error.detail ? [`  detail: ${error.detail}`] : []),
    ...(error.where ? [`  where: ${error.where.split('\n').join('\n         ')}`] : []),
    ...(error.hint ? [`  hint: ${error.hint}`] : []),
  ].join('\n');
}

/** PostgreSQL counts characters; a string here counts UTF-16 units. */
function utf16Index(text: string, characters: number): number {
  let index = 0;
  for (const character of text) {
    if (characters <= 0) break;
    characters -= 1;
    index += character.length;
  }
  return index;
}

function locate(text: string, at: number): { line: number; column: number; source: string } {
  const before = text.slice(0, at);
  const begin = before.lastIndexOf('\n') + 1;
  const end = text.indexOf('\n', at);
  const source = text.slice(begin, end < 0 ? undefined : end).replaceAll('\t', ' ');
  return { line: before.split('\n').length, column: at - begin, source };
}

/**
 * The file under sql/ that a place in an expanded migration came from, by graphile-migrate's markers; undefined
 * for text that was not included.
 */
function includedFrom(text: string, at: number): { file: string; line: number } | undefined {
  const open: { file: string; line: number }[] = [];
  for (const source of text.slice(0, at).split('\n')) {
    const begin = /^--! Included (\S+)$/.exec(source)?.[1];
    const parent = open.at(-1);
    if (begin) {
      if (parent) parent.line += 1;
      open.push({ file: begin, line: 0 });
    } else if (source.startsWith('--! EndIncluded ')) {
      open.pop();
    } else if (parent) parent.line += 1;
  }
  return open.at(-1);
}
