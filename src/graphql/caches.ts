import type {} from 'postgraphile';

/** Documents whose parsed form is kept; a little more than plans, since they are small. */
export const DOCUMENTS = 200;

/**
 * A plan takes up to a megabyte, and every document that a client makes up gets one: Grafast's own limits (500 operations
 * with 50 plans each) let the server grow past a gigabyte. An application has a few dozen documents.
 */
const OPERATIONS = 40;
/** Plans of one operation, which differ by the variables that decide its shape. */
const PLANS = 4;

export const CachesPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinCachesPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLSchema(config) {
        const { grafast } = config.extensions ?? {};
        const limits = { operationsCacheMaxLength: OPERATIONS, operationOperationPlansCacheMaxLength: PLANS };
        return { ...config, extensions: { ...config.extensions, grafast: { ...grafast, ...limits } } };
      },
    },
  },
};
