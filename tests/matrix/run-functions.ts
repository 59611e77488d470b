// Runs the functions' part of the matrix.
import { randomBytes } from 'node:crypto';
import { type Actor, withActor } from './actors.ts';
import type { Line } from './declare.ts';
import { type Belongings, functionCells, type Routine } from './function-cells.ts';
import type { Place } from './place.ts';
import type { Cell } from './table-cells.ts';

interface Answer {
  readonly outcome: string;
  readonly changes: readonly string[];
  readonly answer: string | null;
}

/** The functions, as they are when something was broken first. */
export async function routines({ admin }: Place, pattern = '', before: readonly string[] = []): Promise<Routine[]> {
  await admin.query('begin');
  for (const sql of before) await admin.query(sql);
  const { rows } = await admin.query<{ routine: Routine }>('select routine from matrix.routines($1)', [pattern]);
  await admin.query('rollback');
  return rows.map(({ routine }) => routine);
}

async function belongingsOf(place: Place, name: string, withSecrets: boolean): Promise<Belongings> {
  const { id, session, email, credential, refreshToken } = place.person(name);
  const { rows } = await place.admin.query<{ has: Record<string, string | null> }>(
    'select matrix.belongings($1, $2) as has',
    [id, session],
  );
  const has = Object.entries(rows[0]?.has ?? {}).flatMap(([kind, value]): [string, string][] =>
    value === null ? [] : [[kind, String(value)]],
  );
  // Of another, a secret is not known: something of the same length stands for it.
  const secrets = (withSecrets ? [credential, refreshToken] : [randomBytes(32)]).map(
    (secret) => `\\x${secret.toString('hex')}`,
  );
  const ids = has.filter(([, value]) => /^[0-9a-f-]{36}$/.test(value));
  return {
    ids: ids.map(([, value]) => value),
    named: Object.fromEntries(ids),
    bytes: [...secrets, ...has.filter(([, value]) => value.startsWith('\\x')).map(([, value]) => value)],
    job: String(rows[0]?.has.job ?? 1),
    email,
  };
}

/** An answer in a word: what it says if that is a word, else only that it says something. */
function inAWord(answer: string | null): string {
  if (answer === '{NULL}') return 'null';
  if (answer === '{""}') return 'done';
  if (answer === null || /^\{"?[(,)]*"?\}$/.test(answer)) return 'nothing';
  if (/[^\\]","/.test(answer)) return 'rows';
  const first = /^\{"?\(?([^,")}]*)/.exec(answer)?.[1] ?? '';
  if (/^[A-Za-z_]{2,}$/.test(first)) return first;
  return /^\d+$/.test(first) ? 'a number' : 'answers';
}

/** Without the month, in which a partition was made. */
const tableOf = (change: string): string => change.replace(/:.*$/, '').replace(/_\d{4}_\d{2}$/, '');

function outcomeOf({ outcome, changes, answer }: Answer): string {
  if (outcome !== 'done') return outcome;
  const others = changes.filter((change) => change.endsWith(':OTHERS'));
  const touched = [...new Set(others.filter((change) => !change.startsWith('answer')).map(tableOf))].sort();
  return [
    inAWord(answer),
    ...(others.some((change) => change.startsWith('answer')) ? ['TELLS OTHERS'] : []),
    ...(touched.length > 0 ? [`CHANGES OTHERS in ${touched.join(', ')}`] : []),
  ].join(', ');
}

/** All calls of one actor: each function and way once, with the outcomes of its calls together. */
export async function runFunctions(
  place: Place,
  actor: Actor,
  those: readonly Routine[],
  before: readonly string[] = [],
): Promise<{ lines: Line[]; calls: number }> {
  const self = actor.as === '-' ? (actor.gone?.of ?? 'owner') : String(actor.as.split('/')[1]);
  const own = await belongingsOf(place, self, true);
  const foreign = await belongingsOf(place, actor.as.startsWith('B/') ? 'owner' : 'neighbour', false);
  const cells = those.flatMap((routine) =>
    functionCells(routine, own, foreign).map((cell) => ({ ...cell, title: routine.title })),
  );
  const { rows } = await withActor(
    place,
    actor,
    (client) => client.query<Answer>('select * from matrix.run($1, $2)', [actor.as, JSON.stringify(cells)]),
    before,
  );
  const found = new Map<string, Set<string>>();
  for (const [index, answer] of rows.entries()) {
    const { title, command } = cells[index] as Cell & { title: string };
    // Which functions an extension has differs from version to version.
    const key = `${title.replace(/^extensions\..*/, 'extensions.*')} by ${command}`;
    found.set(key, (found.get(key) ?? new Set()).add(outcomeOf(answer)));
  }
  const lines = [...found].map(([key, outcomes]): Line => {
    const [thing, way] = key.split(' by ');
    return { thing: String(thing), way: String(way), actor: actor.name, outcome: [...outcomes].sort().join(' | ') };
  });
  return { lines, calls: cells.length };
}
