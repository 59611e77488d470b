// Lists are ordered and filtered by what an index stands for, and by nothing else (AZ-03, GQ-06; F16).
import { type GraphQLField, getNamedType, isEnumType, isInputObjectType } from 'postgraphile/graphql';
import { beforeAll, describe, expect, test } from 'vitest';
import { Application, type Person } from '../support/actors.ts';
import { cloneDatabase, type TestDatabase } from '../support/database.ts';
import { fill, HOST } from './filling.ts';
import { type Explain, type Explained, explainer } from './plans.ts';

let db: TestDatabase;
let explain: Explain;
let lists: readonly GraphQLField<unknown, unknown>[];
let filled: readonly string[];
let ada: Person;

beforeAll(async () => {
  db = await cloneDatabase();
  const owner = await db.connect('owner');
  await owner.query(HOST);
  await owner.end();
  const application = await Application.beside(db);
  ada = await application.person('ada');
  filled = await fill(db, ada.organization, ada.id);
  const built = await explainer(application, ada, ['clinic']);
  explain = built.explain;
  lists = Object.values(built.schema.getQueryType()?.getFields() ?? {}).filter(({ args }) =>
    args.some(({ name }) => name === 'first'),
  );
}, 60_000);

const argumentOf = (list: GraphQLField<unknown, unknown>, name: string) =>
  getNamedType(list.args.find((argument) => argument.name === name)?.type);

const namesIn = (list: GraphQLField<unknown, unknown>, name: 'orderBy' | 'condition'): string[] => {
  const type = argumentOf(list, name);
  if (isEnumType(type)) return type.getValues().map((value) => value.name);
  return isInputObjectType(type) ? Object.keys(type.getFields()) : [];
};

const tableOf = ({ sql }: Explained): string => /from "?(\w+)"?\."?(\w+)"?/.exec(sql)?.slice(1).join('.') ?? '';

/** The nodes that read the table of the statement, or its partitions. */
const readers = (plan: Explained) => plan.nodes.filter(({ 'Node Type': type }) => / Scan$/.test(type));

/** What of a plan looks at more rows than it gives. */
const slow = (plan: Explained): string[] =>
  plan.nodes
    .filter((node) => node['Plan Rows'] > 50)
    .map((node) => `${node['Node Type']} ${node['Relation Name'] ?? ''}`)
    .filter((node) => /^(Seq Scan|Sort) /.test(node));

/** A value that few rows have. */
async function rareValue(table: string, column: string, from: 'asc' | 'desc'): Promise<unknown> {
  const admin = await db.connect('admin');
  const { rows } = await admin.query(`select ${column}::text as value from ${table} where ${column} is not null
    order by ${column} ${from} offset 10 limit 1`);
  await admin.end();
  if (rows.length === 0) throw new Error(`fill() leaves ${table}.${column} empty`);
  return rows[0]?.value;
}

test('every order of a list reads an index as far as the page goes, in tables of 20,000 rows', async () => {
  const seen = new Set<string>();
  const problems: string[] = [];
  for (const list of lists) {
    for (const order of namesIn(list, 'orderBy').filter((name) => name !== 'NATURAL')) {
      const { plans } = await explain(`{ ${list.name}(first: 20, orderBy: [${order}]) { nodes { __typename } } }`);
      for (const plan of plans) {
        seen.add(tableOf(plan));
        if (slow(plan).length > 0) problems.push(`${list.name} ${order}: ${slow(plan)}`);
      }
    }
  }
  expect(problems).toEqual([]);
  expect([...seen].sort()).toEqual([...filled].sort());
}, 60_000);

test('every condition is answered from an index, in tables of 20,000 rows', async () => {
  const problems: string[] = [];
  let asked = 0;
  for (const list of lists) {
    const [one] = (await explain(`{ ${list.name}(first: 1) { nodes { __typename } } }`)).plans;
    const table = one === undefined ? '' : tableOf(one);
    for (const name of namesIn(list, 'condition')) {
      const field = name.replace(/(From|Before|In)$/, '');
      const column = field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      const value = JSON.stringify(await rareValue(table, column, name.endsWith('Before') ? 'asc' : 'desc')).replace(
        /^"(\d{1,9})"$/,
        '$1',
      );
      const condition = `${name}: ${name.endsWith('In') ? `[${value}]` : value}`;
      const { plans } = await explain(`{ ${list.name}(condition: { ${condition} }) { totalCount } }`);
      asked += 1;
      const served = plans.every(
        (plan) => slow(plan).length === 0 && readers(plan).some((node) => 'Index Cond' in node),
      );
      if (!served) problems.push(`${list.name} ${condition}: ${plans.map(slow)}`);
    }
  }
  expect(problems).toEqual([]);
  expect(asked).toBeGreaterThan(30);
}, 60_000);

describe('columns without an index, or with one that does not serve,', () => {
  test('are neither ordered nor filtered by', () => {
    const patients = lists.find(({ name }) => name === 'patients') as GraphQLField<unknown, unknown>;
    const orders = namesIn(patients, 'orderBy').filter((name) => name.endsWith('_ASC') && !name.startsWith('PRIMARY'));
    // ward comes third, note is only included, nickname has a partial index and a hash.
    expect(orders.sort()).toEqual(['BORN_ASC', 'ID_ASC', 'NAME_ASC', 'NUMBER_ASC', 'WEIGHT_ASC']);
    // The tenant is everybody's own. weight is numeric and face bytea: their comparison would run after the policy, row by row.
    expect(namesIn(patients, 'condition').sort()).toEqual([
      'born',
      'bornBefore',
      'bornFrom',
      'id',
      'idIn',
      'name',
      'nameIn',
      'number',
      'numberBefore',
      'numberFrom',
      'numberIn',
    ]);
    const names = lists.find(({ name }) => name === 'names') as GraphQLField<unknown, unknown>;
    expect(namesIn(names, 'condition')).toEqual([]);
    expect(namesIn(names, 'orderBy')).toEqual(['NATURAL']);
  });
});

test('what is compared is leakproof, or the index would wait for the policy (F16)', async () => {
  const types = ['uuid', 'text', 'int2', 'int4', 'int8', 'bool', 'date', 'timestamp', 'timestamptz', 'inet'];
  const admin = await db.connect('admin');
  const { rows } = await admin.query(
    `select a.amoplefttype::regtype::text as type, o.oprname, p.proleakproof
       from pg_amop a join pg_operator o on o.oid = a.amopopr join pg_proc p on p.oid = o.oprcode
       join pg_am m on m.oid = a.amopmethod and m.amname = 'btree'
      where a.amoplefttype = a.amoprighttype and a.amoplefttype = any ($1::regtype[])
        and a.amopfamily in (select opcfamily from pg_opclass where opcdefault) and o.oprname in ('=', '<', '>=')`,
    [types],
  );
  await admin.end();
  expect(rows.filter(({ proleakproof }) => !proleakproof)).toEqual([]);
  expect(rows).toHaveLength(types.length * 3);
});
