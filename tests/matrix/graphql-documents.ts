// A document for every field of the API, with variables made from rows that somebody can see.
import {
  type GraphQLArgument,
  type GraphQLField,
  type GraphQLInputType,
  type GraphQLObjectType,
  type GraphQLOutputType,
  type GraphQLSchema,
  getNamedType,
  isEnumType,
  isInputObjectType,
  isInterfaceType,
  isLeafType,
  isListType,
  isNonNullType,
  isObjectType,
  isRequiredArgument,
  isRequiredInputField,
} from 'postgraphile/graphql';

/** A row as GraphQL gives it: the scalar fields of one type. */
export type Row = Readonly<Record<string, unknown>>;

/** Values for arguments that are not in any row, by name. */
export type Known = Readonly<Record<string, unknown>>;

type Field = GraphQLField<unknown, unknown>;

const fieldsOf = (type: GraphQLOutputType): Field[] => {
  const named = getNamedType(type);
  return isObjectType(named) || isInterfaceType(named) ? Object.values(named.getFields()) : [];
};

const isPlain = ({ type, args }: Field): boolean => isLeafType(getNamedType(type)) && !args.some(isRequiredArgument);

/** The scalars of a type, and of the rows in it if it is a connection or a payload. */
export function selectionOf(type: GraphQLOutputType, depth = 2): string {
  const parts = fieldsOf(type).flatMap((field) => {
    if (isPlain(field)) return [field.name];
    if (field.args.some(isRequiredArgument) || depth === 0) return [];
    if (field.name === 'query' || field.name === 'pageInfo' || field.name === 'edges') return [];
    const isWrapper = field.name === 'nodes' || /Payload$/.test(getNamedType(type).toString());
    const inner = isWrapper ? selectionOf(field.type, depth - 1) : '';
    return inner === '' ? [] : [`${field.name} ${inner}`];
  });
  return parts.length === 0 ? '' : `{ ${[...new Set(['__typename', ...parts])].join(' ')} }`;
}

/** The rows that a row leads to, one step: every relation, each page short. */
export function relationsOf(type: GraphQLObjectType): { name: string; selection: string }[] {
  return Object.values(type.getFields()).flatMap((field) => {
    if (isPlain(field) || field.args.some(isRequiredArgument)) return [];
    const isPaged = field.args.some(({ name }) => name === 'first');
    const selection = selectionOf(field.type);
    return selection === ''
      ? []
      : [{ name: field.name, selection: `${field.name}${isPaged ? '(first: 5)' : ''} ${selection}` }];
  });
}

/** The type of the rows of a connection, or undefined. */
export function rowTypeOf(type: GraphQLOutputType): GraphQLObjectType | undefined {
  const nodes = fieldsOf(type).find(({ name }) => name === 'nodes');
  const named = nodes && getNamedType(nodes.type);
  return isObjectType(named) ? named : undefined;
}

function valueFor(name: string, type: GraphQLInputType, row: Row, known: Known): unknown {
  if (isNonNullType(type)) return valueFor(name, type.ofType, row, known);
  if (isListType(type)) return [valueFor(name, type.ofType, row, known)];
  if (isInputObjectType(type)) {
    return Object.fromEntries(
      Object.values(type.getFields())
        .filter(
          (field) =>
            isRequiredInputField(field) || field.name in known || (field.name in row && row[field.name] !== null),
        )
        .filter((field) => field.name !== 'clientMutationId')
        .map((field) => [field.name, valueFor(field.name, field.type, row, known)]),
    );
  }
  if (isEnumType(type)) return type.getValues()[0]?.name;
  const value = row[name] ?? known[name];
  return (
    value ?? { Int: 1, Boolean: true, UUID: known.personId, Datetime: new Date().toISOString() }[String(type)] ?? 'x'
  );
}

/** The type whose rows an argument list is about: the field's own rows, or those of the payload. */
export function subjectOf(schema: GraphQLSchema, field: Field): string {
  const named = getNamedType(field.type);
  const row = rowTypeOf(field.type) ?? (isObjectType(named) ? named : undefined);
  const inside =
    row &&
    Object.values(row.getFields()).find(
      ({ type }) => isObjectType(getNamedType(type)) && schema.getQueryType() !== getNamedType(type),
    );
  return /Payload$/.test(row?.name ?? '') ? String(inside && getNamedType(inside.type)) : String(row?.name ?? '');
}

/** Arguments that say whose: required ones, and conditions by key. */
const isWanted = (argument: GraphQLArgument): boolean => isRequiredArgument(argument) || argument.name === 'condition';

export interface Question {
  readonly query: string;
  readonly variables: Record<string, unknown>;
}

/** One field of Query or Mutation, asked about a row. */
export function ask(kind: 'query' | 'mutation', field: Field, row: Row, known: Known): Question {
  const args = field.args.filter(isWanted);
  const keys = Object.fromEntries(Object.entries(row).filter(([name]) => /^(id|.*Id)$/.test(name)));
  // What a finder finds by is in the row that it is asked about.
  const by = /By([A-Z])(\w*)$/.exec(field.name);
  const value = by === null ? undefined : row[`${by[1]?.toLowerCase()}${by[2]}`];
  const variables = Object.fromEntries(
    args.map(({ name, type }) => [
      name,
      name === 'value' && value !== undefined
        ? value
        : valueFor(name, type, name === 'condition' ? keys : row, name === 'condition' ? {} : known),
    ]),
  );
  const declared = args.map(({ name, type }) => `$${name}: ${type}`).join(', ');
  const passed = args.map(({ name }) => `${name}: $${name}`).join(', ');
  const selection = selectionOf(field.type);
  return {
    query: `${kind}${declared && `(${declared})`} { ${field.name}${passed && `(${passed})`} ${selection} }`,
    variables,
  };
}
