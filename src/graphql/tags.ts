import { jsonPgSmartTags } from 'postgraphile/utils';

const outcome = { tags: { resultFieldName: 'outcome', notNull: 'true' } };

/** What GraphQL needs to know about our SQL and PostgreSQL cannot say. A test fails when an object named here is gone. */
export const SMART_TAGS = {
  class: {
    'audit.events': { tags: { name: 'audit_events' } },
  },
  attribute: {},
  constraint: {},
  type: {},
  procedure: {
    'api.resend_verification': outcome,
    'api.request_password_reset': outcome,
    'api.logout': outcome,
    'api.revoke_session': outcome,
    'api.revoke_other_sessions': outcome,
    'api.create_organization': outcome,
  },
};

export const TagsPlugin: GraphileConfig.Plugin = jsonPgSmartTags({ version: 1, config: SMART_TAGS });
