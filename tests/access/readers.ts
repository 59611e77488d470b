// Everything that each actor can read, whole: to compare one way of running statements with another.
import type pg from 'pg';
import { Application, type Person } from '../support/actors.ts';
import type { TestDatabase } from '../support/database.ts';

/** Three people in two organizations and nobody, on our tables and on one of a host with enough rows for a real plan. */
export interface Readers {
  readonly app: Application;
  readonly ada: Person;
  /** Name and credential; nobody has none. */
  readonly actors: readonly (readonly [string, Buffer | null])[];
}

/** Registers the readers and fills the host's table. */
export async function makeReaders(db: TestDatabase): Promise<Readers> {
  const app = await Application.beside(db);
  const ada = await app.person('ada');
  const bob = await app.person('bob');
  const gone = await app.person('gone');
  await app.call(gone.credential, 'select api.logout()');
  const owner = await db.connect('owner');
  await owner.query(`
    create schema clinic;
    create table clinic.visits (
      organization_id uuid not null, id uuid default platform.uuid_v7(), note text, primary key (organization_id, id));
    select access.protect('clinic.visits');`);
  const admin = await db.connect('admin');
  for (const { organization, name } of [ada, bob, gone]) {
    await admin.query(
      "insert into clinic.visits (organization_id, note) select $1, $2 || ' ' || i from generate_series(1, 300) i",
      [organization, name],
    );
  }
  await admin.query('analyze clinic.visits');
  const actors = [
    ['nobody', null],
    ['ada', ada.credential],
    ['bob', bob.credential],
    ['gone', gone.credential],
  ] as const;
  return { app, ada, actors };
}

/** Tables and views by the columns that some role of a request may read. */
export async function readable(admin: pg.ClientBase): Promise<{ name: string; columns: string }[]> {
  const { rows } = await admin.query(
    `select c.oid::regclass::text as name, string_agg(quote_ident(a.attname), ', ' order by a.attnum) as columns
       from pg_class c join pg_namespace n on n.oid = c.relnamespace
       join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      where c.relkind in ('r', 'p', 'v') and n.nspname !~ '^(pg_|information_schema|extensions)'
        and has_column_privilege('safetypin_member', c.oid, a.attnum, 'select')
        and has_schema_privilege('safetypin_member', n.oid, 'usage')
      group by c.oid order by 1`,
  );
  return rows;
}

/** Statements of a client that ask who is asking, for each row, which a policy of ours never does. */
const OWN = [
  'select note from clinic.visits where organization_id = request.organization_id()',
  "select note, request.user_id(), request.can('row.read') from clinic.visits where note ~ '7$'",
  'select count(*), count(distinct request.organization_id()) from clinic.visits',
];

/** What each actor gets, as text by "actor: statement": the rows in order, or the code of a refusal. */
export async function everythingRead(
  { app, actors }: Readers,
  tables: readonly { name: string; columns: string }[],
  settings: string,
): Promise<Map<string, string>> {
  const read = new Map<string, string>();
  const client = await app.pool.connect();
  for (const [actor, credential] of actors) {
    await client.query('begin');
    await client.query(settings);
    const closed = await app.open(client, credential).then(
      () => undefined,
      (error) => String(error.code),
    );
    for (const text of [...tables.map(({ name, columns }) => `select ${columns} from ${name}`), ...OWN]) {
      read.set(`${actor}: ${text}`, closed ?? (await answerTo(client, text)));
    }
    await client.query('rollback');
  }
  client.release();
  return read;
}

async function answerTo(client: pg.ClientBase, text: string): Promise<string> {
  await client.query('savepoint s');
  try {
    const { rows } = await client.query(`select to_jsonb(t)::text as row from (${text}) t`);
    const lines = rows.map(({ row }) => row).sort();
    return `${lines.length} rows\n${lines.join('\n')}`;
  } catch (error) {
    await client.query('rollback to s');
    return String((error as { code?: string }).code);
  }
}
