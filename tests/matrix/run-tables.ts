// Runs the tables' part of the matrix.
import type pg from 'pg';
import { type Actor, withActor } from './actors.ts';
import type { Place } from './place.ts';
import { type Cell, type Relation, tableCells } from './table-cells.ts';

export interface Outcome {
  readonly relation: string;
  readonly command: string;
  readonly actor: string;
  readonly outcome: string;
}

interface Answer {
  readonly cell: number;
  readonly outcome: string;
  readonly rows: string | null;
  readonly changes: readonly string[];
  readonly answer: string | null;
}

/** One name for partitions by month, which differ from month to month. */
export const nameOf = (relation: string): string => relation.replace(/_\d{4}_\d{2}$/, '_<month>');

/** The relations, as they are when something was broken first. */
export async function catalog({ admin }: Place, only = '', before: readonly string[] = []): Promise<Relation[]> {
  await admin.query('begin');
  for (const sql of before) await admin.query(sql);
  const { rows } = await admin.query<{ relation: Relation }>('select relation from matrix.catalog($1)', [only]);
  await admin.query('rollback');
  return rows.map(({ relation }) => relation);
}

/** What a write came to: whose rows it changed. */
function written({ rows, changes }: Answer): string {
  const whose = new Set(
    changes.filter((change) => !change.startsWith('audit.events')).map((change) => change.split(':').at(-1)),
  );
  if (whose.size === 0) return rows === '0' ? 'nothing' : 'no change';
  return [...whose].sort().join('+');
}

/** COPY speaks to the client, so it cannot run inside a function. Answers relation and command with what came of it. */
async function copies(client: pg.Client, relations: readonly Relation[]): Promise<[string, string, string][]> {
  const found: [string, string, string][] = [];
  await client.query('savepoint cell');
  for (const { name, kind } of relations) {
    if (kind === 'S') continue;
    for (const [command, sql] of [
      ['copy to', kind === 'r' ? `copy ${name} to stdout` : `copy (table ${name}) to stdout`],
      ['copy from', `copy ${name} from stdin`],
    ] as const) {
      const outcome = await client.query(`rollback to savepoint cell; ${sql}`).then(
        (results) => String((results as unknown as pg.QueryResult[]).at(-1)?.rowCount),
        ({ code }) => (code === '42501' ? 'denied' : `refused ${code}`),
      );
      found.push([name, command, outcome]);
    }
  }
  return found;
}

/** What counting or copying gave, in the words of what selecting gave when it is as many rows. */
const asSeen = (rows: string | null, seen: Answer | undefined): string =>
  rows === '0' ? 'nothing' : rows !== null && rows === seen?.rows ? seen.outcome : `${rows} rows`;

function inWords(kind: Cell['kind'], answer: Answer, seen: Answer | undefined): string {
  if (answer.outcome !== 'done') return answer.outcome;
  if (kind === 'count') return asSeen(answer.rows, seen);
  return kind === 'write' ? written(answer) : 'done';
}

/** All cells of one actor. */
export async function runTables(
  place: Place,
  actor: Actor,
  relations: readonly Relation[],
  before: readonly string[] = [],
): Promise<Outcome[]> {
  const cells = relations.flatMap((relation) => tableCells(relation, actor.role, actor.as));
  const names = new Map(relations.map(({ oid, name }) => [oid, name]));
  return withActor(
    place,
    actor,
    async (client) => {
      const { rows } = await client.query<Answer>('select * from matrix.run($1, $2)', [
        actor.as,
        JSON.stringify(cells),
      ]);
      const seen = new Map<string, Answer>();
      const outcomes: Outcome[] = [];
      const note = (relation: string, command: string, outcome: string) =>
        // Who is in no organization has nothing but what is her own.
        outcomes.push({
          relation,
          command,
          actor: actor.name,
          outcome: actor.as.startsWith('H/') ? outcome.replace('own', 'mine') : outcome,
        });
      for (const [index, answer] of rows.entries()) {
        const { relation, command, kind } = cells[index] as Cell;
        const name = String(names.get(relation));
        if (command === 'select') seen.set(name, answer);
        note(name, command, inWords(kind, answer, seen.get(name)));
      }
      for (const [name, command, outcome] of await copies(client, relations)) {
        note(name, command, /^\d+$/.test(outcome) ? asSeen(outcome, seen.get(name)) : outcome);
      }
      return outcomes;
    },
    before,
  );
}
