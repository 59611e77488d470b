import { jsonPgSmartTags } from 'postgraphile/utils';

const outcome = (values: string): { tags: Record<string, string> } => ({
  tags: { resultFieldName: 'outcome', outcome: values },
});

/** What GraphQL needs to know about our SQL and PostgreSQL cannot say. A test fails when an object named here is gone. */
export const SMART_TAGS = {
  class: {
    'audit.events': { tags: { name: 'audit_events' } },
  },
  attribute: {},
  constraint: {},
  procedure: {
    'api.resend_verification': outcome('SENT'),
    'api.request_password_reset': outcome('SENT'),
  },
  type: {},
} as const;

export const TagsPlugin: GraphileConfig.Plugin = jsonPgSmartTags({ version: 1, config: SMART_TAGS });
