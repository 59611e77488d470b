import type {} from 'postgraphile';
import type { PgCodec, PgCodecAttribute, PgSelectSingleStep } from 'postgraphile/@dataplan/pg';
import type { ObjectStep } from 'postgraphile/grafast';
import type { GraphQLOutputType } from 'postgraphile/graphql';
import { FUNCTION_SCHEMA } from './behavior.ts';

/** Types of ours that a function answers with: `api.created_result` and its kin. */
const RESULT = /_result$/;

const isResult = (codec: PgCodec | undefined): codec is PgCodec & { attributes: Record<string, PgCodecAttribute> } =>
  codec?.attributes !== undefined &&
  codec.extensions?.pg?.schemaName === FUNCTION_SCHEMA &&
  RESULT.test(codec.extensions.pg.name);

/** Always there: the outcome, and the reasons, which are empty unless it was refused. */
const ALWAYS = new Set(['outcome', 'reasons']);

/** What a function of the API answers with becomes the payload's fields, rather than one field with an object in it. */
export const ResultsPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinResultsPlugin',
  version: '0.0.0',
  after: ['PgCustomTypeFieldPlugin'],
  schema: {
    hooks: {
      GraphQLObjectType_fields(fields, build, { scope, fieldWithHooks }) {
        const resource = scope.pgTypeResource;
        if (scope.isMutationPayload !== true || resource?.parameters === undefined || !isResult(resource.codec)) {
          return fields;
        }
        const { GraphQLList, GraphQLNonNull, GraphQLString } = build.graphql;
        const { clientMutationId } = fields;
        const own = Object.entries(resource.codec.attributes).map(([name, attribute]) => {
          const fieldName = build.inflection.camelCase(name);
          const plain = build.getGraphQLTypeByPgCodec(attribute.codec, 'output') as GraphQLOutputType | null;
          if (!plain) throw new Error(`no GraphQL type for ${name}`);
          const type = attribute.codec.arrayOfCodec ? new GraphQLList(new GraphQLNonNull(GraphQLString)) : plain;
          const field = fieldWithHooks({ fieldName }, () => ({
            type: build.nullableIf(!ALWAYS.has(name), type),
            ...(attribute.description && { description: attribute.description }),
            plan: ($payload: ObjectStep) => ($payload.getStepForKey('result') as PgSelectSingleStep).get(name),
          }));
          return [fieldName, field] as const;
        });
        return { ...(clientMutationId && { clientMutationId }), ...Object.fromEntries(own) };
      },
    },
  },
};
