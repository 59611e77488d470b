import {
  type DocumentNode,
  type FieldNode,
  type FragmentDefinitionNode,
  GraphQLError,
  type GraphQLField,
  type GraphQLNamedType,
  type GraphQLSchema,
  getNamedType,
  getNullableType,
  isCompositeType,
  isInterfaceType,
  isListType,
  isObjectType,
  Kind,
  type OperationDefinitionNode,
  SchemaMetaFieldDef,
  type SelectionNode,
  type SelectionSetNode,
  TypeMetaFieldDef,
  typeFromAST,
  type ValueNode,
} from 'postgraphile/graphql';
import { type Cost, NOTHING, type OperationShape, type Page, shapeOf, sum } from './cost.ts';
import { LIMITS, limitError } from './limits.ts';

/** Going through a whole list, however little of it is shown. */
const WHOLE_LIST = 100;
const MUTATION = 10;
/** Rows of a list that has no pages, such as a function's. */
const PLAIN_LIST = 10;
/** Fields of a connection that read all of it. */
const WHOLE = /^(totalCount|aggregates|groupedAggregates)$/;

/** Costs of a selection; in a connection those of each row are apart. */
interface Selected {
  readonly once: Cost;
  readonly row: Cost;
}

/** What all walks through one document share. */
interface Ground {
  readonly schema: GraphQLSchema;
  readonly fragments: ReadonlyMap<string, FragmentDefinitionNode>;
  fields: number;
}

class Walk {
  readonly #ground: Ground;
  readonly #spread = new Set<string>();
  #fields = 0;
  #aliases = 0;
  #directives = 0;
  #mutations = 0;

  constructor(ground: Ground) {
    this.#ground = ground;
  }

  /** `paged`: this is what a connection or a list with pages holds. */
  selections(set: SelectionSetNode, parent: GraphQLNamedType | undefined, depth: number, paged = false): Selected {
    if (depth > LIMITS.depth) throw limitError('it is nested too deeply', 'depth');
    const selected = set.selections.map((selection): Selected => {
      this.#count(selection);
      if (selection.kind === Kind.FIELD) return this.#field(selection, parent, depth, paged);
      if (selection.kind === Kind.INLINE_FRAGMENT) {
        const type = selection.typeCondition && typeFromAST(this.#ground.schema, selection.typeCondition);
        return this.selections(selection.selectionSet, type ?? parent, depth, paged);
      }
      const name = selection.name.value;
      const fragment = this.#ground.fragments.get(name);
      // A fragment inside itself is reported by GraphQL's own rules; here it must only not be followed.
      if (fragment === undefined || this.#spread.has(name)) return { once: NOTHING, row: NOTHING };
      this.#spread.add(name);
      const type = typeFromAST(this.#ground.schema, fragment.typeCondition);
      const inside = this.selections(fragment.selectionSet, type, depth, paged);
      this.#spread.delete(name);
      return inside;
    });
    return { once: sum(selected.map(({ once }) => once)), row: sum(selected.map(({ row }) => row)) };
  }

  #count({ directives }: SelectionNode): void {
    this.#fields += 1;
    this.#ground.fields += 1;
    if (this.#fields > LIMITS.fields || this.#ground.fields > LIMITS.documentFields)
      throw limitError('it selects too many fields', 'fields');
    this.#directives += directives?.length ?? 0;
    if (this.#directives > LIMITS.directives) throw limitError('it has too many directives', 'directives');
  }

  #field(node: FieldNode, parent: GraphQLNamedType | undefined, depth: number, paged: boolean): Selected {
    if (node.alias !== undefined && node.alias.value !== node.name.value) {
      this.#aliases += 1;
      if (this.#aliases > LIMITS.aliases) throw limitError('it has too many aliases', 'aliases');
    }
    for (const { value } of node.arguments ?? []) checkDepth(value, 0);
    const name = node.name.value;
    const field = fieldOf(parent, name);
    const isList = field !== undefined && isListType(getNullableType(field.type));
    // What stands beside the rows of a connection is about the list as a whole.
    const isRow = paged && (name === 'nodes' || name === 'edges');
    if (node.selectionSet === undefined) {
      const once = { own: paged && WHOLE.test(name) ? WHOLE_LIST : costOf(field), pages: [] };
      return isRow ? { once: NOTHING, row: once } : { once, row: NOTHING };
    }
    const type = field && getNamedType(field.type);
    const hasPages = field?.args.some((argument) => argument.name === 'first') ?? false;
    const inside = this.selections(
      node.selectionSet,
      isCompositeType(type) ? type : undefined,
      depth + 1,
      hasPages && !isList,
    );
    const own = this.#ownOf(parent, paged && WHOLE.test(name)) + costOf(field) - 1;
    if (hasPages) {
      const size = Object.fromEntries((node.arguments ?? []).map((argument) => [argument.name.value, argument.value]));
      return {
        once: withPage(own, isList ? NOTHING : inside.once, size, isList ? inside.once : inside.row),
        row: NOTHING,
      };
    }
    if (isRow) return { once: NOTHING, row: sum([{ own, pages: [] }, inside.once]) };
    const isPlainList = isList && !type?.name.startsWith('__');
    return {
      once: isPlainList
        ? withPage(own, NOTHING, paged ? LIMITS.page : PLAIN_LIST, inside.once)
        : sum([{ own, pages: [] }, inside.once]),
      row: NOTHING,
    };
  }

  #ownOf(parent: GraphQLNamedType | undefined, isWhole: boolean): number {
    if (isWhole) return WHOLE_LIST;
    if (parent === undefined || parent !== this.#ground.schema.getMutationType()) return 1;
    this.#mutations += 1;
    if (this.#mutations > LIMITS.mutations) throw limitError('it has too many mutations', 'mutations');
    return MUTATION;
  }
}

/** What a field says that it costs, or 1. */
const costOf = (field: GraphQLField<unknown, unknown> | undefined): number =>
  typeof field?.extensions.cost === 'number' ? field.extensions.cost : 1;

function checkDepth(value: ValueNode, depth: number): void {
  if (depth > LIMITS.valueDepth) throw limitError('a value in it is nested too deeply', 'valueDepth');
  if (value.kind === Kind.LIST) for (const one of value.values) checkDepth(one, depth + 1);
  else if (value.kind === Kind.OBJECT) for (const field of value.fields) checkDepth(field.value, depth + 1);
}

const withPage = (own: number, once: Cost, size: Page['size'], row: Cost): Cost => ({
  own: own + once.own,
  pages: [...once.pages, { size, row }],
});

/** The entrances of introspection are measured like any field; only production refuses them altogether. */
function fieldOf(parent: GraphQLNamedType | undefined, name: string): GraphQLField<unknown, unknown> | undefined {
  if (name === '__schema') return SchemaMetaFieldDef;
  if (name === '__type') return TypeMetaFieldDef;
  return isObjectType(parent) || isInterfaceType(parent) ? parent.getFields()[name] : undefined;
}

/**
 * Measures a document before GraphQL validates it: some of GraphQL's own rules take quadratic time. Throws the refusal.
 * Fragments are measured by themselves as well, for the rules look into those that nobody spreads too.
 */
export function measureDocument(
  schema: GraphQLSchema,
  document: DocumentNode,
): Map<OperationDefinitionNode, OperationShape> {
  const operations: OperationDefinitionNode[] = [];
  const fragments = new Map<string, FragmentDefinitionNode>();
  const definitions = document.definitions.filter((definition) => definition.kind === Kind.FRAGMENT_DEFINITION);
  for (const definition of document.definitions) {
    if (definition.kind === Kind.OPERATION_DEFINITION) operations.push(definition);
    else if (definition.kind === Kind.FRAGMENT_DEFINITION) fragments.set(definition.name.value, definition);
  }
  const ground: Ground = { schema, fragments, fields: 0 };
  if (operations.length > LIMITS.operations) throw limitError('it has too many operations', 'operations');
  if (definitions.length > LIMITS.fragments) throw limitError('it has too many fragments', 'fragments');
  for (const { selectionSet, typeCondition } of definitions) {
    new Walk(ground).selections(selectionSet, typeFromAST(schema, typeCondition), 1);
  }
  const shapes = new Map<OperationDefinitionNode, OperationShape>();
  for (const operation of operations) {
    const root = schema.getRootType(operation.operation);
    // GraphQL's own rules let an operation pass for which there is no type.
    if (!root) throw new GraphQLError(`There is no ${operation.operation} here.`, { nodes: operation });
    const { once } = new Walk(ground).selections(operation.selectionSet, root, 1);
    const defaults = Object.fromEntries(
      (operation.variableDefinitions ?? []).flatMap(({ variable, defaultValue }) =>
        defaultValue === undefined ? [] : [[variable.name.value, defaultValue]],
      ),
    );
    const shape = shapeOf(once, defaults);
    if (shape.estimate?.refusal) throw shape.estimate.refusal;
    shapes.set(operation, shape);
  }
  return shapes;
}
