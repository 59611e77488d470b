// Rules about the text of sql/, which no catalog shows.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { splitStatements } from '../../src/platform/sql-statements.ts';
import { cloneDatabase } from '../support/database.ts';

const root = join(import.meta.dirname, '../../sql');

const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.sql'))
  .map((name) => ({ name, text: readFileSync(join(root, name), 'utf8') }));

/** Comments blanked out, line by line, so that places stay true. */
const code = (text: string) =>
  text.replace(/--[^\n]*/g, '').replace(/\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, ' '));

function places(pattern: RegExp, from: (text: string) => string = code): string[] {
  return files.flatMap(({ name, text }) =>
    [...from(text).matchAll(pattern)].map(
      ({ 0: found, index }) => `sql/${name}:${text.slice(0, index).split('\n').length} ${found}`,
    ),
  );
}

/** What PostgreSQL 15 refuses or takes for something else (FINDINGS F22). */
const NOT_IN_15: Readonly<Record<string, RegExp>> = {
  'uuidv7(), uuidv4()': /\buuidv[47]\s*\(/gi,
  pg_input_is_valid: /\bpg_input_(is_valid|error_info)\b/gi,
  debug_parallel_query: /\bdebug_parallel_query\b/gi,
  any_value: /\bany_value\s*\(/gi,
  'IS JSON': /\bis\s+(not\s+)?json\b/gi,
  'JSON_TABLE and its kin':
    /\bjson_(table|value|query|exists|serialize|scalar|array|object)\s*\([^)]*\b(columns|returning|path)\b/gi,
  'MERGE … RETURNING': /\bmerge\s+into\b[^;]*\breturning\b/gi,
  'RETURNING old / new': /\breturning\s+(with\s*\(\s*)?(old|new)\s*[.)a]/gi,
  'grant … with inherit / set': /\bgrant\b[^;]*\bwith\s+(inherit|set)\b/gi,
  MAINTAIN: /\bgrant\s+[^;]*\bmaintain\b/gi,
  'NOT NULL NOT VALID': /\bnot\s+null\b[^;,]*\bnot\s+valid\b/gi,
  'WITHOUT OVERLAPS': /\bwithout\s+overlaps\b/gi,
  'random(a, b)': /\brandom\s*\(\s*[^)\s]/gi,
  crc32: /\bcrc32c?\s*\(/gi,
  casefold: /\bcasefold\s*\(/gi,
  'array_shuffle, array_sample, array_sort, array_reverse': /\barray_(shuffle|sample|sort|reverse)\s*\(/gi,
  'COPY on_error': /\bon_error\b/gi,
  system_user: /\bsystem_user\b/gi,
  'numbers with underscores': /(?<![\w$'])\d+_\d+/g,
  'a generated column that does not say STORED': /\bgenerated\s+always\s+as\s*\((?:[^()]|\([^()]*\))*\)(?!\s+stored)/gi,
  'NOT ENFORCED': /\bnot\s+enforced\b/gi,
};

for (const [feature, pattern] of Object.entries(NOT_IN_15)) {
  test(`F22 no file uses ${feature}`, () => {
    expect(places(pattern)).toEqual([]);
  });
}

test('F22 each pattern sees what it is for', () => {
  const samples: Record<string, string> = {
    'uuidv7(), uuidv4()': 'select uuidv7()',
    pg_input_is_valid: "select pg_input_is_valid('1', 'int')",
    debug_parallel_query: 'set debug_parallel_query = on',
    any_value: 'select any_value(x)',
    'IS JSON': 'check (x is json)',
    'JSON_TABLE and its kin': "json_table(x, '$' columns (a int))",
    'MERGE … RETURNING': 'merge into t using s on true when matched then delete returning t.id',
    'RETURNING old / new': 'update t set a = 1 returning old.a',
    'grant … with inherit / set': 'grant a to b with inherit false',
    MAINTAIN: 'grant select, maintain on t to b',
    'NOT NULL NOT VALID': 'add constraint c not null a not valid',
    'WITHOUT OVERLAPS': 'primary key (id, during without overlaps)',
    'random(a, b)': 'random(1, 6)',
    crc32: 'crc32c(x)',
    casefold: 'casefold(x)',
    'array_shuffle, array_sample, array_sort, array_reverse': 'array_sort(x)',
    'COPY on_error': 'copy t from stdin (on_error ignore)',
    system_user: 'select system_user',
    'numbers with underscores': 'values (1_000)',
    'a generated column that does not say STORED': 'b int generated always as (a * (2)) virtual',
    'NOT ENFORCED': 'check (a > 1) not enforced',
  };
  for (const [feature, pattern] of Object.entries(NOT_IN_15)) {
    expect([...(samples[feature] ?? '').matchAll(pattern)].length, feature).toBeGreaterThan(0);
  }
});

test('every errcode that is raised stands in the register', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const { rows } = await admin.query('select sqlstate from platform.errors');
  const known = new Set(rows.map(({ sqlstate }) => sqlstate));
  const raised = places(/errcode\s*(?:=|:=|=>)\s*'?([0-9A-Za-z_]+)'?/gi);
  expect(raised.length).toBeGreaterThan(10);
  expect(raised.filter((place) => !known.has(/([0-9A-Za-z_]+)'?$/.exec(place)?.[1]))).toEqual([]);
});

test('codes of our own follow the rules for them', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const { rows } = await admin.query(
    "select sqlstate from platform.errors where sqlstate ~ '^[A-Z]' and sqlstate !~ '^P0'",
  );
  const bad = rows
    .map(({ sqlstate }) => String(sqlstate))
    .filter((code) => !/^[A-EGI-OQ-WYZ][0-9A-Z][^0P][A-Z](?!000)[0-9A-Z]$/.test(code));
  expect(bad).toEqual([]);
});

test('every file is part of the whole, or one of the installer', () => {
  const installer = ['platform/roles.sql', 'platform/extensions.sql', 'platform/queue.sql', 'all.sql'];
  const included = new Set(
    files.flatMap(({ text }) => [...text.matchAll(/^--!include (\S+)$/gm)].map((match) => match[1])),
  );
  const names = files.map(({ name }) => name).filter((name) => !name.startsWith('upgrades/'));
  expect(names.filter((name) => !included.has(name) && !installer.includes(name))).toEqual([]);
});

test('every file begins with its purpose', () => {
  expect(files.filter(({ text }) => !text.startsWith('-- ')).map(({ name }) => name)).toEqual([]);
});

test('a file that takes another role gives it back', () => {
  const left = files.filter(({ text }) => {
    let role = 'own';
    for (const { text: statement } of splitStatements(text)) {
      if (/^set\s+(local\s+)?role\b/i.test(statement)) role = 'another';
      if (/^reset\s+role$/i.test(statement)) role = 'own';
    }
    return role !== 'own';
  });
  expect(left.map(({ name }) => name)).toEqual([]);
});

test('no line ends in blanks and no tab is used', () => {
  expect(places(/[ \t]+$|\t/gm, (text) => text).map((place) => place.trimEnd())).toEqual([]);
});

test('keywords are lower case', () => {
  const strings = (text: string) =>
    code(text)
      .replace(/'(?:[^']|'')*'/g, (s) => s.replace(/[^\n]/g, ' '))
      .replace(/\$\$|\$\w+\$/g, '  ');
  expect(
    places(
      /\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|CREATE|ALTER|DROP|GRANT|REVOKE|WHERE|FROM|BEGIN|RETURNS)\b/g,
      strings,
    ),
  ).toEqual([]);
});
