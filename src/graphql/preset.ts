import { PgSimplifyInflectionPreset } from '@graphile/simplify-inflection';
import type pg from 'pg';
import { makePgService } from 'postgraphile/adaptors/pg';
import type {} from 'postgraphile/grafserv/node';
import { getOperationAST } from 'postgraphile/graphql';
import { PostGraphileAmberPreset } from 'postgraphile/presets/amber';
import { pgSmartTagsFromFile } from 'postgraphile/utils';
import { OpenedFieldsPlugin } from '../access/opened.ts';
import { InvitationsPlugin } from '../access/plugin.ts';
import { IdentityPlugin } from '../identity/plugin.ts';
import { ApiKeysPlugin } from '../sessions/api-key-plugin.ts';
import { SessionsPlugin } from '../sessions/plugin.ts';
import type { StepTools } from '../sessions/steps.ts';
import { AggregatesPreset } from './aggregates.ts';
import { exposurePlugin, OWN_SCHEMAS } from './behavior.ts';
import { CachesPlugin } from './caches.ts';
import { sourceOf } from './context.ts';
import { EndlessPreset } from './endless.ts';
import { type ExecutionOptions, executionPlugin, maskLate } from './execution.ts';
import { FiltersPlugin } from './filters.ts';
import { clientOf } from './gone.ts';
import { IndexesPlugin } from './indexes.ts';
import { NamingPlugin } from './naming.ts';
import { PagingPlugin } from './paging.ts';
import { ResultsPlugin } from './results.ts';
import { sealedPlugin } from './sealed.ts';
import { type OpenedValues, SealedColumns } from './sealed-columns.ts';
import { sealedTypes } from './sealed-types.ts';
import { TagsPlugin } from './tags.ts';
import { TenantPlugin } from './tenant.ts';

export interface SchemaOptions {
  /** Pool that reads the catalog while the schema is built: the login of the API, so that only what it may use is shown. */
  readonly pool: pg.Pool;
  /** The host application's schemas. */
  readonly schemas: readonly string[];
  /** The host application's file of smart tags, JSON5. */
  readonly tagsFile?: string | undefined;
}

export interface PresetOptions extends SchemaOptions {
  readonly tools: StepTools;
  readonly execution: ExecutionOptions;
  /** Ruru, for development. */
  readonly ruru: boolean;
}

/** What decides the shape of the GraphQL schema; enough to print it. */
export const schemaPreset = (
  { pool, schemas, tagsFile }: SchemaOptions,
  sealedColumns = new SealedColumns(),
): GraphileConfig.Preset => ({
  extends: [PostGraphileAmberPreset, PgSimplifyInflectionPreset, AggregatesPreset, EndlessPreset],
  plugins: [
    CachesPlugin,
    NamingPlugin,
    TagsPlugin,
    ...(tagsFile === undefined ? [] : [pgSmartTagsFromFile(tagsFile)]),
    IndexesPlugin,
    FiltersPlugin,
    PagingPlugin,
    exposurePlugin(schemas),
    ResultsPlugin,
    TenantPlugin,
    sealedPlugin(sealedColumns),
    ...sealedTypes,
    SessionsPlugin,
    ApiKeysPlugin,
    IdentityPlugin,
    InvitationsPlugin,
    OpenedFieldsPlugin,
  ],
  // The context below brings our own door to the database; PostGraphile's would run without a sealed request.
  disablePlugins: ['PgContextPlugin'],
  pgServices: [makePgService({ pool, schemas: [...OWN_SCHEMAS, ...schemas], pubsub: false })],
  schema: { dontSwallowErrors: true, retryOnInitFail: false, muteWarnings: true },
});

/** The whole server: the schema, who asks, and limits in time and size. */
export const serverPreset = (options: PresetOptions, sealedColumns = new SealedColumns()): GraphileConfig.Preset => ({
  extends: [schemaPreset(options, sealedColumns)],
  plugins: [executionPlugin(options.execution)],
  grafast: {
    context: ({ node }, { document, operationName }) => {
      const source = sourceOf(node?.req);
      // A query ends with its client. A mutation does not: what was asked for is done, whether its answer is read or not.
      const isQuery = getOperationAST(document, operationName)?.operation === 'query';
      const gone = isQuery && node?.res ? clientOf(node.res) : undefined;
      const opened: OpenedValues = new Map();
      const withPgClient = options.tools.requests.withPgClient(source, gone);
      return {
        pgSettings: null,
        withPgClient: sealedColumns.opening(withPgClient, opened, isQuery),
        safetypin: { source, tools: options.tools, opened },
      } as unknown as Partial<Grafast.Context>;
    },
    timeouts: { planning: 500, execution: 30_000 },
    explain: false,
  },
  grafserv: {
    graphqlPath: '/graphql',
    graphqlOverGET: false,
    graphiql: options.ruru,
    graphiqlOnGraphQLGET: false,
    graphiqlPath: '/',
    // Our own reader of bodies (http/graphql-body.ts) comes first, with the same limit.
    maxRequestLength: 100_000,
    allowedRequestContentTypes: ['application/json'],
    outputDataAsString: true,
    websockets: false,
    watch: false,
    maskError: maskLate,
  },
});
