// What the command line shows: aligned columns, colour on a terminal only.
import { styleText } from 'node:util';
import type { Finding, Level } from './doctor/check.ts';
import type { MigrationState } from './migrate/status.ts';

type Colour = Parameters<typeof styleText>[0];

/** Marks a word with a colour where the output is a terminal that has them. */
export type Paint = (colour: Colour, text: string) => string;
export const painter =
  (stream: NodeJS.WriteStream): Paint =>
  (colour, text) =>
    stream.isTTY ? styleText(colour, text, { stream }) : text;

const LEVELS: Record<Level, { word: string; colour: Colour }> = {
  ok: { word: 'ok', colour: 'green' },
  warn: { word: 'warn', colour: 'yellow' },
  wrong: { word: 'WRONG', colour: ['bold', 'red'] },
};

/** The doctor's findings, one line each, and what they amount to. */
export function findingsTable(findings: readonly Finding[], paint: Paint): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.map(({ level, check, line }) => {
    const { word, colour } = LEVELS[level];
    return `${paint(colour, word.padEnd(5))}  ${check.padEnd(width)}  ${line}`;
  });
  const count = (wanted: Level) => findings.filter(({ level }) => level === wanted).length;
  return [...lines, '', `${count('wrong')} wrong, ${count('warn')} to know, ${count('ok')} ok`].join('\n');
}

const STATES: Record<MigrationState['state'], { word: string; colour: Colour }> = {
  run: { word: 'run', colour: 'green' },
  unrun: { word: 'not run', colour: 'yellow' },
  changed: { word: 'CHANGED', colour: ['bold', 'red'] },
  unknown: { word: 'UNKNOWN', colour: ['bold', 'red'] },
};

/** Migrations, one line each. */
export function migrationsTable(states: readonly MigrationState[], paint: Paint): string {
  return states
    .map(({ filename, state, hash, appliedAt }) => {
      const { word, colour } = STATES[state];
      const when = appliedAt?.toISOString().replace(/\.\d+Z$/, 'Z') ?? '-';
      return `${paint(colour, word.padEnd(7))}  ${filename}  ${when.padEnd(20)}  ${hash}`;
    })
    .join('\n');
}
