import type {} from 'postgraphile/grafserv';
import type {} from 'postgraphile/grafserv/node';
import type { ExecutionArgs, GraphQLSchema } from 'postgraphile/graphql';
import { GraphQLError, getOperationAST } from 'postgraphile/graphql';
import type { ErrorRegister } from '../platform/errors.ts';
import type { RecordFault } from '../platform/faults.ts';
import type { RequestSource } from './adaptor.ts';
import { sourceOf } from './context.ts';
import { type Estimate, estimate } from './cost.ts';
import { Documents } from './documents.ts';
import { maskError } from './errors.ts';
import { LIMITS, limitOf } from './limits.ts';
import { noteOperation } from './operation-name.ts';

export interface ExecutionOptions {
  readonly register: ErrorRegister;
  readonly recordFault: RecordFault;
  /** Introspection and suggestions, for development. */
  readonly introspection: boolean;
  /** Says in each answer's extensions what it was estimated to cost, for development. */
  readonly tellCost: boolean;
  /** Told the code of each error that leaves, for the metrics. */
  readonly onError: (code: string) => void;
  /** Told which limit a refusal is about. */
  readonly onLimit?: (limit: string) => void;
  /** Told that an operation begins; what it returns is told that it is over. */
  readonly onOperation?: (source: RequestSource) => (() => void) | undefined;
}

interface Result {
  data?: unknown;
  errors?: readonly GraphQLError[] | undefined;
  extensions?: Record<string, unknown>;
}

const isMasked = new WeakSet<GraphQLError>();

/** The last net under grafserv: an error that did not pass through our own execution says nothing. */
export const maskLate = (error: GraphQLError): GraphQLError =>
  isMasked.has(error)
    ? error
    : new GraphQLError('Something went wrong on our side. It has been recorded.', {
        path: error.path ?? null,
        extensions: { code: 'INTERNAL' },
      });

/** Puts our checks around grafserv's: documents before they are validated, pages before execution, errors before they leave. */
export const executionPlugin = (options: ExecutionOptions): GraphileConfig.Plugin => {
  let documents: Documents | undefined;
  let schemaOfDocuments: GraphQLSchema | undefined;

  const documentsOf = (schema: GraphQLSchema): Documents => {
    if (documents === undefined || schemaOfDocuments !== schema) {
      documents = new Documents(schema, options.introspection);
      schemaOfDocuments = schema;
    }
    return documents;
  };

  const noteError = (told: GraphQLError, { note }: RequestSource, error = told): void => {
    const code = String(told.extensions.code);
    options.onError(code);
    const limit = limitOf(error);
    if (limit !== undefined) options.onLimit?.(limit);
    if (note !== undefined) note.code ??= code;
  };

  const masked = (error: GraphQLError, source: RequestSource): GraphQLError => {
    const { error: told, fault } = maskError(options.register, error, source);
    if (fault !== null) options.recordFault(source, fault.cause, fault.where);
    noteError(told, source, error);
    isMasked.add(told);
    return told;
  };

  const estimateOf = (checked: Documents, args: ExecutionArgs): Estimate => {
    const operation = getOperationAST(args.document, args.operationName);
    const shape = operation && checked.shapeOf(operation);
    return shape ? estimate(shape, args.variableValues ?? {}) : { cost: 0, refusal: null };
  };

  return {
    name: 'SafetyPinExecutionPlugin',
    version: '0.0.0',
    grafserv: {
      middleware: {
        setPreset(next, event) {
          const { getExecutionConfig } = event;
          event.getExecutionConfig = async function (context) {
            const config = await getExecutionConfig.call(this, context);
            const source = sourceOf(context.node?.req);
            const checked = documentsOf(config.schema);
            const execute: typeof config.execute = async (args) => {
              const { cost, refusal } = estimateOf(checked, args);
              if (refusal !== null) return { errors: [masked(refusal, source)] };
              noteOperation(source.note, args);
              const over = options.onOperation?.(source);
              try {
                const result = (await config.execute(args)) as Result;
                if (result.errors !== undefined) result.errors = result.errors.map((error) => masked(error, source));
                if (options.tellCost) result.extensions = { ...result.extensions, cost: { cost, limit: LIMITS.cost } };
                return result as never;
              } catch (error) {
                const cause = error instanceof Error ? error : new Error('not an error');
                return { errors: [masked(new GraphQLError('', { originalError: cause }), source)] };
              } finally {
                over?.();
              }
            };
            return {
              ...config,
              execute,
              parseAndValidate: (text: string) => {
                const result = checked.check(text);
                for (const error of result.errors ?? []) noteError(error, source);
                return result as ReturnType<typeof config.parseAndValidate>;
              },
            };
          };
          return next();
        },
      },
    },
  };
};
