import type {} from 'postgraphile';
import { type PgCodec, TYPES } from 'postgraphile/@dataplan/pg';
import { changeNullability } from 'postgraphile/utils';

/** Times without beginning or end are infinity in PostgreSQL, which no ISO 8601 text says: GraphQL has null for them. */
const NullabilityPlugin: GraphileConfig.Plugin = changeNullability({
  Organization: { closesAt: true },
  Invitation: { roleValidUntil: true },
  MembershipRole: { validFrom: true, validUntil: true },
});

const TIMES: ReadonlySet<PgCodec> = new Set<PgCodec>([TYPES.date, TYPES.timestamp, TYPES.timestamptz]);

/**
 * PostGraphile takes a row for absent when the first column is null that it selected and PostgreSQL says is not: with
 * infinity in it a row would be gone without a word. So no time is such a column; in the schema it is what it was.
 */
const PresencePlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinEndlessPresencePlugin',
  version: '0.0.0',
  gather: {
    hooks: {
      pgCodecs_attribute(_info, { attribute }) {
        if (attribute.notNull !== true || !TIMES.has(attribute.codec)) return;
        attribute.notNull = false;
        attribute.extensions = {
          ...attribute.extensions,
          tags: { ...attribute.extensions?.tags, notNull: true },
        };
      },
    },
  },
};

export const EndlessPreset: GraphileConfig.Preset = { plugins: [NullabilityPlugin, PresencePlugin] };
