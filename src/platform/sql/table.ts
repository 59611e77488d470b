// Query results as a table for a terminal, the way psql draws one.
import type pg from 'pg';

const NUMBERS = new Set([20, 21, 23, 26, 700, 701, 1700]); // int8, int2, int4, oid, float4, float8, numeric

/** A result whose values are text, as PostgreSQL writes them. */
export type TextResult = pg.QueryArrayResult<(string | null)[]>;

/**
 * The rows as a table with a count below, or the command's tag where there are no columns. `total` says how many rows
 * there were when these are only the first of them.
 */
export function formatResult(result: TextResult, statement: string, total = result.rows.length): string {
  if (result.fields.length === 0) return commandTag(result, statement);
  const columns = result.fields.map((field, index) => {
    const cells = result.rows.map((row) => linesOf(row[index] ?? ''));
    const width = Math.max(widthOf(field.name), ...cells.flat().map(widthOf));
    return { name: field.name, width, right: NUMBERS.has(field.dataTypeID), cells };
  });
  const lines = [
    columns
      .map(({ name, width }) => ` ${center(name, width)} `)
      .join('|')
      .trimEnd(),
    columns.map(({ width }) => '-'.repeat(width + 2)).join('+'),
  ];
  for (let row = 0; row < result.rows.length; row += 1) {
    const height = Math.max(...columns.map(({ cells }) => cells[row]?.length ?? 1));
    for (let line = 0; line < height; line += 1) {
      lines.push(
        columns
          .map(({ cells, width, right }) => ` ${pad(cells[row]?.[line] ?? '', width, right)} `)
          .join('|')
          .trimEnd(),
      );
    }
  }
  lines.push(countOf(result, total));
  return lines.join('\n');
}

/** A line for each value instead of a column, as `\\x` of psql shows it. */
export function formatExpanded(result: TextResult, statement: string, total = result.rows.length): string {
  if (result.fields.length === 0) return commandTag(result, statement);
  const width = Math.max(...result.fields.map(({ name }) => widthOf(name)));
  const lines = result.rows.flatMap((row, index) => [
    `-[ RECORD ${index + 1} ]-`,
    ...result.fields.flatMap(({ name }, column) =>
      linesOf(row[column] ?? '').map((line, part) =>
        `${pad(part === 0 ? name : '', width, false)} | ${line}`.trimEnd(),
      ),
    ),
  ]);
  return [...lines, countOf(result, total)].join('\n');
}

function countOf({ rows }: TextResult, total: number): string {
  const noun = total === 1 ? 'row' : 'rows';
  return rows.length === total ? `(${total} ${noun})` : `(the first ${rows.length} of ${total} ${noun})`;
}

/** node-postgres keeps the first word of the tag only: `create table` is told from the statement. */
function commandTag({ command, rowCount }: TextResult, statement: string): string {
  if (rowCount !== null) return `${command} ${rowCount}`;
  const object = /^\w+\s+(?:or\s+replace\s+)?(\w+)/i.exec(statement)?.[1];
  return /^(create|alter|drop)$/i.test(command) && object ? `${command} ${object.toUpperCase()}` : command;
}

/** One line of text that a terminal can be shown: control characters are written out. */
export const printable = (line: string): string =>
  line.replace(/\p{Cc}/gu, (control) => `\\x${control.charCodeAt(0).toString(16).padStart(2, '0')}`);

/** Control characters of a value must not reach the terminal as such. */
const linesOf = (value: string): string[] => value.split('\n').map(printable);

const widthOf = (text: string) => [...text].length;

function pad(text: string, width: number, right: boolean): string {
  const blanks = ' '.repeat(width - widthOf(text));
  return right ? blanks + text : text + blanks;
}

function center(text: string, width: number): string {
  const left = Math.floor((width - widthOf(text)) / 2);
  return pad(' '.repeat(left) + text, width, false);
}
