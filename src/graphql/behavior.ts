import type {} from 'postgraphile';

/** Schemas of ours that PostGraphile reads. Everything else of ours is out of its sight. */
export const OWN_SCHEMAS = ['api', 'identity', 'access', 'sessions', 'audit'] as const;

/** Our tables are written by functions only; a host's protected tables have the automatic mutations. */
export const hostMutations = (schemas: readonly string[]): GraphileConfig.Plugin => ({
  name: 'SafetyPinHostMutationsPlugin',
  version: '0.0.0',
  schema: {
    entityBehavior: {
      pgResource: {
        inferred: (behavior, resource) => {
          const schema = resource.extensions?.pg?.schemaName;
          const isHost = schema !== undefined && schemas.includes(schema);
          return isHost ? [behavior] : [behavior, '-resource:insert', '-resource:update', '-resource:delete'];
        },
      },
    },
  },
});
