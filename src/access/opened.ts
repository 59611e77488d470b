import type {} from 'postgraphile';
import type { PgClient, PgSelectSingleStep, WithPgClient } from 'postgraphile/@dataplan/pg';
import { context, loadOne, type Step } from 'postgraphile/grafast';

/** What opening a value costs, as for the sealed columns of a host (graphql/sealed.ts). */
const OPENING = 5;

/** Fields of our own that are sealed: the functions of the API that open one say the same for a single row of SQL. */
const FIELDS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  Membership: {
    displayName: 'select api_steps.member_names($1::uuid[]) as opened',
    email: 'select api_steps.member_addresses($1::uuid[]) as opened',
  },
  Invitation: { email: 'select api_steps.invitation_addresses($1::uuid[]) as opened' },
};

type Opened = readonly (string | null)[];

/** Opens the values of all rows of a list by one call, which asks for the permission. */
function opening(text: string) {
  return async (ids: readonly string[], { shared }: { readonly shared: WithPgClient<PgClient> }): Promise<Opened> => {
    const { rows } = await shared(null, (client) => client.query<{ opened: Opened }>({ text, values: [ids] }));
    return rows[0]?.opened ?? [];
  };
}

/** Names and addresses are opened in sets: one statement for a list, not a function call for each of its rows. */
export const OpenedFieldsPlugin: GraphileConfig.Plugin = {
  name: 'SafetyPinOpenedFieldsPlugin',
  version: '0.0.0',
  schema: {
    hooks: {
      GraphQLObjectType_fields_field(field, _build, { Self, scope }) {
        const text = FIELDS[Self.name]?.[scope.fieldName];
        if (text === undefined) return field;
        const loader = {
          name: `${Self.name}.${scope.fieldName}`,
          load: opening(text),
          shared: () => context().get('withPgClient') as Step<WithPgClient<PgClient>>,
        };
        return {
          ...field,
          plan: ($row: PgSelectSingleStep) => loadOne($row.get('id') as Step<string>, loader),
          extensions: { ...field.extensions, cost: OPENING },
        };
      },
    },
  },
};
