// What a benchmark is, and how its rows are compared and shown.
import type { Place } from './place.ts';

/** One line of the result: DESIGN section 12. */
export interface Row {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  /** The same thing done another way, measured in the same run; null where the target stands for itself. */
  readonly baseline: number | null;
  /** With a baseline: the ratio of the two. Null where none was set: the figure stands for itself, and counts as met. */
  readonly target: number | null;
  readonly met: boolean;
  readonly size: string;
}

export interface Bench {
  readonly name: string;
  run(place: Place, isFull: boolean): Promise<Row>;
}

export const median = (values: readonly number[]): number => {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
};

/** Measures two things in turn, so that whatever else the machine does meets both; medians of each. */
export async function alternate(
  rounds: number,
  value: () => Promise<number>,
  baseline: () => Promise<number>,
): Promise<{ value: number; baseline: number }> {
  const values: number[] = [];
  const baselines: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    values.push(await value());
    baselines.push(await baseline());
  }
  return { value: median(values), baseline: median(baselines) };
}

const COLUMNS: readonly (readonly [string, (row: Row) => string])[] = [
  ['benchmark', ({ name }) => name],
  ['value', ({ value }) => value.toPrecision(4)],
  ['baseline', ({ baseline }) => baseline?.toPrecision(4) ?? '-'],
  ['unit', ({ unit }) => unit],
  ['ratio', ({ value, baseline }) => (baseline === null ? '-' : (value / baseline).toFixed(2))],
  ['target', ({ target }) => String(target ?? '-')],
  ['met', ({ target, met }) => (target === null ? '-' : met ? 'yes' : 'NO')],
  ['size', ({ size }) => size],
];

/** The rows for people. */
export function table(rows: readonly Row[]): string {
  const cells = [COLUMNS.map(([title]) => title), ...rows.map((row) => COLUMNS.map(([, cell]) => cell(row)))];
  const widths = COLUMNS.map((_, i) => Math.max(...cells.map((line) => line[i]?.length ?? 0)));
  return cells
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
