// Splitting SQL text into its statements, as psql would.
import { expect, test } from 'vitest';
import { splitStatements } from '../../src/platform/sql/statements.ts';

const texts = (sql: string) => splitStatements(sql).map(({ text }) => text);

test.each([
  ['two statements', 'select 1; select 2', ['select 1', 'select 2']],
  ['an empty text', '', []],
  ['blanks, comments and lonely semicolons', ' ;; -- a;b\n /* c; /* d; */ ; */ ;', []],
  ['a comment before, in and after', '-- first\nselect /* ; */ 1 -- ;\n; -- end', ['select /* ; */ 1 -- ;']],
  [
    'quotes',
    `select 'a;b', "c;d", 'it''s;', "q""r;"; select 2`,
    [`select 'a;b', "c;d", 'it''s;', "q""r;"`, 'select 2'],
  ],
  [
    'escapes',
    `select E'a\\';b', e'\\\\'; select 'a\\'; select 3`,
    [`select E'a\\';b', e'\\\\'`, `select 'a\\'`, 'select 3'],
  ],
  [
    'dollar quotes',
    'do $$ begin a; b; end $$; do $x$ $$ ; $$ $x$; select 3',
    ['do $$ begin a; b; end $$', 'do $x$ $$ ; $$ $x$', 'select 3'],
  ],
  ['names and parameters with a dollar', 'select a$b$, $1; select 2', ['select a$b$, $1', 'select 2']],
  [
    'rules with several actions',
    'create rule r as on insert to t do also (select 1; select 2); select 3',
    ['create rule r as on insert to t do also (select 1; select 2)', 'select 3'],
  ],
  [
    'bodies in standard SQL',
    'create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 3',
    ['create function f() returns int begin atomic select case when true then 1 end; select 2; end', 'select 3'],
  ],
  ['begin and end as statements', 'begin; select 1; end; select 2', ['begin', 'select 1', 'end', 'select 2']],
  ['letters of other alphabets', `select 'ä;ö' as größe; select 2`, [`select 'ä;ö' as größe`, 'select 2']],
  ['what does not end', `select 'a;b`, [`select 'a;b`]],
  ['a command of psql', '\\d t\n', ['\\d t']],
  ['an operator first', '(select 1); select 2', ['(select 1)', 'select 2']],
] as const)('%s', (_name, sql, expected) => {
  expect(texts(sql)).toEqual(expected);
});

test('each statement knows where it stands', () => {
  const sql = '-- a\n\nselect 1;\n  /* b */ select 2;';
  for (const { text, offset } of splitStatements(sql)) expect(sql.slice(offset, offset + text.length)).toBe(text);
  expect(splitStatements(sql).map(({ offset }) => sql.slice(0, offset).split('\n').length)).toEqual([3, 4]);
});
