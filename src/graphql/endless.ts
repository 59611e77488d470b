import { changeNullability } from 'postgraphile/utils';

/** Times without beginning or end are infinity in PostgreSQL, which no ISO 8601 text says: GraphQL has null for them. */
export const EndlessPlugin: GraphileConfig.Plugin = changeNullability({
  Organization: { closesAt: true },
  Invitation: { roleValidUntil: true },
  MembershipRole: { validFrom: true, validUntil: true },
});
