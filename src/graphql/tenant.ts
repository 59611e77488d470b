import type {} from 'postgraphile';
import {
  type PgResource,
  type PgResourceUnique,
  pgDeleteSingle,
  pgUpdateSingle,
  withPgClientFromPgService,
} from 'postgraphile/@dataplan/pg';
import { type FieldArgs, type ObjectStep, object, type Step, sideEffect } from 'postgraphile/grafast';
import { AppError } from '../platform/app-error.ts';
import { SQLSTATE } from '../platform/errors.ts';
import { TENANT } from './naming.ts';
import { type Ruled, readRuled } from './tenant-tables.ts';

declare global {
  namespace GraphileConfig {
    interface GatherHelpers {
      safetyPinTenant: Record<string, never>;
    }
  }
}

interface Extended {
  readonly ruled?: Ruled;
}

const ruledOf = ({ extensions }: { readonly extensions?: object | undefined }): Ruled | undefined =>
  (extensions as Extended | undefined)?.ruled;

/**
 * The columns that name a row to somebody who sees the rows of one organization only: the key without the organization.
 * Undefined where the key stays as it is: without such a policy `id` might be many rows, and an update would meet them all.
 */
function shortOf(resource: PgResource, { attributes }: PgResourceUnique): readonly string[] | undefined {
  if (ruledOf(resource)?.tenant !== true || !attributes.includes(TENANT)) return undefined;
  const rest = attributes.filter((name) => name !== TENANT);
  const isTaken = resource.uniques.some(
    (other) => other.attributes.length === rest.length && other.attributes.every((name) => rest.includes(name)),
  );
  return rest.length === 0 || isTaken ? undefined : rest;
}

interface Details {
  readonly resource: PgResource;
  readonly unique: PgResourceUnique;
}

/** The same key, as names are made from it. */
const shortened = <Given extends Details>(details: Given): Given => {
  const attributes = shortOf(details.resource, details.unique);
  return attributes === undefined ? details : { ...details, unique: { ...details.unique, attributes } };
};

/** A resource whose rows the shortened key names: what PostGraphile asks of a step that changes one row. */
const namedBy = (resource: PgResource, attributes: readonly string[]): PgResource =>
  Object.create(resource, { uniques: { value: [...resource.uniques, { attributes }] } });

/** A row that is not there, somebody else's, or not the asker's to change: to whoever asks these are the same. */
function demandRow($payload: Step): Step {
  const $result = ($payload as ObjectStep).getStepForKey('result');
  const $checked = sideEffect($result, (row) => {
    if (row === null || row === undefined) throw new AppError(SQLSTATE.notFound, 'nothing was written');
  });
  return object({ result: $result, checked: $checked });
}

const COMMANDS = { a: '-resource:insert', w: '-resource:update', d: '-resource:delete' } as const;

/**
 * Rows are named without the organization, since nobody acts in two at once: `patient(id:)`, `updatePatient(input: { id,
 * patch })`. Which one it is says the session, in the policy of the table; nothing that a client sends has a say in it.
 */
export const TenantPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinTenantPlugin',
  version: '0.0.0',
  after: ['PgRowByUniquePlugin', 'PgMutationUpdateDeletePlugin', 'PgSimplifyInflectionPlugin'],
  gather: {
    namespace: 'safetyPinTenant',
    helpers: {},
    initialState: () => ({ ruled: new Map<string, Ruled>() }),
    hooks: {
      async pgIntrospection_introspection({ resolvedPreset, state }, { serviceName }) {
        const service = resolvedPreset.pgServices?.find(({ name }) => name === serviceName);
        if (service === undefined) return;
        const all = await readRuled((settings, work) => withPgClientFromPgService(service, settings, work));
        for (const one of all) state.ruled.set(one.relation, one);
      },
      pgTables_PgResourceOptions({ state }, { pgClass, resourceOptions }) {
        const ruled = state.ruled.get(pgClass._id);
        if (ruled !== undefined) resourceOptions.extensions = { ...resourceOptions.extensions, ruled } as never;
      },
    },
  },
  inflection: {
    replace: {
      rowByUnique: (previous, _preset, details) => previous?.(shortened(details as never)) ?? '',
      updateByKeysField: (previous, _preset, details) => previous?.(shortened(details as never)) ?? '',
      updateByKeysInputType: (previous, _preset, details) => previous?.(shortened(details as never)) ?? '',
      deleteByKeysField: (previous, _preset, details) => previous?.(shortened(details as never)) ?? '',
      deleteByKeysInputType: (previous, _preset, details) => previous?.(shortened(details as never)) ?? '',
    },
  },
  schema: {
    entityBehavior: {
      pgResource: {
        override: (behavior, resource) => {
          // A command that no policy lets through is always refused, whatever was granted.
          const open = ruledOf(resource)?.open;
          const closed =
            open === undefined ? [] : Object.entries(COMMANDS).filter(([command]) => !open.includes(command));
          return [behavior, ...closed.map(([, one]) => one)];
        },
      },
    },
    hooks: {
      GraphQLObjectType_fields_field_args(args, build, { scope }) {
        const { pgFieldResource: resource, pgFieldResourceUnique: unique, isPgRowByUniqueConstraintField } = scope;
        if (isPgRowByUniqueConstraintField !== true || resource === undefined || unique === undefined) return args;
        return shortOf(resource as PgResource, unique) === undefined
          ? args
          : without(args, tenantName(build, resource as PgResource));
      },
      GraphQLInputObjectType_fields(fields, build, { scope }) {
        const { pgResource: resource, pgResourceUnique: unique } = scope;
        const isByKeys = scope.isPgUpdateByKeysInputType === true || scope.isPgDeleteByKeysInputType === true;
        if (!isByKeys || resource === undefined || unique === undefined) return fields;
        return shortOf(resource as PgResource, unique) === undefined
          ? fields
          : without(fields, tenantName(build, resource as PgResource));
      },
      GraphQLObjectType_fields_field(field, build, { scope }) {
        const resource = scope.pgFieldResource as PgResource | undefined;
        if (resource === undefined) return field;
        const { inflection } = build;
        const nameOf = (attributeName: string) =>
          inflection.attribute({ attributeName, codec: resource.codec as never });
        if (scope.isPgRowByUniqueConstraintField === true) {
          const short = scope.pgFieldResourceUnique && shortOf(resource, scope.pgFieldResourceUnique);
          if (short === undefined) return field;
          return {
            ...field,
            plan: (_$root, args) =>
              resource.find(Object.fromEntries(short.map((name) => [name, args.getRaw(nameOf(name))]))).single(),
          };
        }
        const { isPgUpdateMutation: isUpdate, isPgDeleteMutation: isDelete, fieldName } = scope;
        if ((isUpdate !== true && isDelete !== true) || field.plan === undefined) return field;
        const named = resource.uniques.find((unique) => {
          const details = { resource, unique };
          return (
            fieldName === (isUpdate ? inflection.updateByKeysField(details) : inflection.deleteByKeysField(details))
          );
        });
        const short = named && shortOf(resource, named);
        const { plan } = field;
        if (short === undefined) return { ...field, plan: ($root, args, info) => demandRow(plan($root, args, info)) };
        const change = isUpdate ? pgUpdateSingle : pgDeleteSingle;
        const narrowed = namedBy(resource, short);
        return {
          ...field,
          plan(_$root: Step, args: FieldArgs) {
            const spec = Object.fromEntries(short.map((name) => [name, args.getRaw(['input', nameOf(name)])]));
            const $change = change(narrowed as never, spec as never);
            args.apply($change);
            return demandRow(object({ result: $change }));
          },
        };
      },
    },
  },
};

const tenantName = ({ inflection }: GraphileBuild.Build, { codec }: PgResource): string =>
  inflection.attribute({ attributeName: TENANT, codec: codec as never });

function without<Fields extends object>(fields: Fields, name: string): Fields {
  return Object.fromEntries(Object.entries(fields).filter(([one]) => one !== name)) as Fields;
}
