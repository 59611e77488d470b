// Every command that names a table, as it is tried: with rows of one's own and with another organization's.
import { randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly generated: boolean;
  readonly identity: boolean;
  readonly key: boolean;
  readonly unique: boolean;
  readonly refers: boolean;
  readonly insert: readonly string[];
  readonly update: readonly string[];
}

type Row = Readonly<Record<string, unknown>>;

export interface Relation {
  readonly oid: number;
  readonly name: string;
  readonly kind: 'r' | 'p' | 'v' | 'm' | 'f' | 'S';
  /** A row of organization A, B …, and - for one that is nobody's. */
  readonly rows: Readonly<Record<string, Row>>;
  readonly columns: readonly Column[];
}

export interface Cell {
  readonly command: string;
  readonly kind: 'read' | 'count' | 'write' | 'do' | 'call';
  readonly sql: string;
  readonly relation: number;
}

const quote = pg.escapeLiteral;
const id = pg.escapeIdentifier;
const list = (columns: readonly Column[], prefix = ''): string =>
  columns.map(({ name }) => prefix + id(name)).join(', ');

/** The same row under a key that is free. */
function fresh(row: Row, columns: readonly Column[]): Row {
  const changed: Record<string, unknown> = { ...row };
  for (const { name, type, unique, refers } of columns) {
    if (!unique || refers || name === 'organization_id') continue;
    if (type === 'uuid') changed[name] = randomUUID();
    if (type === 'bytea') changed[name] = `\\x${randomBytes(32).toString('hex')}`;
    if (type === 'integer' || type === 'bigint') changed[name] = 900_000 + Math.floor(Math.random() * 90_000);
    if (type === 'text') changed[name] = `${row[name]}_${randomBytes(4).toString('hex').replace(/\d/g, 'x')}`;
  }
  return changed;
}

/** Columns that say whose a row is. */
const WHOSE = /^(organization|person|author|actor|session)_id$|^created_by$/;

interface Tried {
  readonly relation: Relation;
  readonly role: string;
  readonly own: Row | undefined;
  readonly other: Row | undefined;
}

const values = (row: Row): string => `${quote(JSON.stringify(row))}::jsonb`;

function insert({ relation, role }: Tried, row: Row, end = ''): string {
  const writable = relation.columns.filter(({ generated }) => !generated);
  const granted = writable.filter((column) => column.insert.includes(role));
  const columns = granted.length > 0 && end === '' ? granted : writable;
  return `insert into ${relation.name} (${list(columns)}) overriding system value select ${list(columns)} from jsonb_populate_record(null::${relation.name}, ${values(row)})${end}`;
}

const whereKey = ({ relation }: Tried, row: Row, alias: string): string =>
  relation.columns
    .filter(({ key }) => key)
    .map(({ name, type }) => `${alias}.${id(name)} = ${quote(String(row[name]))}::${type}`)
    .join(' and ');

/** The column that updates are tried with: one that may be written, if there is one. */
const changeable = ({ relation, role }: Tried): Column => {
  const columns = relation.columns.filter(({ generated, identity }) => !generated && !identity);
  const granted = columns.filter(({ update }) => update.includes(role));
  return (granted.find(({ unique, refers }) => !unique && !refers) ??
    granted[0] ??
    columns.find(({ unique }) => !unique) ??
    columns[0]) as Column;
};

const literal = ({ name, type }: Column, row: Row): string => {
  const value = row[name];
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value)) return `array(select jsonb_array_elements_text(${quote(JSON.stringify(value))}))::${type}`;
  return `${quote(typeof value === 'object' ? JSON.stringify(value) : String(value))}::${type}`;
};

/** Moves a row to another organization, or to another's person. */
function moves({ own, other, relation }: Tried): string[] {
  if (own === undefined || other === undefined) return [];
  return relation.columns
    .filter(
      ({ name, type, generated }) => type === 'uuid' && !generated && own[name] !== other[name] && other[name] !== null,
    )
    .filter(({ name, refers }) => WHOSE.test(name) || (refers && !name.endsWith('_id')))
    .map(({ name }) => `update ${relation.name} t set ${id(name)} = ${quote(String(other[name]))}`);
}

function reads({ relation }: Tried): [string, Cell['kind'], string][] {
  const { name } = relation;
  const hashes = (end: string): string => `select array_agg(h) from (select md5(t::text) as h from ${name} t${end}) x`;
  return [
    ['select', 'read', hashes('')],
    ['count', 'count', `select count(*) from ${name}`],
    ['for update', 'read', hashes(' for update')],
    ['for share', 'read', hashes(' for share')],
  ];
}

function writes(tried: Tried): [string, Cell['kind'], string][] {
  const { relation, own, other } = tried;
  const { name, kind } = relation;
  const column = changeable(tried);
  const key = relation.columns.filter((one) => one.key);
  const same = `set ${id(column.name)} = t.${id(column.name)}`;
  const found: [string, Cell['kind'], string][] = [
    ['update', 'write', `update ${name} t ${same}`],
    ['delete', 'write', `delete from ${name}`],
  ];
  if (own !== undefined) {
    found.push(['insert', 'write', insert(tried, fresh(own, relation.columns))]);
    found.push(['update blind', 'write', `update ${name} set ${id(column.name)} = ${literal(column, own)}`]);
  }
  for (const sql of moves(tried)) found.push(['move', 'write', sql]);
  if (other !== undefined)
    found.push(['insert other', 'write', insert({ ...tried, role: '' }, fresh(other, relation.columns))]);
  if (key.length === 0) return found;
  for (const [whose, row] of [
    ['', own],
    [' other', other],
  ] as const) {
    if (row === undefined) continue;
    const conflict = ` on conflict (${list(key)})`;
    found.push(
      [`insert do nothing${whose}`, 'write', insert(tried, row, ' on conflict do nothing')],
      [
        `upsert${whose}`,
        'write',
        insert(tried, row, `${conflict} do update set ${id(column.name)} = excluded.${id(column.name)}`),
      ],
    );
    if (kind === 'v') continue;
    const merge = `merge into ${name} t using (select 1) s on ${whereKey(tried, row, 't')}`;
    found.push(
      [`merge update${whose}`, 'write', `${merge} when matched then update ${same}`],
      [`merge delete${whose}`, 'write', `${merge} when matched then delete`],
    );
    const columns = relation.columns.filter(({ generated }) => !generated);
    found.push([
      `merge insert${whose}`,
      'write',
      `merge into ${name} t using jsonb_populate_record(null::${name}, ${values(fresh(row, relation.columns))}) s on false when not matched then insert (${list(columns)}) overriding system value values (${list(columns, 's.')})`,
    ]);
  }
  if (other !== undefined) {
    found.push(
      ['update other', 'write', `update ${name} t ${same} where ${whereKey(tried, other, 't')}`],
      ['delete other', 'write', `delete from ${name} t where ${whereKey(tried, other, 't')}`],
    );
  }
  return found;
}

/** A row that refers to another organization's, and to one that does not exist: both must be refused alike. */
function references(tried: Tried): [string, Cell['kind'], string][] {
  const { relation, own, other } = tried;
  const columns = relation.columns.filter(
    ({ refers, name, type }) => refers && name !== 'organization_id' && type === 'uuid',
  );
  if (own === undefined || other === undefined || columns.length === 0) return [];
  const pointing = (to: (name: string) => unknown): Row => ({
    ...fresh(own, relation.columns),
    ...Object.fromEntries(columns.map(({ name }) => [name, to(name)])),
  });
  return [
    [
      'refer to other',
      'write',
      insert(
        tried,
        pointing((name) => other[name]),
      ),
    ],
    [
      'refer to none',
      'write',
      insert(
        tried,
        pointing(() => randomUUID()),
      ),
    ],
    ...columns.flatMap(({ name }): [string, Cell['kind'], string][] => [
      [
        'point to other',
        'write',
        `update ${relation.name} t set ${id(name)} = ${quote(String(other[name] ?? randomUUID()))}`,
      ],
      ['point to none', 'write', `update ${relation.name} t set ${id(name)} = ${quote(randomUUID())}`],
    ]),
  ];
}

const definitions = (name: string): [string, Cell['kind'], string][] => [
  ['truncate', 'do', `truncate ${name}`],
  ['lock share', 'do', `lock table ${name} in access share mode`],
  ['lock exclusive', 'do', `lock table ${name} in access exclusive mode`],
  ['alter', 'do', `alter table ${name} disable row level security`],
  ['policy', 'do', `create policy odd on ${name} using (true)`],
  [
    'trigger',
    'do',
    `create trigger odd after insert on ${name} for each statement execute function suppress_redundant_updates_trigger()`,
  ],
  ['maintain', 'do', `reindex table ${name}`],
  ['drop', 'do', `drop table ${name} cascade`],
];

const sequence = (name: string): [string, Cell['kind'], string][] => [
  ['read', 'do', `select last_value from ${name}`],
  ['nextval', 'do', `select nextval(${quote(name)})`],
  ['setval', 'do', `select setval(${quote(name)}, 1)`],
  ['alter', 'do', `alter sequence ${name} restart`],
];

/** Whoever owns nothing tries with the rows of A and of B. */
export function tableCells(relation: Relation, role: string, as: string): Cell[] {
  const cells = (found: [string, Cell['kind'], string][]): Cell[] =>
    found.map(([command, kind, sql]) => ({ command, kind, sql, relation: relation.oid }));
  if (relation.kind === 'S') return cells(sequence(relation.name));
  const tenant = as === '-' ? 'A' : as.slice(0, 1);
  const other = relation.rows[tenant === 'A' ? 'B' : 'A'];
  const tried: Tried = { relation, role, own: relation.rows[tenant] ?? relation.rows['-'] ?? relation.rows.A, other };
  const isView = relation.kind === 'v' || relation.kind === 'm';
  return cells([
    ...reads(tried),
    ...writes(tried),
    ...(isView ? [] : references(tried)),
    ...definitions(relation.name).filter(([command]) => !isView || /^lock/.test(command)),
  ]);
}
