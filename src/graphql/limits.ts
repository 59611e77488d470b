import { GraphQLError } from 'postgraphile/graphql';

/**
 * How much one document may ask for. Numbers are far above what people write and far below what hurts.
 *
 * Cost is an estimate of the values that an answer can hold, made before anything runs (cost.ts):
 * a field costs 1 for each row it is in; a page costs its size times what is asked of each row, whether it is written out,
 * comes in a variable, or is left to the default; counting or aggregating a whole list costs 100, a mutation 10, and a
 * sealed value 5.
 */
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
  /** The same over all operations and fragments of the document. */
  documentFields: 2000,
  /** Rows of one page, asked for or not; values in one list of a condition. */
  page: 100,
  offset: 10_000,
  /** Values that the answer may come to. */
  cost: 50_000,
  /** Lists and objects inside one another, in arguments and in variables. */
  valueDepth: 20,
} as const;

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
