import type {} from '@graphile/simplify-inflection';
import type {} from 'postgraphile';

/** Column that every policy compares with the active organization. */
export const TENANT = 'organization_id';

/** `id` is the row's own id and `nodeId` Relay's; no name carries its PostgreSQL schema. */
export const NamingPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinNamingPlugin',
  version: '0.0.0',
  inflection: {
    replace: {
      nodeIdFieldName: () => 'nodeId',
      // Without a word PostGraphile calls a column `id` `rowId`, to leave `id` to Relay.
      _attributeName(previous, _preset, details) {
        return previous?.({ ...details, skipRowId: true }) ?? details.attributeName;
      },
      _schemaPrefix: () => '',
      // Foreign keys of tenant tables all begin with the organization; what they are about is the rest.
      _getBaseNameFromKeys(previous, _preset, keys) {
        const telling = keys.length > 1 ? keys.filter(({ attributeName }) => attributeName !== TENANT) : keys;
        return previous?.(telling.length === 1 ? telling : keys) ?? null;
      },
    },
  },
};
