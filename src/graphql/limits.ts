import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  isCompositeType,
  isInterfaceType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  type SelectionNode,
  type SelectionSetNode,
  typeFromAST,
  type ValueNode,
} from 'postgraphile/graphql';

/** How much one document may ask for. Numbers are far above what people write and far below what hurts. */
export const LIMITS = {
  tokens: 4000,
  operations: 10,
  fragments: 50,
  directives: 50,
  /** Fields below one another. */
  depth: 15,
  /** Renamed fields, over the whole operation: a guess repeated under sixty names is refused whole. */
  aliases: 40,
  /** Fields at the root of a mutation. */
  mutations: 10,
  /** Fields after fragments are spread. */
  fields: 500,
  /** Rows of one page, asked for or not. */
  page: 100,
  offset: 10_000,
  /** Rows that nested pages may come to together. */
  rows: 20_000,
} as const;

/** A field that gives pages, and the pages inside it. */
export interface PagedField {
  readonly arguments: Readonly<Record<string, ValueNode | undefined>>;
  readonly inside: readonly PagedField[];
}

/** What is known of an operation before it runs. */
export interface OperationShape {
  readonly paged: readonly PagedField[];
  readonly defaults: Readonly<Record<string, ValueNode>>;
}

const limitsOfErrors = new WeakMap<Error, string>();

/** Refusal of a document or its variables, with the code that clients know. `limit` is its name in the metrics. */
export function limitError(what: string, limit: keyof typeof LIMITS): GraphQLError {
  const error = new GraphQLError(`The request is too large: ${what}.`, { extensions: { code: 'LIMIT_EXCEEDED' } });
  limitsOfErrors.set(error, `graphql.${limit}`);
  return error;
}

/** Which limit an error is about, for the metrics. */
export const limitOf = (error: GraphQLError): string | undefined =>
  limitsOfErrors.get(error) ?? (error.originalError ? limitsOfErrors.get(error.originalError) : undefined);

class Walk {
  readonly #schema: GraphQLSchema;
  readonly #fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  readonly #spread = new Set<string>();
  #fields = 0;
  #aliases = 0;
  #directives = 0;

  constructor(schema: GraphQLSchema, fragments: ReadonlyMap<string, FragmentDefinitionNode>) {
    this.#schema = schema;
    this.#fragments = fragments;
  }

  selections(set: SelectionSetNode, parent: GraphQLNamedType | undefined, depth: number): PagedField[] {
    if (depth > LIMITS.depth) throw limitError('it is nested too deeply', 'depth');
    return set.selections.flatMap((selection): readonly PagedField[] => {
      this.#count(selection);
      if (selection.kind === Kind.FIELD) return this.#field(selection, parent, depth);
      if (selection.kind === Kind.INLINE_FRAGMENT) {
        const type = selection.typeCondition && typeFromAST(this.#schema, selection.typeCondition);
        return this.selections(selection.selectionSet, type ?? parent, depth);
      }
      const name = selection.name.value;
      const fragment = this.#fragments.get(name);
      // A fragment inside itself is reported by GraphQL's own rules; here it must only not be followed.
      if (fragment === undefined || this.#spread.has(name)) return [];
      this.#spread.add(name);
      const paged = this.selections(fragment.selectionSet, typeFromAST(this.#schema, fragment.typeCondition), depth);
      this.#spread.delete(name);
      return paged;
    });
  }

  #count({ directives }: SelectionNode): void {
    this.#fields += 1;
    if (this.#fields > LIMITS.fields) throw limitError('it selects too many fields', 'fields');
    this.#directives += directives?.length ?? 0;
    if (this.#directives > LIMITS.directives) throw limitError('it has too many directives', 'directives');
  }

  #field(node: FieldNode, parent: GraphQLNamedType | undefined, depth: number): readonly PagedField[] {
    if (node.alias !== undefined && node.alias.value !== node.name.value) {
      this.#aliases += 1;
      if (this.#aliases > LIMITS.aliases) throw limitError('it has too many aliases', 'aliases');
    }
    // Introspection is finite however deep its answer nests; production refuses it altogether.
    if (node.selectionSet === undefined || node.name.value.startsWith('__')) return [];
    const field = fieldOf(parent, node.name.value);
    const type = field && getNamedType(field.type);
    const inside = this.selections(node.selectionSet, isCompositeType(type) ? type : undefined, depth + 1);
    if (!field?.args.some((argument) => argument.name === 'first')) return inside;
    const given = Object.fromEntries((node.arguments ?? []).map(({ name, value }) => [name.value, value]));
    return [{ arguments: given, inside }];
  }
}

function fieldOf(parent: GraphQLNamedType | undefined, name: string): GraphQLField<unknown, unknown> | undefined {
  return isObjectType(parent) || isInterfaceType(parent) ? parent.getFields()[name] : undefined;
}

/** Checks a document before GraphQL validates it: some of GraphQL's own rules take quadratic time. Throws the refusal. */
export function measureDocument(
  schema: GraphQLSchema,
  document: DocumentNode,
): Map<OperationDefinitionNode, OperationShape> {
  const operations: OperationDefinitionNode[] = [];
  const fragments = new Map<string, FragmentDefinitionNode>();
  for (const definition of document.definitions) {
    if (definition.kind === Kind.OPERATION_DEFINITION) operations.push(definition);
    else if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  }
  if (operations.length > LIMITS.operations) throw limitError('it has too many operations', 'operations');
  if (fragments.size > LIMITS.fragments) throw limitError('it has too many fragments', 'fragments');
  const shapes = new Map<OperationDefinitionNode, OperationShape>();
  for (const operation of operations) {
    const { selectionSet } = operation;
    if (operation.operation === 'mutation' && selectionSet.selections.length > LIMITS.mutations) {
      throw limitError('it has too many mutations', 'mutations');
    }
    const root = schema.getRootType(operation.operation) ?? undefined;
    const paged = new Walk(schema, fragments).selections(selectionSet, root, 1);
    const defaults = Object.fromEntries(
      (operation.variableDefinitions ?? []).flatMap(({ variable, defaultValue }) =>
        defaultValue === undefined ? [] : [[variable.name.value, defaultValue]],
      ),
    );
    shapes.set(operation, { paged, defaults });
  }
  return shapes;
}

type Variables = Readonly<Record<string, unknown>>;

function numberOf(value: ValueNode | undefined, shape: OperationShape, variables: Variables): number | null {
  if (value?.kind === Kind.INT) return Number(value.value);
  if (value?.kind !== Kind.VARIABLE) return null;
  const name = value.name.value;
  const given = variables[name];
  if (given === undefined) return name in shape.defaults ? numberOf(shape.defaults[name], shape, {}) : null;
  return typeof given === 'number' ? given : null;
}

/** Checks pages once the variables are known; returns the refusal, or null. */
export function measurePages(shape: OperationShape, variables: Variables): GraphQLError | null {
  let tooMany: GraphQLError | null = null;
  const rowsOf = (fields: readonly PagedField[]): number => {
    let rows = 0;
    for (const { arguments: given, inside } of fields) {
      const first = numberOf(given.first, shape, variables);
      const size = first ?? numberOf(given.last, shape, variables) ?? LIMITS.page;
      const offset = numberOf(given.offset, shape, variables) ?? 0;
      if (size > LIMITS.page) tooMany ??= limitError(`a page has at most ${LIMITS.page} rows`, 'page');
      if (offset > LIMITS.offset)
        tooMany ??= limitError(`an offset is at most ${LIMITS.offset}; please use a cursor`, 'offset');
      rows += Math.max(1, size) * (1 + rowsOf(inside));
    }
    return rows;
  };
  const rows = rowsOf(shape.paged);
  return tooMany ?? (rows > LIMITS.rows ? limitError('its pages hold too many rows together', 'rows') : null);
}
