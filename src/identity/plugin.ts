import { extendSchema, gql } from 'postgraphile/utils';
import { stepMutation } from '../graphql/mutation.ts';
import { type RegisterInput, register, resetPassword, type VerifyEmailInput, verifyEmail } from './steps.ts';

/** `register`, `verifyEmail` and `resetPassword`: the mutations about an account that nobody is signed in to. */
export const IdentityPlugin: GraphileConfig.Plugin = extendSchema({
  typeDefs: gql`
    "\`VERIFICATION_SENT\` says nothing about whether the address had an account."
    enum RegisterOutcome { VERIFICATION_SENT REFUSED }
    enum VerifyEmailOutcome { VERIFIED REFUSED }
    enum ResetPasswordOutcome { CHANGED REFUSED }

    input RegisterInput {
      clientMutationId: String
      email: String!
      password: String!
      displayName: String!
      "Name of the organization that is made with the account. Without it there is none: for who is invited."
      organizationName: String
    }
    type RegisterPayload @scope(isMutationPayload: true) {
      "The \`clientMutationId\` of the input, unchanged."
      clientMutationId: String
      outcome: RegisterOutcome!
      "Why it was refused: \`PASSWORD_TOO_SHORT\`, \`PASSWORD_COMMON\` and so on."
      reasons: [String!]
    }

    "Either the token of the mail's link, or the address and the mail's short code."
    input VerifyEmailInput { clientMutationId: String, token: String, email: String, code: String }
    type VerifyEmailPayload @scope(isMutationPayload: true) {
      "The \`clientMutationId\` of the input, unchanged."
      clientMutationId: String
      outcome: VerifyEmailOutcome!
    }

    input ResetPasswordInput { clientMutationId: String, token: String!, newPassword: String! }
    type ResetPasswordPayload @scope(isMutationPayload: true) {
      "The \`clientMutationId\` of the input, unchanged."
      clientMutationId: String
      outcome: ResetPasswordOutcome!
      "Why the new password was refused."
      reasons: [String!]
    }

    extend type Mutation {
      "Asks for an account. It is made when the address is proved."
      register(input: RegisterInput!): RegisterPayload
      "Proves an address."
      verifyEmail(input: VerifyEmailInput!): VerifyEmailPayload
      "Sets a new password with the token of a mail."
      resetPassword(input: ResetPasswordInput!): ResetPasswordPayload
    }
  `,
  objects: {
    Mutation: {
      plans: {
        register: stepMutation<RegisterInput>(register),
        verifyEmail: stepMutation<VerifyEmailInput>(async (tools, source, input) => ({
          outcome: await verifyEmail(tools, source, input),
        })),
        resetPassword: stepMutation<{ token: string; newPassword: string }>((tools, source, input) =>
          resetPassword(tools, source, input.token, input.newPassword),
        ),
      },
    },
  },
});
