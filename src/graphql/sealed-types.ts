import type {} from 'postgraphile';
import { type PgCodec, TYPES } from 'postgraphile/@dataplan/pg';

/** Situation of a codec that has its types a moment later. */
const ANNOUNCED = 'announced' as 'input';

const values = new WeakMap<PgCodec, PgCodec>();

/** A codec that sends a value as the text that a sealed column takes. Nothing compares by it: it is none of TYPES. */
export function doorCodec(value: PgCodec): PgCodec {
  const { castFromPg: _castFromPg, listCastFromPg: _listCastFromPg, ...rest } = value;
  const codec = {
    ...rest,
    name: `sealed_${value.name}`,
    sqlType: TYPES.text.sqlType,
    toPg: (input: unknown) => String(value.toPg(input as never)),
    hasNaturalOrdering: false,
    hasNaturalEquality: false,
  } as unknown as PgCodec;
  values.set(codec, value);
  return codec;
}

const doorCodecs = (build: GraphileBuild.Build): PgCodec[] =>
  [...build.allPgCodecs].filter((codec) => values.has(codec));

/** Comes ahead of PostGraphile, which would complain about codecs that it does not know. */
const AnnouncePlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinSealedAnnouncePlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      init: {
        before: ['PgCodecs'],
        callback(nothing, build) {
          for (const codec of doorCodecs(build)) build.setGraphQLTypeForPgCodec(codec, ANNOUNCED, 'String');
          return nothing;
        },
      },
    },
  },
};

/** Gives the codecs of sealed columns the GraphQL types of their values. */
const TypesPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinSealedTypesPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      init: {
        after: ['PgCodecs'],
        callback(nothing, build) {
          for (const codec of doorCodecs(build)) {
            for (const situation of ['input', 'output'] as const) {
              const name = build.getGraphQLTypeNameByPgCodec(values.get(codec) as PgCodec, situation);
              if (name !== null) build.setGraphQLTypeForPgCodec(codec, situation, name);
            }
          }
          return nothing;
        },
      },
    },
  },
};

export const sealedTypes: readonly GraphileConfig.Plugin[] = [AnnouncePlugin, TypesPlugin];
