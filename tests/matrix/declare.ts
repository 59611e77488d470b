// The matrix as people read it: what is not written is denied, or refused as everything is to this actor.
import { ACTORS } from './actors.ts';

/** What one actor met with one thing in one way. */
export interface Line {
  readonly thing: string;
  readonly way: string;
  readonly actor: string;
  readonly outcome: string;
}

const GONE = ACTORS.filter(({ gone }) => gone !== undefined).map(({ name }) => name);
const GROUPS: readonly (readonly [string, readonly string[]])[] = [
  ['everybody', ACTORS.map(({ name }) => name)],
  ['gone', GONE],
  ['members', ['owner', 'admin', 'member', 'viewer']],
];

/** Actors in their order, with groups by their name. */
export function nameActors(actors: ReadonlySet<string>, order: readonly string[]): string {
  let left = order.filter((name) => actors.has(name));
  const named: string[] = [];
  for (const [name, group] of GROUPS) {
    if (!group.every((one) => left.includes(one))) continue;
    named.push(name);
    left = left.filter((one) => !group.includes(one));
  }
  return [...named, ...left].join(' ');
}

function grouped<T>(items: readonly T[], keyOf: (item: T) => string): Map<string, T[]> {
  const groups = new Map<string, T[]>();
  for (const item of items) groups.set(keyOf(item), [...(groups.get(keyOf(item)) ?? []), item]);
  return groups;
}

/** `outcome: actors; outcome: actors`, without what is denied. */
function outcomes(lines: readonly Line[], order: readonly string[], isSilent: (outcome: string) => boolean): string {
  return [...grouped(lines, ({ outcome }) => outcome)]
    .filter(([outcome]) => !isSilent(outcome))
    .map(([outcome, those]) => `${outcome}: ${nameActors(new Set(those.map(({ actor }) => actor)), order)}`)
    .sort()
    .join('; ');
}

/** One block for each thing, in it one line for the ways that come to the same. */
export function declaration(
  head: string,
  lines: readonly Line[],
  order: readonly string[] = ACTORS.map(({ name }) => name),
  isSilent: (outcome: string) => boolean = (outcome) => outcome === 'denied',
): string {
  const blocks = [...grouped(lines, ({ thing }) => thing)].map(([thing, its]) => {
    const ways = [...grouped(its, ({ way }) => way)].map(([way, those]) => ({
      way,
      text: outcomes(those, order, isSilent),
    }));
    const body = [
      ...grouped(
        ways.filter(({ text }) => text !== ''),
        ({ text }) => text,
      ),
    ].map(([text, same]) => `  ${same.map(({ way }) => way).join(', ')}\n      ${text}`);
    return { thing, body: body.join('\n') };
  });
  const closed = blocks.filter(({ body }) => body === '').map(({ thing }) => `  ${thing}`);
  const open = [
    ...grouped(
      blocks.filter(({ body }) => body !== ''),
      ({ body }) => body,
    ),
  ].map(
    ([body, same]) =>
      `${same
        .map(({ thing }) => thing)
        .sort()
        .join('\n')}\n${body}`,
  );
  return `${[head, `closed to everybody in every way\n${closed.sort().join('\n')}`, ...open.sort()].join('\n\n')}\n`;
}
