// Rules about the text of sql/, which no catalog shows.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, inject, test } from 'vitest';
import { splitStatements } from '../../src/platform/sql/statements.ts';
import { cloneDatabase } from '../support/database.ts';
import { NOT_IN_15 } from './lints/not-in-15.ts';

const root = join(import.meta.dirname, '../../sql');

const files = readdirSync(root, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.sql'))
  .map((name) => ({ name, text: readFileSync(join(root, name), 'utf8') }));

/** Comments blanked out, line by line, so that places stay true. */
const code = (text: string) => text.replace(/--[^\n]*|\/\*[\s\S]*?\*\//g, (c) => c.replace(/[^\n]/g, ' '));

function places(pattern: RegExp, from: (text: string) => string = code): string[] {
  return files.flatMap(({ name, text }) =>
    [...from(text).matchAll(pattern)].map(
      ({ 0: found, index }) => `sql/${name}:${text.slice(0, index).split('\n').length} ${found}`,
    ),
  );
}

test.each(NOT_IN_15.map((newer) => [newer.name, newer] as const))('F22 no file uses %s', (_, newer) => {
  const found = places(newer.pattern);
  expect(found.filter((place) => !newer.guarded?.some((file) => place.startsWith(`sql/${file}:`)))).toEqual([]);
  // An exception that nothing needs any more would hide the next mistake.
  for (const file of newer.guarded ?? []) {
    expect(found.filter((place) => place.startsWith(`sql/${file}:`)).length, file).toBeGreaterThan(0);
    expect(files.find(({ name }) => name === file)?.text).toContain("current_setting('server_version_num')");
  }
});

test('F22 each pattern sees what it is for, which a server takes only when it is new enough', async () => {
  const admin = await (await cloneDatabase()).connect('admin');
  const taken: string[] = [];
  for (const { name, pattern, statement } of NOT_IN_15) {
    expect(code(statement).match(pattern), name).not.toBeNull();
    await admin.query('begin');
    if (await admin.query(statement).then(Boolean, () => false)) taken.push(name);
    await admin.query('rollback');
  }
  expect(taken).toEqual(NOT_IN_15.filter(({ since }) => since <= inject('postgres')).map(({ name }) => name));
});

test('F22 no role says inherit, which 15 applies to all its roles at once and later ones to each grant', () => {
  const pattern = /\b(create|alter)\s+role\b[^;]*\binherit\b/gi;
  expect('alter role safetypin_authenticator inherit').toMatch(pattern);
  expect(places(pattern)).toEqual([]);
});

test('F22 each role says noinherit before anything is granted to it', () => {
  const text = code(files.find(({ name }) => name === 'platform/roles.sql')?.text ?? '');
  const granted = [...text.matchAll(/\bgrant\s+safetypin_[^;]*\bto\s+([\w\s,]+);/gi)].flatMap(({ 1: to = '', index }) =>
    to
      .split(',')
      .map((role) => [role.trim(), text.search(new RegExp(`alter role ${role.trim()} [^;]*noinherit`)), index]),
  );
  expect(granted.length).toBeGreaterThan(0);
  for (const [role, said, index] of granted) {
    expect(said, String(role)).toBeGreaterThan(-1);
    expect(Number(said), String(role)).toBeLessThan(Number(index));
  }
});

test('F22 on no version does a login read what its roles may, whatever the attribute says', async () => {
  const db = await cloneDatabase();
  const admin = await db.connect('admin');
  const readable = async () => {
    const { rows } = await admin.query(
      `select c.oid::regclass::text as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where c.relkind in ('r', 'p', 'v') and n.nspname !~ '^(pg_|information_schema)' and nspname <> 'extensions'
          and has_schema_privilege('safetypin_authenticator', n.oid, 'usage')
          and has_any_column_privilege('safetypin_authenticator', c.oid, 'select')`,
    );
    return rows.map(({ name }) => name);
  };
  // The texts of errors are for everybody.
  expect(await readable()).toEqual(['platform.errors']);
  // The attack that only 15 lets through, and the reason for the order in platform/roles.sql.
  await admin.query('begin');
  await admin.query('alter role safetypin_authenticator inherit');
  const inherited = await readable();
  await admin.query('rollback');
  if (inject('postgres') < 16) expect(inherited).toContain('access.organizations');
  else expect(inherited).toEqual(['platform.errors']);
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
