// What begins with a backslash. A command that asks the database is a statement like any other, and recorded as one.
import pg from 'pg';

/** What a command comes to. */
export type Meaning =
  | { readonly is: 'statement'; readonly text: string }
  | { readonly is: 'words'; readonly text: string }
  | { readonly is: 'expanded' }
  | { readonly is: 'quit' }
  | { readonly is: 'unknown' };

const HELP = `  statements end with ; and may take several lines; each runs in a request of its own
  begin … commit makes one request of several, which may last as long as the request of an API
  \\dt          tables that may be read
  \\d TABLE     columns of a table
  \\x           a line for each value, or a table again
  \\q, Ctrl-D   ends the shell and its session
  Ctrl-C       cancels the statement that runs, or what was typed
Every statement is recorded in the audit trail before it runs.`;

const TABLES = `select n.nspname as schema, c.relname as name,
  case when c.relkind in ('r', 'p') then 'table' else 'view' end as type, obj_description(c.oid, 'pg_class') as about
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition and n.nspname not in ('pg_catalog', 'information_schema')
  and has_schema_privilege(n.oid, 'usage') and has_any_column_privilege(c.oid, 'select')
order by 1, 2`;

const columnsOf = (table: string): string => `select a.attname as column, format_type(a.atttypid, a.atttypmod) as type,
  case when a.attnotnull then 'not null' end as "null", pg_get_expr(d.adbin, d.adrelid) as default,
  concat_ws(' ', case when has_column_privilege(a.attrelid, a.attnum, 'select') then 'read' end,
    case when has_column_privilege(a.attrelid, a.attnum, 'update') then 'write' end) as may
from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
where a.attrelid = ${pg.escapeLiteral(table)}::regclass and a.attnum > 0 and not a.attisdropped
order by a.attnum`;

/** Reads one command, such as `\d clinic.patients`. */
export function meaningOf(command: string): Meaning {
  const [, name = '', argument = ''] = /^\\(\S*)\s*(.*?)\s*;?\s*$/s.exec(command) ?? [];
  if (name === 'q') return { is: 'quit' };
  if (name === '?' || name === 'h') return { is: 'words', text: HELP };
  if (name === 'x') return { is: 'expanded' };
  if (name === 'dt' || (name === 'd' && argument === '')) return { is: 'statement', text: TABLES };
  if (name === 'd') return { is: 'statement', text: columnsOf(argument) };
  return { is: 'unknown' };
}
