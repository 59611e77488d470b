import type {} from 'postgraphile';
import { TYPES } from 'postgraphile/@dataplan/pg';

/** Schemas of ours that PostGraphile reads. Everything else of ours is out of its sight. */
export const OWN_SCHEMAS = ['api', 'identity', 'access', 'sessions', 'audit'] as const;

/** Schema whose functions are fields of the API. Functions elsewhere are for the application or for policies. */
export const FUNCTION_SCHEMA = 'api';

/** What of our own schemas is served: tables are written by functions only, and bytes are hashes, keys or ciphertext. */
export const exposurePlugin = (hostSchemas: readonly string[]): GraphileConfig.Plugin => {
  const isHost = (schema: string | undefined): boolean => schema !== undefined && hostSchemas.includes(schema);
  return {
    name: 'SafetyPinExposurePlugin',
    version: '0.0.0',
    gather: {
      hooks: {
        // PostGraphile knows no xid8 and says so at length; the one column of that type is hidden below.
        pgCodecs_findPgCodec(_info, event) {
          if (event.pgCodec === null && event.pgType.typname === 'xid8') event.pgCodec = TYPES.bigint;
        },
      },
    },
    schema: {
      entityBehavior: {
        pgResource: {
          override: (behavior, resource) => {
            const schema = resource.extensions?.pg?.schemaName;
            if (isHost(schema)) return [behavior];
            if (resource.parameters !== undefined && schema !== FUNCTION_SCHEMA) return [behavior, '-*'];
            return [behavior, '-resource:insert', '-resource:update', '-resource:delete'];
          },
        },
        pgCodecAttribute: {
          override: (behavior, [codec, name]) => {
            const type = codec.attributes[name]?.codec;
            const isHidden = type === TYPES.bytea || name === 'transaction_id';
            return isHidden && !isHost(codec.extensions?.pg?.schemaName) ? [behavior, '-*'] : [behavior];
          },
        },
      },
    },
  };
};
