import type {} from 'postgraphile';
import {
  listOfCodec,
  type PgCodec,
  type PgCodecWithAttributes,
  type PgCondition,
  sqlValueWithCodec,
  TYPES,
} from 'postgraphile/@dataplan/pg';
import { type SQL, sql } from 'postgraphile/pg-sql2';
import { LIMITS, limitError } from './limits.ts';

/** Types that have a natural before and after. */
const ORDERED: ReadonlySet<unknown> = new Set([
  TYPES.int2,
  TYPES.int,
  TYPES.bigint,
  TYPES.date,
  TYPES.timestamp,
  TYPES.timestamptz,
]);

/** Types whose values are looked for by the dozen. */
const LISTED: ReadonlySet<unknown> = new Set([
  TYPES.uuid,
  TYPES.text,
  TYPES.varchar,
  TYPES.int2,
  TYPES.int,
  TYPES.bigint,
]);

const baseOf = (codec: PgCodec): PgCodec => (codec.domainOfCodec === undefined ? codec : baseOf(codec.domainOfCodec));

interface Comparison {
  readonly ending: string;
  readonly about: string;
  readonly types: ReadonlySet<unknown>;
  readonly isList?: true;
  compare(column: SQL, codec: PgCodec, value: unknown): SQL;
}

/** What a condition can say beside equality: only what a B-tree answers by going to one place in the index. */
const COMPARISONS: readonly Comparison[] = [
  {
    ending: 'from',
    about: 'at or after',
    types: ORDERED,
    compare: (column, codec, value) => sql`${column} >= ${sqlValueWithCodec(value, codec)}`,
  },
  {
    ending: 'before',
    about: 'before',
    types: ORDERED,
    compare: (column, codec, value) => sql`${column} < ${sqlValueWithCodec(value, codec)}`,
  },
  {
    ending: 'in',
    about: 'one of',
    types: LISTED,
    isList: true,
    compare(column, codec, value) {
      const values = value as readonly unknown[];
      if (values.length > LIMITS.page) throw limitError(`a condition lists at most ${LIMITS.page} values`, 'page');
      return sql`${column} = any (${sqlValueWithCodec(values, listOfCodec(codec as never))})`;
    },
  },
];

/**
 * `createdAtFrom`, `createdAtBefore` and `idIn` beside the equality of PostGraphile's conditions. They replace a generic
 * filter: negation, `or`, patterns and conditions on other tables are what no index serves or what tells about rows that
 * one may not read, and a filter without them is these three.
 */
export const FiltersPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinFiltersPlugin',
  version: '0.0.0',
  after: ['PgAttributesPlugin'],
  schema: {
    hooks: {
      GraphQLInputObjectType_fields(fields, build, context) {
        const { isPgCondition, pgCodec: codec } = context.scope;
        if (!isPgCondition || !codec?.attributes || codec.isAnonymous) return fields;
        const pgCodec = codec as PgCodecWithAttributes;
        const { GraphQLList, GraphQLNonNull } = build.graphql;
        let extended = fields;
        for (const [attributeName, attribute] of Object.entries(pgCodec.attributes)) {
          const scope = 'condition:attribute:filterBy';
          if (!build.behavior.pgCodecAttributeMatches([pgCodec, attributeName], scope)) continue;
          const type = build.getGraphQLTypeByPgCodec(attribute.codec, 'input');
          if (type === null || !build.graphql.isInputType(type)) continue;
          const equality = build.inflection.attribute({ attributeName, codec: pgCodec });
          for (const { ending, about, types, isList, compare } of COMPARISONS) {
            const fieldName = build.inflection.camelCase(`${equality}-${ending}`);
            // A column of that name keeps it.
            if (!types.has(baseOf(attribute.codec)) || fieldName in extended) continue;
            const apply = ($condition: PgCondition, value: unknown): void => {
              if (value === null || value === undefined) return;
              $condition.where({
                type: 'attribute',
                attribute: attributeName,
                callback: (column) => compare(column, attribute.codec, value),
              });
            };
            extended = build.extend(
              extended,
              {
                [fieldName]: context.fieldWithHooks(
                  { fieldName, isPgConnectionConditionInputField: true },
                  {
                    description: `The object’s \`${equality}\` is ${about} ${isList ? 'these' : 'this'}.`,
                    type: isList ? new GraphQLList(new GraphQLNonNull(type)) : type,
                    apply,
                  },
                ),
              },
              `Adding comparison '${fieldName}'`,
            );
          }
        }
        return extended;
      },
    },
  },
};
