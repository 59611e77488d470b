// Every function, called with nothing, with what is one's own, with another organization's and with what does not exist.
import { randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';
import { GOOD } from '../support/actors.ts';
import type { Cell } from './table-cells.ts';

export interface Routine {
  readonly name: string;
  readonly title: string;
  readonly isTrigger: boolean;
  readonly arguments: readonly { readonly name: string; readonly type: string }[];
}

/** What a person has that a function can be asked about: identifiers and hashes, by kind. */
export interface Belongings {
  readonly ids: readonly string[];
  /** The same by what they are of: membership, role… */
  readonly named: Readonly<Record<string, string>>;
  readonly bytes: readonly string[];
  readonly job: string;
  readonly email: string;
}

const quote = pg.escapeLiteral;
const ARGON2 = { memory: 19456, passes: 2, parallelism: 1, tagLength: 32 };

/** Texts that a function would take, by the argument's name. */
const TEXTS: Readonly<Record<string, string>> = {
  code: '000000',
  permission: 'row.read',
  role: 'viewer',
  task: 'mail__send',
  identifier: 'mail__send',
  scheme: 'argon2id',
  door: 'password',
  purpose: 'verification',
  kind: 'password_reset',
  column_name: 'identity.emails.address',
  command: 'select',
  action: 'access.refuse',
  organization_name: 'Somewhere',
};

function valueFor(name: string, type: string, side: Belongings, turn: number): string {
  const base = type.replace(/\[\]$/, '');
  if (base !== type)
    return /uuid|bytea|bigint|timestamp/.test(base) ? `array[${valueFor(name, base, side, turn)}]` : `'{}'::${type}`;
  const values: Record<string, () => string | undefined> = {
    // After all of them for every argument: each argument its own.
    uuid: () =>
      (turn === side.ids.length ? side.named[name.replace(/_id$/, '')] : undefined) ?? side.ids[turn % side.ids.length],
    bytea: () => side.bytes[turn % side.bytes.length],
    text: () => (/email|address|recipient/.test(name) ? side.email : (TEXTS[name] ?? 'x')),
    name: () => 'organization_id',
    bigint: () => side.job,
    integer: () => '1',
    smallint: () => '1',
    boolean: () => 'true',
    json: () => '{}',
    jsonb: () => JSON.stringify(name === 'password' ? GOOD : name === 'parameters' ? ARGON2 : {}),
    regclass: () => 'clinic.patients',
    'timestamp with time zone': () => (/until|expires/.test(name) ? '2099-01-01T00:00:00Z' : new Date().toISOString()),
  };
  const value = values[type]?.();
  return value === undefined ? `null::${type}` : `${quote(value)}::${type}`;
}

const call = ({ name }: Routine, values: readonly string[]): string =>
  `select array_agg(r::text)::text from ${name}(${values.join(', ')}) as r`;

/** Something that is nobody's. */
const nobodys = (): Belongings => ({
  ids: [randomUUID()],
  named: {},
  bytes: [`\\x${randomBytes(32).toString('hex')}`],
  job: '987654321',
  email: 'stranger@elsewhere.example',
});

/** How one function is called by somebody with these belongings. */
export function functionCells(routine: Routine, own: Belongings, foreign: Belongings): Cell[] {
  const cell = (command: string, values: readonly string[]): Cell => ({
    command,
    kind: 'call',
    sql: call(routine, values),
    relation: 0,
  });
  // No expression takes what a trigger function returns.
  if (routine.isTrigger) return [{ command: 'called', kind: 'do', sql: `select ${routine.name}()`, relation: 0 }];
  if (routine.arguments.length === 0) return [cell('called', [])];
  const types = routine.arguments.map(({ type }) => type.replace('[]', ''));
  const uuids = types.filter((type) => type === 'uuid').length;
  const turns = (side: Belongings): number =>
    Math.max(
      1,
      uuids === 0 ? 1 : side.ids.length + (uuids > 1 ? 1 : 0),
      types.includes('bytea') ? side.bytes.length : 1,
    );
  const sides: [string, Belongings][] = [
    ['own', own],
    ['foreign', foreign],
    ['unknown', nobodys()],
  ];
  return [
    cell(
      'nulls',
      routine.arguments.map(({ type }) => `null::${type}`),
    ),
    ...sides.flatMap(([command, side]) =>
      Array.from({ length: turns(side) }, (_, turn) =>
        cell(
          command,
          routine.arguments.map(({ name, type }) => valueFor(name, type, side, turn)),
        ),
      ),
    ),
  ];
}
