import { type AggregateSpec, PgAggregatesPreset } from '@graphile/pg-aggregates';
import type {} from 'postgraphile';
import { type PgCodec, TYPES } from 'postgraphile/@dataplan/pg';
import { constant, type Step } from 'postgraphile/grafast';
import { type SQL, sql } from 'postgraphile/pg-sql2';
import { OWN_SCHEMAS } from './behavior.ts';
import { isCompared } from './indexes.ts';
import { LIMITS } from './limits.ts';

/** Where people are; columns that refer to them are never counted by. */
const PEOPLE = { schema: 'identity', table: 'people' };

interface Tagged {
  readonly extensions?: {
    readonly tags?: Readonly<Record<string, unknown>>;
    readonly isIndexed?: boolean;
    readonly isOfPeople?: boolean;
  };
}

const isTagged = ({ extensions }: Tagged): boolean => extensions?.tags?.aggregates !== undefined;

/** What may be asked of a group: how many. Sums, least and greatest values say what single rows hold. */
const counts = (specs: readonly AggregateSpec[] = []): AggregateSpec[] => [
  {
    id: 'count' as AggregateSpec['id'],
    humanLabel: 'count',
    HumanLabel: 'Count',
    isSuitableType: () => true,
    sqlAggregateWrap: (fragment: SQL) => sql`count(${fragment})`,
    isNonNull: true,
    pgTypeCodecModifier: () => TYPES.bigint as PgCodec,
  },
  ...specs.filter(({ id }) => id === 'distinctCount'),
];

// The behaviours of a plugin whose types are not told to ours.
const NO_TABLE = [
  '-aggregates',
  '-groupedAggregates',
  '-aggregate',
] as unknown as readonly GraphileBuild.BehaviorString[];
const NO_COLUMN = ['-aggregate', '-groupBy', '-havingBy'] as unknown as readonly GraphileBuild.BehaviorString[];

interface Collection {
  setFirst($first: Step): void;
}

const AggregatesPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinAggregatesPlugin',
  version: '0.0.0',
  after: ['PgAggregatesSpecsPlugin', 'SafetyPinIndexesPlugin'],
  gather: {
    hooks: {
      pgCodecs_attribute(_info, { attribute, pgAttribute }) {
        const isOfPeople = pgAttribute
          .getClass()
          ?.getConstraints()
          .some((constraint) => {
            const there = constraint.getForeignClass();
            const isThere = there?.relname === PEOPLE.table && there.getNamespace()?.nspname === PEOPLE.schema;
            return isThere && constraint.conkey?.includes(pgAttribute.attnum) === true;
          });
        if (isOfPeople !== true) return;
        attribute.extensions = { ...attribute.extensions, isOfPeople } as NonNullable<typeof attribute.extensions>;
      },
    },
  },
  schema: {
    behaviorRegistry: {
      add: {
        // Named by what is left in, declared by what is left out.
        ['having' as never]: { description: 'Conditions on groups; there are none.', entities: ['pgResource'] },
      },
    },
    entityBehavior: {
      pgResource: {
        override: (behavior, resource) => {
          const schema = resource.extensions?.pg?.schemaName;
          const isOurs = (OWN_SCHEMAS as readonly (string | undefined)[]).includes(schema);
          if (!isOurs && resource.parameters === undefined && isTagged(resource.codec as Tagged)) return [behavior];
          return [behavior, ...NO_TABLE];
        },
      },
      pgCodecAttribute: {
        override: (behavior, [codec, name]) => {
          const attribute = codec.attributes[name] as Tagged & { readonly codec: PgCodec };
          const { isIndexed = false, isOfPeople = false } = attribute.extensions ?? {};
          if (isTagged(attribute) && isIndexed && !isOfPeople && isCompared(attribute.codec)) return [behavior];
          return [behavior, ...NO_COLUMN];
        },
      },
    },
    hooks: {
      build(build) {
        build.pgAggregateSpecs = counts(build.pgAggregateSpecs);
        build.pgAggregateGroupBySpecs = [];
        return build;
      },
      GraphQLObjectType_fields_field(field, _build, context) {
        const { scope } = context;
        const { plan } = field;
        if (scope.fieldName !== 'groupedAggregates' || !('isConnectionType' in scope) || plan === undefined)
          return field;
        return {
          ...field,
          plan($parent, fieldArgs, info) {
            const $groups = plan($parent, fieldArgs, info);
            ($groups as unknown as Collection).setFirst(constant(LIMITS.page));
            return $groups;
          },
        };
      },
    },
  },
};

/**
 * Counting, by table and by column, where the tag `aggregates` says so on both; never on our own tables, on columns
 * without an index, or on those that refer to people. Sealed columns are bytea, or always empty: neither has an index
 * that counts.
 */
export const AggregatesPreset: GraphileConfig.Preset = {
  extends: [PgAggregatesPreset],
  plugins: [AggregatesPlugin],
  disablePlugins: [
    'PgAggregatesSmartTagsPlugin',
    'PgAggregatesAddHavingAggregateTypesPlugin',
    'PgAggregatesFilterRelationalAggregatesPlugin',
    'PgAggregatesOrderByAggregatesPlugin',
  ],
};
