import { jsonPgSmartTags } from 'postgraphile/utils';

const outcome = { tags: { resultFieldName: 'outcome', notNull: 'true' } };

/** What GraphQL needs to know about our SQL and PostgreSQL cannot say. A test fails when an object named here is gone. */
export const SMART_TAGS = {
  class: {
    'audit.events': { tags: { name: 'audit_events' } },
    'audit.actions': { tags: { name: 'audit_actions' } },
    // Found beside its key.
    'access.api_key_use': {
      tags: { name: 'api_key_use', behavior: ['-query:resource:list', '-query:resource:connection'] },
    },
    // Found beside its session.
    'sessions.activity': {
      tags: { name: 'session_activity', behavior: ['-query:resource:list', '-query:resource:connection'] },
    },
  },
  attribute: {
    // Behind the person, whom the policy demands as it does the tenant elsewhere.
    'sessions.sessions.created_at': { tags: { isIndexed: 'true' } },
  },
  constraint: {
    'access.api_key_use.api_key_use_key_exists': { tags: { foreignSingleFieldName: 'use' } },
    'access.api_keys.api_keys_member_exists': { tags: { fieldName: 'membership' } },
    'sessions.activity.activity_session_exists': { tags: { foreignSingleFieldName: 'activity' } },
  },
  type: {},
  procedure: {
    'api.resend_verification': outcome,
    'api.request_password_reset': outcome,
    'api.logout': outcome,
    'api.revoke_session': outcome,
    'api.revoke_other_sessions': outcome,
  },
};

export const TagsPlugin: GraphileConfig.Plugin = jsonPgSmartTags({ version: 1, config: SMART_TAGS });
