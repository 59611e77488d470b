import type {} from 'postgraphile';

declare global {
  namespace GraphileBuild {
    interface PgResourceTags {
      outcome: string;
    }
  }
}

const typeNameOf = (values: string): string =>
  `${values
    .toLowerCase()
    .split(',')
    .map((value) => value.replace(/(^|_)([a-z])/g, (_all, _dash, letter: string) => letter.toUpperCase()))
    .join('Or')}Outcome`;

/** `@outcome SENT,REFUSED` on a function that returns text: its payload field is that enum instead of a String. */
export const OutcomesPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinOutcomesPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      init(_, build) {
        const known = new Set<string>();
        for (const resource of Object.values(build.pgResources)) {
          const values = resource.extensions?.tags?.outcome;
          if (typeof values !== 'string' || known.has(values)) continue;
          known.add(values);
          build.registerEnumType(
            typeNameOf(values),
            {},
            () => ({ values: Object.fromEntries(values.split(',').map((value) => [value, { value }])) }),
            'SafetyPinOutcomesPlugin',
          );
        }
        return _;
      },
      GraphQLObjectType_fields_field(field, build, context) {
        const { isMutationPayload, pgTypeResource, fieldName } = context.scope;
        const values = pgTypeResource?.extensions?.tags?.outcome;
        if (!isMutationPayload || fieldName !== 'outcome' || typeof values !== 'string') return field;
        return { ...field, type: build.getOutputTypeByName(typeNameOf(values)) };
      },
    },
  },
};
