import type {} from 'postgraphile';
import { type PgCodec, withPgClientFromPgService } from 'postgraphile/@dataplan/pg';
import type { Step } from 'postgraphile/grafast';
import { sql } from 'postgraphile/pg-sql2';
import type { SealedColumns } from './sealed-columns.ts';
import { type Door, isHidden, readDoors } from './sealed-doors.ts';
import { openedOf, textOf } from './sealed-step.ts';
import { doorCodec } from './sealed-types.ts';

/** What opening a value costs (limits.ts): about what five others take of the database. */
const OPENING = 5;

/** What of a sealed column is left beside reading and writing it. */
const NO_SEARCH = ['-filterBy', '-condition:attribute:filterBy', '-orderBy', '-attribute:orderBy'] as const;
const NO_COUNT = ['-aggregate', '-groupBy', '-havingBy'] as unknown as readonly GraphileBuild.BehaviorString[];

interface State {
  readonly doors: Map<string, Door[]>;
  readonly readers: Set<string>;
  readonly finders: Map<string, Door>;
  /** Codecs of doors by those of their values. */
  readonly codecs: Map<PgCodec, PgCodec>;
}

declare global {
  namespace GraphileConfig {
    interface GatherHelpers {
      safetyPinSealed: Record<string, never>;
    }
  }
}

/** How a column takes part in sealing. */
interface Part {
  readonly sealed?: { readonly door: Door; readonly codec: PgCodec } | 'hidden' | 'reader';
}

const partOf = ({ extensions }: { readonly extensions?: object | undefined }): Part['sealed'] =>
  (extensions as Part | undefined)?.sealed;

const doorOf = (attribute: { readonly extensions?: object | undefined } | undefined) => {
  const part = attribute && partOf(attribute);
  return typeof part === 'object' ? part : undefined;
};

async function codecsOf(
  door: Door,
  codecFromType: (oid: string) => Promise<PgCodec | null>,
  { codecs }: State,
): Promise<{ codec: PgCodec; value: PgCodec }> {
  const value = await codecFromType(door.type);
  if (value === null) throw new Error(`no codec for the type of ${door.door}`);
  const codec = codecs.get(value) ?? doorCodec(value);
  codecs.set(value, codec);
  return { codec, value };
}

function setPart(thing: { extensions?: object | undefined }, sealed: Part['sealed']): void {
  thing.extensions = { ...thing.extensions, sealed };
}

/**
 * A sealed column is one field that reads and writes, of the type of its values; the columns beside it are out of sight,
 * and so are all ways to search, order or count by it. What finds by equality is the function made for it.
 */
export const sealedPlugin = (columns: SealedColumns): GraphileConfig.Plugin => ({
  name: 'SafetyPinSealedPlugin',
  version: '0.0.0',
  after: ['PgAttributesPlugin', 'PgProceduresPlugin', 'SafetyPinIndexesPlugin', 'SafetyPinAggregatesPlugin'],
  gather: {
    namespace: 'safetyPinSealed',
    helpers: {},
    initialState: (): State => ({ doors: new Map(), readers: new Set(), finders: new Map(), codecs: new Map() }),
    hooks: {
      async pgIntrospection_introspection({ resolvedPreset, state }, { serviceName }) {
        const service = resolvedPreset.pgServices?.find(({ name }) => name === serviceName);
        if (service === undefined) return;
        const doors = await readDoors((settings, work) => withPgClientFromPgService(service, settings, work));
        for (const door of doors) {
          for (const oid of door.relations) state.doors.set(oid, [...(state.doors.get(oid) ?? []), door]);
          for (const oid of door.readers) state.readers.add(oid);
          for (const oid of door.finders) state.finders.set(oid, door);
        }
      },
      async pgCodecs_attribute({ state, helpers }, { attribute, pgAttribute, serviceName }) {
        const doors: readonly Door[] = state.doors.get(pgAttribute.attrelid) ?? [];
        if (doors.some((door) => isHidden(door, pgAttribute.attname))) setPart(attribute, 'hidden');
        const door = doors.find((one) => one.door === pgAttribute.attname);
        if (door === undefined) return;
        const { codec, value } = await codecsOf(
          door,
          (oid) => helpers.pgCodecs.getCodecFromType(serviceName, oid),
          state,
        );
        columns.add(door.id, sql.compile(textOf(value, sql`o.value`)).text);
        attribute.codec = codec;
        setPart(attribute, { door, codec: value });
      },
      async pgProcedures_PgResourceOptions({ state, helpers }, { pgProc, resourceOptions, serviceName }) {
        if (state.readers.has(pgProc._id)) setPart(resourceOptions, 'reader');
        const door = state.finders.get(pgProc._id);
        const [parameter] = resourceOptions.parameters ?? [];
        if (door === undefined || parameter === undefined) return;
        const { codec } = await codecsOf(door, (oid) => helpers.pgCodecs.getCodecFromType(serviceName, oid), state);
        // Nothing is found by null.
        Object.assign(resourceOptions, { parameters: [{ ...parameter, codec, notNull: true }] });
      },
    },
  },
  schema: {
    entityBehavior: {
      pgResource: {
        override: (behavior, resource) => (partOf(resource) === 'reader' ? [behavior, '-*'] : [behavior]),
      },
      pgResourceUnique: {
        override: (behavior, [resource, unique]) => {
          const isOpen = unique.attributes.every((name) => partOf(resource.codec.attributes[name] ?? {}) === undefined);
          return isOpen ? [behavior] : [behavior, '-*'];
        },
      },
      pgCodecAttribute: {
        override: (behavior, [codec, name]) => {
          const part = partOf(codec.attributes[name] ?? {});
          if (part === 'hidden') return [behavior, '-*'];
          return part === undefined ? [behavior] : [behavior, ...NO_SEARCH, ...NO_COUNT];
        },
      },
    },
    hooks: {
      GraphQLObjectType_fields_field(field, _build, { scope }) {
        const part = doorOf(scope.pgFieldAttribute);
        if (part === undefined) return field;
        return {
          ...field,
          plan: ($row: Step) => openedOf($row, part.door, part.codec, columns),
          extensions: { ...field.extensions, cost: OPENING },
        };
      },
      GraphQLInputObjectType_fields_field(field, build, { scope }) {
        const part = doorOf((scope as { pgAttribute?: object }).pgAttribute);
        if (part?.door.required !== true || scope.fieldBehaviorScope !== 'attribute:insert') return field;
        return { ...field, type: build.nullableIf(false, field.type) };
      },
    },
  },
});
