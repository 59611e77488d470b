import type { DocumentNode, ExecutionArgs, OperationDefinitionNode, SelectionNode } from 'postgraphile/graphql';
import { getOperationAST, Kind } from 'postgraphile/graphql';
import type { RequestNote } from './observe.ts';

const NAME_LENGTH = 64;

/** Operations of documents that are kept are asked for again and again. */
const known = new WeakMap<OperationDefinitionNode, string>();

/** The first field behind fragments. The document is valid, so it is a field of our schema. */
function firstField(selections: readonly SelectionNode[], document: DocumentNode): string {
  const [first] = selections;
  if (first === undefined) return 'none';
  if (first.kind === Kind.FIELD) return first.name.value;
  if (first.kind === Kind.INLINE_FRAGMENT) return firstField(first.selectionSet.selections, document);
  const fragment = document.definitions.find(
    (definition) => definition.kind === Kind.FRAGMENT_DEFINITION && definition.name.value === first.name.value,
  );
  return fragment?.kind === Kind.FRAGMENT_DEFINITION ? firstField(fragment.selectionSet.selections, document) : 'none';
}

/**
 * Notes what an operation is: its kind and first field, which are names of our schema and so are few, whatever a client
 * calls its operations. The client's own name is for the log only. (GraphQL lets it be letters, digits and underscores.)
 */
export function noteOperation(note: RequestNote | undefined, { document, operationName }: ExecutionArgs): void {
  const operation = note && getOperationAST(document, operationName);
  if (note === undefined || operation === null || operation === undefined) return;
  let name = known.get(operation);
  if (name === undefined) {
    name = `${operation.operation} ${firstField(operation.selectionSet.selections, document)}`;
    known.set(operation, name);
  }
  note.operation = name;
  if (operation.name !== undefined) note.name = operation.name.value.slice(0, NAME_LENGTH);
}
