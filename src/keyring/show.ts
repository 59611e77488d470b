// What `safetypin keys` shows.
import type { Paint } from '../platform/table.ts';
import { type Halves, halfId } from './provider.ts';
import type { Tree, Work } from './tree.ts';

/** Works that are over are shown, newest last, up to so many. */
const LAST_WORKS = 5;
const BAR = 24;

interface Shown {
  readonly tree: Tree;
  readonly provider: { readonly name: string; readonly halves?: Halves; readonly problem?: string };
  readonly now: Date;
  readonly paint: Paint;
}

/** The whole tree, from the roots to what is being done with it. */
export function treeText({ tree, provider, now, paint }: Shown): string {
  const newest = tree.roots.at(-1)?.root;
  const bound = new Set(tree.roots.map(({ application }) => application));
  const half = (id: Buffer) =>
    bound.has(id.toString('hex')) ? paint('green', 'in use') : paint('yellow', 'not in use by this database');
  const application = provider.halves
    ? Object.entries(provider.halves).map(([which, key]) => [which, halfId(key).toString('hex'), half(halfId(key))])
    : [];
  const roots = tree.roots.map(({ root, application, created_at, data_keys, retired_keys, index_keys, oldest_key }) => [
    `${root}`,
    application ?? '-',
    age(created_at, now),
    number(data_keys),
    number(retired_keys),
    number(index_keys),
    oldest_key ? age(oldest_key, now) : '-',
    root === newest ? paint('green', 'in use') : paint('yellow', 'being emptied'),
  ]);
  const over = tree.works.filter(({ finished_at }) => finished_at !== null).slice(-LAST_WORKS);
  const works = [...over, ...tree.works.filter(({ finished_at }) => finished_at === null)];
  return [
    `${paint('bold', 'Application’s half')}  ${provider.name}`,
    ...(provider.problem ? [`  ${paint('red', provider.problem)}`] : columns([['', 'id', ''], ...application])),
    '',
    paint('bold', 'Roots (the database’s half)'),
    ...columns([['root', 'bound to', 'age', 'data keys', 'retired', 'index keys', 'oldest key', ''], ...roots]),
    '',
    `${paint('bold', 'Transport key')}  ${tree.transport ? `${age(tree.transport, now)} old` : 'none: the next request makes one'}`,
    '',
    paint('bold', 'Works'),
    ...(works.length === 0 ? ['  none'] : works.map((work) => `  ${workLine(work, now, paint)}`)),
  ].join('\n');
}

/** One work: what it is about, a bar, what it stumbles over. */
export function workLine(work: Work, now: Date, paint: Paint): string {
  const { kind, column_name, percent, done, total, finished_at, created_at, problem } = work;
  const what = [kind, column_name].filter(Boolean).join(' ');
  if (finished_at !== null) {
    const took = Math.max(0, finished_at.getTime() - created_at.getTime());
    return `${paint('green', 'done')}  ${what}: ${number(done)} rows in ${duration(took)}, ${age(finished_at, now)} ago`;
  }
  const full = Math.round(((percent ?? 0) * BAR) / 100);
  const bar = `${'█'.repeat(full)}${'░'.repeat(BAR - full)}`;
  const so = `${bar} ${`${percent ?? 0}`.padStart(3)} %  ${what}: ${number(done)} of ${total === null ? '?' : number(total)}`;
  return problem ? `${so}  ${paint('red', `${problem}, is tried again`)}` : so;
}

const number = (count: string) => Number(count).toLocaleString('en');

const UNITS = [
  ['d', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
  ['s', 1_000],
] as const;

function duration(milliseconds: number): string {
  const [unit, size] = UNITS.find(([, size]) => milliseconds >= 2 * size) ?? (['s', 1_000] as const);
  const count = milliseconds / size;
  return `${unit === 's' && count < 10 ? count.toFixed(1) : Math.floor(count)} ${unit}`;
}

const age = (since: Date, now: Date) => duration(Math.max(0, now.getTime() - since.getTime()));

// Colours take no room on a terminal.
// biome-ignore lint/suspicious/noControlCharactersInRegex: the escape sequences of a terminal begin with one
const widthOf = (text: string) => text.replace(/\u001b\[\d+m/g, '').length;

function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, at) => Math.max(...rows.map((row) => widthOf(row[at] ?? '')))) ?? [];
  return rows.map((row) =>
    `  ${row.map((cell, at) => cell + ' '.repeat((widths[at] ?? 0) - widthOf(cell))).join('  ')}`.trimEnd(),
  );
}
