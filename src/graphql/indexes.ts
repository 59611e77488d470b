import type {} from 'postgraphile';
import { type PgCodec, TYPES } from 'postgraphile/@dataplan/pg';
import { TENANT } from './naming.ts';

/**
 * Types that an index serves under row-level security: their operators are leakproof, so PostgreSQL may run them before
 * the policy. Numbers with decimals, enums, JSON, arrays and full text are compared row by row, after it; sealed and
 * hashed values are bytea, and looked up by functions alone.
 */
const COMPARED: ReadonlySet<unknown> = new Set([
  TYPES.uuid,
  TYPES.text,
  TYPES.varchar,
  TYPES.int2,
  TYPES.int,
  TYPES.bigint,
  TYPES.boolean,
  TYPES.date,
  TYPES.timestamp,
  TYPES.timestamptz,
  TYPES.inet,
]);

/** Whether equality on this type can use an index under row-level security. */
export function isCompared(codec: PgCodec): boolean {
  return COMPARED.has(codec) || (codec.domainOfCodec !== undefined && isCompared(codec.domainOfCodec));
}

/** What of an introspected column is looked at. */
interface Column {
  readonly attname: string;
  getClass():
    | {
        readonly relkind: string;
        getIndexes(): readonly {
          readonly indpred: unknown;
          readonly indisvalid: boolean | null;
          readonly indnkeyatts?: number | null | undefined;
          getKeys(): readonly (Pick<Column, 'attname'> | null)[];
          getIndexClass(): { getAccessMethod(): { readonly amname: string | null } | undefined } | undefined;
        }[];
      }
    | undefined;
}

/** Whether a whole B-tree begins with the column, or has it right behind the tenant that every policy demands. */
function leadsIndex(attribute: Column): boolean {
  return (attribute.getClass()?.getIndexes() ?? []).some((index) => {
    const method = index.getIndexClass()?.getAccessMethod()?.amname;
    if (index.indpred || index.indisvalid !== true || method !== 'btree') return false;
    const keys = index.getKeys().slice(0, index.indnkeyatts ?? 0);
    const [first, second] = keys.map((key) => key?.attname);
    return first === attribute.attname || (first === TENANT && second === attribute.attname);
  });
}

/**
 * Lists are ordered and filtered by what an index serves, and by nothing else: anything more is a scan of the tenant's
 * whole table for whoever asks. A view has no index of its own; a column of it is opened with the smart tag `isIndexed`.
 */
export const IndexesPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinIndexesPlugin',
  version: '0.0.0',
  gather: {
    hooks: {
      pgCodecs_attribute(_info, { attribute, pgAttribute }) {
        // Composite types are no place where rows are looked for.
        if (pgAttribute.getClass()?.relkind === 'c') return;
        attribute.extensions ??= Object.create(null) as NonNullable<typeof attribute.extensions>;
        // All rows that one may see are of one tenant.
        attribute.extensions.isIndexed = pgAttribute.attname !== TENANT && leadsIndex(pgAttribute);
      },
    },
  },
  schema: {
    hooks: {
      // No order at all: a scan, and cursors that are offsets. What has another order is not listed without one.
      GraphQLEnumType_values(values, _build, { scope }) {
        if (!scope.isPgRowSortEnum || Object.keys(values).length === 1) return values;
        return Object.fromEntries(Object.entries(values).filter(([name]) => name !== 'NATURAL'));
      },
    },
    entityBehavior: {
      pgCodecAttribute: {
        inferred: {
          after: ['inferred'],
          provides: ['postInferred'],
          callback: (behavior, [codec, name]) => {
            const attribute = codec.attributes[name];
            return attribute !== undefined && isCompared(attribute.codec) ? [behavior] : [behavior, '-filterBy'];
          },
        },
      },
    },
  },
};
