import { extendSchema, gql } from 'postgraphile/utils';
import type { RequestSource } from '../graphql/adaptor.ts';
import { stepMutation } from '../graphql/mutation.ts';
import { type Statement, storable } from '../graphql/transaction.ts';
import { type NewApiKey, newApiKey } from './api-key.ts';
import type { StepTools } from './steps.ts';

interface CreateInput {
  readonly name: string;
  readonly permissions: readonly string[];
  readonly expiresAt?: string | null | undefined;
  readonly serviceAccountId?: string | null | undefined;
}

interface RotateInput {
  readonly id: string;
  readonly overlapSeconds: number;
}

/** Row of the SQL type api_steps.api_key_result. */
interface ApiKeyResult {
  readonly outcome: string;
  readonly reasons: readonly string[];
  readonly id: string | null;
  readonly prefix: string | null;
  readonly expires_at: Date | null;
}

/** The secret is made here, and leaves here once: SQL gets its hash and how it begins. */
async function withSecret(
  { requests }: StepTools,
  source: RequestSource,
  statementFor: (key: NewApiKey) => Statement,
): Promise<object> {
  const key = newApiKey();
  const { rows } = await requests.inRequest(source, (client) => client.query<ApiKeyResult>(statementFor(key)));
  const [row] = rows;
  if (row === undefined) throw new Error('a function of API keys returned no row');
  const { outcome, reasons, id, prefix, expires_at: expiresAt } = row;
  return {
    outcome,
    reasons,
    id,
    secret: id === null ? null : key.secret,
    prefix,
    expiresAt: expiresAt?.toISOString() ?? null,
  };
}

const fields = /* GraphQL */ `
  "The \`clientMutationId\` of the input, unchanged."
  clientMutationId: String
  outcome: ApiKeyOutcome!
  "Why it was refused; empty if it was not."
  reasons: [String!]!
  id: UUID
  "The key itself, for \`Authorization: Bearer\`. Shown here and never again."
  secret: String
  "How the secret begins, to recognize it by."
  prefix: String
  "When the key ends."
  expiresAt: Datetime
`;

/** `createApiKey` and `rotateApiKey`: the mutations that show the secret of a key. */
export const ApiKeysPlugin: GraphileConfig.Plugin = extendSchema({
  typeDefs: gql`
    "What became of making an API key, or of giving it a new secret."
    enum ApiKeyOutcome { CREATED ROTATED REFUSED }

    input CreateApiKeyInput {
      clientMutationId: String
      "What it is for, for people."
      name: String!
      "What it may do at most; all of it must be held by who asks."
      permissions: [String!]!
      "When it ends; without it after the limit api_key.default_seconds."
      expiresAt: Datetime
      "The service account whose key it is; without it one's own."
      serviceAccountId: UUID
    }
    type CreateApiKeyPayload @scope(isMutationPayload: true) { ${fields} }

    input RotateApiKeyInput {
      clientMutationId: String
      id: UUID!
      "For how long the old secret works beside the new one."
      overlapSeconds: Int! = 0
    }
    type RotateApiKeyPayload @scope(isMutationPayload: true) { ${fields} }

    extend type Mutation {
      "Makes an API key of one's own, or of a service account. Demands api_key.create."
      createApiKey(input: CreateApiKeyInput!): CreateApiKeyPayload
      "Gives an API key a new secret; its end stays. A personal key only by whose it is. Demands api_key.rotate."
      rotateApiKey(input: RotateApiKeyInput!): RotateApiKeyPayload
    }
  `,
  objects: {
    Mutation: {
      plans: {
        createApiKey: stepMutation<CreateInput>((tools, source, input) =>
          withSecret(tools, source, ({ credentialHash, prefix }) => ({
            name: 'create_api_key',
            text: 'select * from api_steps.create_api_key($1, $2, $3, $4, $5, $6)',
            values: [
              storable(input.name),
              input.permissions,
              input.expiresAt ?? null,
              input.serviceAccountId ?? null,
              credentialHash,
              prefix,
            ],
          })),
        ),
        rotateApiKey: stepMutation<RotateInput>((tools, source, input) =>
          withSecret(tools, source, ({ credentialHash, prefix }) => ({
            name: 'rotate_api_key',
            text: 'select * from api_steps.rotate_api_key($1, $2, $3, $4)',
            values: [input.id, input.overlapSeconds, credentialHash, prefix],
          })),
        ),
      },
    },
  },
});
