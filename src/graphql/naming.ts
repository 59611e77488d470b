import type {} from '@graphile/simplify-inflection';
import type {} from 'postgraphile';

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
    },
  },
};
