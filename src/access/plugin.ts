import { extendSchema, gql } from 'postgraphile/utils';
import { stepMutation } from '../graphql/mutation.ts';
import { type AcceptInput, acceptInvitation, requestInvitationCode } from './steps.ts';

/** `acceptInvitation` and `requestInvitationCode`: a code is a guess, which takes more than one transaction. */
export const InvitationsPlugin: GraphileConfig.Plugin = extendSchema({
  typeDefs: gql`
    enum AcceptInvitationOutcome { ACCEPTED REFUSED }
    "Always \`SENT\`: whether the token is live is not said."
    enum RequestInvitationCodeOutcome { SENT }

    input AcceptInvitationInput {
      clientMutationId: String
      "Token of the mail's link."
      token: String!
      "With an account of another address: the code that \`requestInvitationCode\` sent to the invited one."
      code: String
    }
    type AcceptInvitationPayload @scope(isMutationPayload: true) {
      "The \`clientMutationId\` of the input, unchanged."
      clientMutationId: String
      outcome: AcceptInvitationOutcome!
      "Why it was refused: \`TOKEN_INVALID\`, \`ALREADY_MEMBER\`, \`CODE_NEEDED\`, \`CODE_WRONG\`, \`LOCKED\` or \`LIMIT_REACHED\`."
      reasons: [String!]!
      "Organization that the caller belongs to now: what \`switchOrganization\` takes."
      organizationId: UUID
      "Whole seconds until another code is worth trying."
      retryAfter: Int
    }

    input RequestInvitationCodeInput { clientMutationId: String, token: String! }
    type RequestInvitationCodePayload @scope(isMutationPayload: true) {
      "The \`clientMutationId\` of the input, unchanged."
      clientMutationId: String
      outcome: RequestInvitationCodeOutcome!
    }

    extend type Mutation {
      "Joins an organization with the token of an invitation."
      acceptInvitation(input: AcceptInvitationInput!): AcceptInvitationPayload
      "Sends a code to the address of an invitation, to accept it with an account of another address."
      requestInvitationCode(input: RequestInvitationCodeInput!): RequestInvitationCodePayload
    }
  `,
  objects: {
    Mutation: {
      plans: {
        acceptInvitation: stepMutation<AcceptInput>(acceptInvitation),
        requestInvitationCode: stepMutation<{ token: string }>(async (tools, source, input) => ({
          outcome: await requestInvitationCode(tools, source, input.token),
        })),
      },
    },
  },
});
