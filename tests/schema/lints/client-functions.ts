/** Accessors of the sealed context: they tell the caller about herself, and every policy asks them. */
const ACCESSORS = [
  'request.assurance',
  'request.can',
  'request.id',
  'request.kind',
  'request.organization_id',
  'request.owner_id',
  'request.session_id',
  'request.signed_in_id',
  'request.task',
  'request.user_id',
] as const;

/** Doors before sign-in: each counts attempts, answers alike for known and unknown, and decides by token or attempt. */
const DOORS = [
  'api.current_user',
  'api.request_password_reset',
  'api.resend_verification',
  'api_steps.finish_email_code',
  'api_steps.finish_sign_in',
  'api_steps.note_first_use',
  'api_steps.prepare_password_reset',
  'api_steps.prepare_registration',
  'api_steps.record_fault',
  'api_steps.refresh_session',
  'api_steps.register',
  'api_steps.reset_password',
  'api_steps.start_email_code',
  'api_steps.start_sign_in',
  'api_steps.submit_email_code',
  'api_steps.submit_sign_in',
  'api_steps.verify_email',
] as const;

/** Sealed columns of a host's tables: the active organization and the column's permission are asked in each. */
const SEALED_COLUMNS = [
  'keyring.blind_index',
  'keyring.door',
  'keyring.is_stamped',
  'keyring.open_value',
  'keyring.open_values',
  'keyring.seal_value',
] as const;

/**
 * Definer functions that each run-time role may call: what they borrow, every client has. Whoever adds one here reads
 * it line by line and names its check in its comment (STYLE 3.1.3, splinter 0028 and 0029).
 */
export const CLIENT_FUNCTIONS: Readonly<Record<string, readonly string[]>> = {
  safetypin_anonymous: [...ACCESSORS, ...DOORS, 'keyring.bind_application'],
  safetypin_member: [
    ...ACCESSORS,
    'audit.append_change',
    ...DOORS,
    'api.create_organization',
    'api.key_works',
    'api.logout',
    'api.my_organizations',
    'api.plan_usage',
    'api.revoke_other_sessions',
    'api.revoke_session',
    'api_steps.end_shell',
    'api_steps.record_statement',
    'api_steps.start_shell',
    'api_steps.switch_organization',
    'audit.statement',
    ...SEALED_COLUMNS,
  ],
  safetypin_authenticator: [
    'keyring.doors',
    'keyring.transport_key',
    'platform.beat',
    'platform.queue_state',
    'sessions.open_request',
    'sessions.record_activity',
  ],
  safetypin_jobs: [
    ...ACCESSORS,
    'audit.append_change',
    ...SEALED_COLUMNS,
    'api_steps.report_failed_jobs',
    'audit.ensure_partitions',
    'identity.clean_up',
    'identity.compose_mail',
    'identity.mark_mail_sent',
    'keyring.clean_up',
    'keyring.compare_openings',
    'keyring.transport_key',
    'keyring.at_work',
    'keyring.destroy_keys',
    'keyring.doors',
    'keyring.end_batch',
    'keyring.index_values',
    'keyring.is_stale',
    'keyring.reseal_values',
    'keyring.take_work',
    'keyring.unseal_values',
    'platform.clean_up',
    'platform.open_job',
    'platform.queue_state',
    'sessions.clean_up',
  ],
  safetypin_auditor: [
    ...ACCESSORS,
    'audit.count_events',
    'audit.statement',
    'keyring.open_value',
    'keyring.open_values',
    'keyring.transport_key',
    'sessions.open_request',
  ],
};
