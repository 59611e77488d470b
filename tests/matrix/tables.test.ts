// Tables × commands × actors (AZ-01, AZ-05, PG-10, PG-12 to PG-16, PG-35, PG-37, PG-40, PG-44), tried one by one.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ACTORS } from './actors.ts';
import { declaration } from './declare.ts';
import { buildPlace, type Place } from './place.ts';
import { catalog, nameOf, type Outcome, runTables } from './run-tables.ts';
import { SABOTAGES } from './sabotages.ts';
import type { Relation } from './table-cells.ts';

const DECLARED = '../snapshots/matrix-tables.txt';
const started = performance.now();
let place: Place;
let relations: Relation[] = [];
let outcomes: Outcome[] = [];

const HEAD = `Tables by commands by actors. What is not written is denied (42501).
own: all rows of the actor's organization; mine: the actor's own rows; shared: rows of no organization; OTHERS: rows of
another; nothing: no error and no row. "other" in a command: tried on a row of another organization. gone: whoever lost
access while the transaction was open. bare: a role that opened no request. Accept a change with -u after reading it.`;

/** Up to 15 it needs the right to read all columns, from 16 on any right that allows a stronger lock: tested below. */
const WEAKEST_LOCK = 'lock share';

const declared = (found: readonly Outcome[]): string =>
  declaration(
    HEAD,
    found
      .filter(({ command }) => command !== WEAKEST_LOCK)
      .map(({ relation, command, actor, outcome }) => ({ thing: nameOf(relation), way: command, actor, outcome })),
  );

async function runAll(those: readonly Relation[], actors = ACTORS, before: readonly string[] = []): Promise<Outcome[]> {
  const found = [];
  for (const actor of actors) found.push(...(await runTables(place, actor, those, before)));
  return found;
}

beforeAll(async () => {
  place = await buildPlace();
  relations = await catalog(place);
  outcomes = await runAll(relations);
}, 300_000);

afterAll(() => {
  const commands = new Set(outcomes.map(({ command }) => command)).size;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  process.stderr.write(
    `matrix: ${relations.length} relations × ${commands} commands × ${ACTORS.length} actors: ${outcomes.length} cells in ${seconds} s\n`,
  );
});

const lineOf = ({ relation, command, actor, outcome }: Outcome): string =>
  `${relation}: ${command} by ${actor}: ${outcome}`;

/** Cells that nobody can declare away. */
function forbidden(found: readonly Outcome[]): string[] {
  const isQueue = ({ relation, actor }: Outcome): boolean =>
    /^graphile_worker\./.test(relation) && ACTORS.some(({ name, login }) => name === actor && login === 'jobs');
  const changesDefinitions = /^(truncate|alter|policy|trigger|maintain|drop|setval)$/;
  return found
    .filter(
      (one) =>
        // The worker moves the jobs of all organizations; their payloads are ids.
        (/OTHERS|UNKNOWN|part of|some shared|rows/.test(one.outcome) && !isQueue(one) && !isTrail(one)) ||
        /refused 42(?!8)/.test(one.outcome) ||
        (changesDefinitions.test(one.command) && one.outcome !== 'denied'),
    )
    .map(lineOf);
}

/** Events of no organization, such as sign-ins, name people and are shown to nobody yet. */
const isTrail = ({ relation, outcome }: Outcome): boolean => relation === 'audit.events' && outcome === 'part of own';

describe('the place', () => {
  test('every table has rows, and rows of two organizations if it has any of one', async () => {
    const { rows } = await place.admin.query<{ name: string; any: boolean; a: boolean; b: boolean; mixed: boolean }>(
      `select c.oid::regclass::text as name, count(r.relation) > 0 as any,
         coalesce(bool_or(exists (select from unnest(r.labels) l where l ~ '^A')), false) as a,
         coalesce(bool_or(exists (select from unnest(r.labels) l where l ~ '^B')), false) as b,
         coalesce(bool_or((select count(distinct left(l, 1)) > 1 from unnest(r.labels) l)), false) as mixed
         from pg_class c join matrix.schemas() s on s.oid = c.relnamespace left join matrix.rows r on r.relation = c.oid
        where c.relkind in ('r', 'p', 'm', 'f') group by 1`,
    );
    expect(rows.filter(({ any, a, b, mixed }) => !any || a !== b || mixed)).toEqual([]);
  });
});

describe('every cell', () => {
  test('is as declared (AZ-01)', async () => {
    await expect(declared(outcomes)).toMatchFileSnapshot(DECLARED);
  });

  test('keeps organizations apart, whatever is declared (AZ-01, PG-15, PG-16)', () => {
    expect(forbidden(outcomes)).toEqual([]);
  });

  test('that locks lightly is for who may do more', () => {
    const more = new Set(
      outcomes
        .filter(({ command, outcome }) => command !== WEAKEST_LOCK && outcome !== 'denied')
        .map(({ relation, actor }) => `${relation} ${actor}`),
    );
    const locks = outcomes.filter(({ command, outcome }) => command === WEAKEST_LOCK && outcome !== 'denied');
    expect(locks.length).toBeGreaterThan(0);
    expect(locks.filter(({ relation, actor }) => !more.has(`${relation} ${actor}`)).map(lineOf)).toEqual([]);
  });

  test('of somebody who lost access in the open transaction is that of nobody (AZ-04)', () => {
    const of = (name: string) =>
      outcomes
        .filter(({ actor }) => actor === name)
        .map(({ relation, command, outcome }) => `${relation} ${command} ${outcome}`);
    const nobody = of('bare-member');
    for (const { name } of ACTORS.filter(({ gone }) => gone)) expect(of(name)).toEqual(nobody);
    expect(of('anonymous-as-member')).toEqual(nobody);
    expect(of('owner-as-anonymous')).toEqual(of('bare-anonymous'));
  });

  test("that refers to another organization's row is refused like one that refers to none (PG-35)", () => {
    const pairs = outcomes.filter(({ command }) => /^(refer|point) to other$/.test(command));
    const none = (one: Outcome) =>
      outcomes.find(
        ({ relation, actor, command }) =>
          relation === one.relation && actor === one.actor && command === one.command.replace('other', 'none'),
      );
    expect(pairs.length).toBeGreaterThan(0);
    expect(pairs.filter((one) => one.outcome !== none(one)?.outcome)).toEqual([]);
    expect(pairs.filter(({ outcome }) => !/^(denied|nothing|refused 23503)$/.test(outcome))).toEqual([]);
  });
});

/** Enough actors to see it. */
const WITNESSES = ACTORS.filter(({ name }) => ['owner', 'viewer', 'ended-session', 'bare-member'].includes(name));

describe('what is broken is seen', () => {
  test.each(SABOTAGES)('%s', async (_name, what, only, expected) => {
    const before = [typeof what === 'string' ? what : what(place)];
    const found = await runAll(await catalog(place, only, before), WITNESSES, before);
    const isOfIt = ({ relation }: Outcome) => new RegExp(only).test(relation);
    const isWitness = ({ actor }: Outcome) => WITNESSES.some(({ name }) => name === actor);
    const whole = outcomes.filter(isOfIt);
    expect(declared([...whole.filter((one) => !isWitness(one)), ...found])).not.toBe(declared(whole));
    const known = new Set(outcomes.map(lineOf));
    const news = found.map(lineOf).filter((line) => !known.has(line));
    expect(news.filter((line) => expected.test(line))).not.toEqual([]);
    if (/OTHERS/.test(expected.source)) expect(forbidden(found)).not.toEqual([]);
  });
});
