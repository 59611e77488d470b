import { extendSchema, gql } from 'postgraphile/utils';
import { stepMutation } from '../graphql/mutation.ts';
import { type LoginInput, login, refreshSession, type SignInAnswer, switchOrganization } from './steps.ts';

/** Times as GraphQL's Datetime takes them. */
const told = (answer: SignInAnswer): object => ({
  ...answer,
  expiresAt: answer.expiresAt?.toISOString() ?? null,
  sessionExpiresAt: answer.sessionExpiresAt?.toISOString() ?? null,
});

const signInFields = /* GraphQL */ `
  "The \`clientMutationId\` of the input, unchanged."
  clientMutationId: String
  outcome: SignInOutcome!
  "Bearer token for the next minutes; only with \`SIGNED_IN\`."
  accessToken: String
  "Gets the next access token, once. If its answer was lost, present it again."
  refreshToken: String
  "When the access token ends."
  expiresAt: Datetime
  "When the session ends however much it is used."
  sessionExpiresAt: Datetime
  "For \`completeMfa\`; only when a second factor is asked for."
  mfaToken: String
  "Second factors this account can use."
  mfaMethods: [String!]
  "Whole seconds until another attempt is worth making."
  retryAfter: Int
`;

/** `login`, `refreshSession` and `switchOrganization`: the mutations that end in tokens. */
export const SessionsPlugin: GraphileConfig.Plugin = extendSchema({
  typeDefs: gql`
    "What became of a sign-in. An unknown address, a wrong password and an unverified address are all \`REFUSED\`."
    enum SignInOutcome { SIGNED_IN MFA_REQUIRED MFA_ENROLLMENT_REQUIRED REFUSED }

    input LoginInput {
      clientMutationId: String
      email: String!
      password: String!
      "Organization to act in; without it the one acted in last."
      organizationId: UUID
    }
    type LoginPayload @scope(isMutationPayload: true) { ${signInFields} }

    input RefreshSessionInput { clientMutationId: String, refreshToken: String! }
    type RefreshSessionPayload @scope(isMutationPayload: true) { ${signInFields} }

    input SwitchOrganizationInput { clientMutationId: String, organizationId: UUID! }
    type SwitchOrganizationPayload @scope(isMutationPayload: true) { ${signInFields} }

    extend type Mutation {
      "Signs in with an address and a password."
      login(input: LoginInput!): LoginPayload
      "Exchanges a refresh token for new tokens."
      refreshSession(input: RefreshSessionInput!): RefreshSessionPayload
      "Acts in another organization from now on. The old tokens end."
      switchOrganization(input: SwitchOrganizationInput!): SwitchOrganizationPayload
    }
  `,
  objects: {
    Mutation: {
      plans: {
        login: stepMutation<LoginInput>(async (tools, source, input) => told(await login(tools, source, input))),
        refreshSession: stepMutation<{ refreshToken: string }>(async (tools, source, input) =>
          told(await refreshSession(tools, source, input.refreshToken)),
        ),
        switchOrganization: stepMutation<{ organizationId: string }>(async (tools, source, input) =>
          told(await switchOrganization(tools, source, input.organizationId)),
        ),
      },
    },
  },
});
