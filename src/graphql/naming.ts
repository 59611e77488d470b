import type {} from '@graphile/simplify-inflection';
import type {} from 'postgraphile';
import { FUNCTION_SCHEMA, OWN_SCHEMAS } from './behavior.ts';

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
      // Of our own domains only one has functions that are fields; those of the others are of the same names at times.
      functionResourceName(previous, _preset, details) {
        const name = previous?.(details) ?? details.pgProc.proname;
        const schema = details.pgProc.getNamespace()?.nspname ?? '';
        const isHidden = schema !== FUNCTION_SCHEMA && (OWN_SCHEMAS as readonly string[]).includes(schema);
        return isHidden ? `${schema}_${name}` : name;
      },
      // Foreign keys of tenant tables all begin with the organization; what they are about is the rest.
      _getBaseNameFromKeys(previous, _preset, keys) {
        const telling = keys.length > 1 ? keys.filter(({ attributeName }) => attributeName !== TENANT) : keys;
        return previous?.(telling.length === 1 ? telling : keys) ?? null;
      },
    },
  },
};
