import {
  type DocumentNode,
  GraphQLError,
  type GraphQLSchema,
  NoSchemaIntrospectionCustomRule,
  type OperationDefinitionNode,
  parse,
  Source,
  specifiedRules,
  type ValidationRule,
  validate,
} from 'postgraphile/graphql';
import { DOCUMENTS } from './caches.ts';
import type { OperationShape } from './cost.ts';
import { withoutValues } from './errors.ts';
import { LIMITS, limitError } from './limits.ts';
import { measureDocument } from './measure.ts';

/** A document that may run, or why it may not. */
export type CheckedDocument =
  | { readonly document: DocumentNode; readonly errors?: never }
  | { readonly errors: readonly GraphQLError[]; readonly document?: never };

/** The longest text worth remembering: bombs must not fill the memory. */
const REMEMBERED_LENGTH = 10_000;
const ERRORS_TOLD = 5;

/** Parses, measures and validates documents. The same text gives the same document, so that its plan is found again. */
export class Documents {
  readonly #schema: GraphQLSchema;
  readonly #rules: readonly ValidationRule[];
  readonly #suggests: boolean;
  readonly #known = new Map<string, CheckedDocument>();
  readonly #shapes = new WeakMap<OperationDefinitionNode, OperationShape>();

  /** `introspection` is for development; without it neither introspection nor suggestions tell what the schema holds. */
  constructor(schema: GraphQLSchema, introspection: boolean) {
    this.#schema = schema;
    this.#suggests = introspection;
    this.#rules = introspection ? specifiedRules : [...specifiedRules, NoSchemaIntrospectionCustomRule];
  }

  check(text: string): CheckedDocument {
    const known = this.#known.get(text);
    if (known !== undefined) {
      this.#known.delete(text);
      this.#known.set(text, known);
      return known;
    }
    const checked = this.#checkAnew(text);
    if (text.length <= REMEMBERED_LENGTH) {
      if (this.#known.size >= DOCUMENTS) {
        for (const oldest of this.#known.keys()) {
          this.#known.delete(oldest);
          break;
        }
      }
      this.#known.set(text, checked);
    }
    return checked;
  }

  /** What was measured of an operation of a checked document. */
  shapeOf(operation: OperationDefinitionNode): OperationShape | undefined {
    return this.#shapes.get(operation);
  }

  #checkAnew(text: string): CheckedDocument {
    try {
      const document = parse(new Source(text, 'request'), { maxTokens: LIMITS.tokens });
      for (const [operation, shape] of measureDocument(this.#schema, document)) this.#shapes.set(operation, shape);
      const errors = validate(this.#schema, document, this.#rules, { maxErrors: ERRORS_TOLD });
      return errors.length === 0 ? { document } : { errors: errors.map((error) => this.#told(error)) };
    } catch (error) {
      // The parser goes into lists as deep as they are.
      if (error instanceof RangeError) return { errors: [limitError('it is nested too deeply', 'depth')] };
      if (!(error instanceof GraphQLError)) throw error;
      return {
        errors: [
          / tokens\. Parsing aborted/.test(error.message)
            ? limitError('it has too many tokens', 'tokens')
            : this.#told(error),
        ],
      };
    }
  }

  #told(error: GraphQLError): GraphQLError {
    if (error.extensions.code !== undefined) return error;
    const text = withoutValues(error.message);
    const message = this.#suggests ? text : text.replace(/ Did you mean .*$/s, '');
    return new GraphQLError(message, {
      nodes: error.nodes ?? null,
      source: error.source ?? null,
      positions: error.positions ?? null,
      extensions: { code: 'BAD_INPUT' },
    });
  }
}
