// The whole schema and all privileges of a database as text, from its catalog: there is no pg_dump for the embedded
// PostgreSQL, and this leaves out what differs from month to month.
import { readFile } from 'node:fs/promises';
import type pg from 'pg';

const read = (name: string) => readFile(new URL(`./catalog/${name}.sql`, import.meta.url), 'utf8');

/** Every object of ours with its facts, sorted by name. */
export async function dumpSchema(client: pg.Client): Promise<string> {
  const { rows } = await client.query<{ object: string; fact: string }>(await read('schema'));
  const lines: string[] = [];
  let current = '';
  for (const { object, fact } of rows) {
    if (object !== current) lines.push('', `-- ${object}`);
    current = object;
    lines.push(fact.trimEnd());
  }
  return `${lines.join('\n').trim()}\n`;
}

/** Role by object, one line an object, with a dash where nothing is granted. */
export async function dumpPrivileges(client: pg.Client): Promise<string> {
  const roles = await client.query<{ line: string }>(await read('memberships'));
  const { rows } = await client.query<{ name: string; owner: string; note: string; held: string[] }>(
    await read('privileges'),
  );
  const classes = await client.query<{ name: string; held: string[] }>(await read('classes'));
  const columns = ['PUBLIC', 'anonymous', 'member', 'authenticator', 'jobs', 'auditor', 'definer', 'keeper', 'owner'];
  const line = (held: readonly string[], owner: string, note: string, name: string) =>
    [
      ...held.map((letters, i) => letters.padEnd(Math.max(columns[i]?.length ?? 0, 5))),
      owner.padEnd(8),
      note.padEnd(7),
      name,
    ]
      .join(' ')
      .trimEnd();
  return `${[
    ...roles.rows.map(({ line: role }) => role),
    '',
    'r select  a insert  w update  d delete  D truncate  x references  t trigger  m maintain  U usage  C create  X execute  c connect  T temporary',
    's set  A alter system',
    'The owner of an object holds everything on it; his own column shows what he was granted on the objects of others.',
    '',
    line(columns, '', '', 'class of objects'),
    ...classes.rows.map(({ held, name }) => line(held, '', '', name)),
    '',
    line(columns, 'owned by', 'kind', 'object'),
    ...rows.map(({ held, owner, note, name }) => line(held, owner, note, name)),
  ].join('\n')}\n`;
}
