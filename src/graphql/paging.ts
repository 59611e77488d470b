import type {} from 'postgraphile';
import { ConstantStep, type FieldArgs, lambda, type Step } from 'postgraphile/grafast';
import { LIMITS } from './limits.ts';

interface Collection {
  setFirst($first: Step | number): void;
}

const bounded = ([first, last]: readonly unknown[]): number | null =>
  typeof first === 'number' ? first : typeof last === 'number' ? null : LIMITS.page;

const raw = (fieldArgs: FieldArgs, name: 'first' | 'last'): Step | null =>
  `$${name}` in fieldArgs ? fieldArgs.getRaw(name) : null;

function limitPage($collection: Collection, fieldArgs: FieldArgs): void {
  const $first = raw(fieldArgs, 'first');
  const $last = raw(fieldArgs, 'last');
  if ($first === null) return;
  // Written out in the document: nothing to compute at each request.
  if ($first instanceof ConstantStep && ($last === null || $last instanceof ConstantStep)) {
    const size = bounded([$first.data, $last?.data]);
    if (size !== null) $collection.setFirst(size);
    return;
  }
  $collection.setFirst(lambda($last === null ? [$first] : [$first, $last], bounded));
}

/** A list without `first` or `last` gives one page, not the table. (Asking for more than a page is refused in limits.ts.) */
export const PagingPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinPagingPlugin',
  version: '0.0.0',
  after: ['PgFirstLastBeforeAfterArgsPlugin'],
  schema: {
    hooks: {
      GraphQLObjectType_fields_field(field, _build, context) {
        const { isPgFieldConnection, isPgFieldSimpleCollection } = context.scope;
        const { plan } = field;
        if (!(isPgFieldConnection || isPgFieldSimpleCollection) || plan === undefined) return field;
        return {
          ...field,
          plan($parent, fieldArgs, info) {
            const $collection = plan($parent, fieldArgs, info);
            limitPage($collection as unknown as Collection, fieldArgs);
            return $collection;
          },
        };
      },
      GraphQLObjectType_fields_field_args(args, _build, context) {
        const { isPgFieldConnection, isPgFieldSimpleCollection } = context.scope;
        if (!(isPgFieldConnection || isPgFieldSimpleCollection) || args.first === undefined) return args;
        // The field's plan above sets it, and it may be set only once.
        const { applyPlan: _applyPlan, ...first } = args.first;
        return { ...args, first };
      },
    },
  },
};
