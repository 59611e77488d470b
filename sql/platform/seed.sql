-- Purpose: the register of errors, the limits and the tasks.

-- Migrations run with row_security off, so that a backfill which a policy would filter fails aloud. Here the owner has
-- a policy that lets it through.
set local row_security = on;

insert into platform.errors (sqlstate, code, http_status, message) values
  ('AUTHN', 'UNAUTHENTICATED',      401, 'Please sign in again.'),
  ('DENYD', 'FORBIDDEN',            403, 'You may not do this.'),
  ('NTFND', 'NOT_FOUND',            404, 'There is no such thing here.'),
  ('BADIN', 'BAD_INPUT',            400, 'The input is not valid.'),
  ('CNFLT', 'CONFLICT',             409, 'That conflicts with something that exists already.'),
  ('STALE', 'STALE_VERSION',        409, 'Somebody changed this in the meantime. Please read it again.'),
  ('LIMIT', 'LIMIT_EXCEEDED',       429, 'That is over a limit. Please try again later.'),
  ('CTXNO', 'NO_CONTEXT',           401, 'This needs a request that was opened with a valid credential.'),
  ('CTXAG', 'CONTEXT_EXISTS',       500, 'The request is open already.'),
  ('CTXTX', 'CONTEXT_NEEDS_TRANSACTION', 500, 'A request must be opened in a later message than its begin.'),
  ('CTXJB', 'JOB_NOT_RUNNING',      500, 'The job is not running now.'),
  ('CTXRV', 'JOB_REVOKED',          403, 'Who asked for this may not do it any more.'),
  ('OLDCP', 'REPLICA_BEHIND',       503, 'This copy of the data is too old. Please try again.'),
  ('KEYNO', 'KEY_UNAVAILABLE',      503, 'The encryption key is not available. Please try again later.'),
  ('KEYBD', 'VALUE_UNREADABLE',     500, 'A protected value cannot be opened.'),
  ('KEYER', 'ERASED',               410, 'This value was erased.'),
  ('KEYIM', 'KEYS_IMMUTABLE',       409, 'This belongs to a row with protected values and cannot be changed.'),
  ('KEYEX', 'EXCLUDED_IS_EMPTY',    400, 'A protected value was taken from excluded, where it is empty. Please repeat it.'),
  ('KEYRO', 'CANNOT_RECORD',        503, 'Reading this is recorded, and nothing can be recorded here.'),
  ('KEYFG', 'VALUE_FORGED',         400, 'A protected value was put past its seal.'),
  ('GUESS', 'ATTEMPT_NOT_COMMITTED', 500, 'The attempt was not recorded. Please try again.'),
  ('AUDAP', 'AUDIT_APPEND_ONLY',    500, 'Audit events are never changed.'),
  ('LASTO', 'LAST_OWNER',           409, 'An organization keeps an owner.'),
  ('TABLE', 'CANNOT_PROTECT',       400, 'The table cannot be protected as it is.'),
  ('22023', 'BAD_INPUT',            400, 'The input is not valid.'),
  ('22P02', 'BAD_INPUT',            400, 'The input is not valid.'),
  ('22001', 'BAD_INPUT',            400, 'The input is too long.'),
  ('22003', 'BAD_INPUT',            400, 'A number is out of range.'),
  ('22007', 'BAD_INPUT',            400, 'A date or time is not valid.'),
  ('22008', 'BAD_INPUT',            400, 'A date or time is out of range.'),
  ('22021', 'BAD_INPUT',            400, 'The text is not valid Unicode.'),
  ('22P05', 'BAD_INPUT',            400, 'The text is not valid Unicode.'),
  ('23502', 'BAD_INPUT',            400, 'Something required is missing.'),
  ('23503', 'CONFLICT',             409, 'That refers to something that is not there.'),
  ('23505', 'CONFLICT',             409, 'That exists already.'),
  ('23514', 'BAD_INPUT',            400, 'The input is not valid.'),
  ('23P01', 'CONFLICT',             409, 'That conflicts with something that exists already.'),
  ('25006', 'READ_ONLY',            503, 'This can only be read here.'),
  ('25P03', 'TIMEOUT',              503, 'That took too long.'),
  ('25P04', 'TIMEOUT',              503, 'That took too long.'),
  ('40001', 'TRY_AGAIN',            503, 'Two changes met. Please try again.'),
  ('40P01', 'TRY_AGAIN',            503, 'Two changes met. Please try again.'),
  ('42501', 'FORBIDDEN',            403, 'You may not do this.'),
  ('53300', 'UNAVAILABLE',          503, 'The service is busy. Please try again.'),
  ('53400', 'LIMIT_EXCEEDED',       503, 'That takes more room than there is. Please ask for less.'),
  ('54000', 'BAD_INPUT',            400, 'The input is too large.'),
  ('55P03', 'TRY_AGAIN',            503, 'The service is busy. Please try again.'),
  ('57014', 'TIMEOUT',              503, 'That took too long.'),
  ('57P01', 'UNAVAILABLE',          503, 'The service is restarting. Please try again.'),
  ('57P03', 'UNAVAILABLE',          503, 'The service is restarting. Please try again.'),
  ('P0002', 'NOT_FOUND',            404, 'There is no such thing here.')
on conflict (sqlstate) do update
  set code = excluded.code, http_status = excluded.http_status, message = excluded.message;

-- An operator's value survives the next migration: only new limits are added.
insert into platform.limits (name, value, unit, minimum, maximum, description) values
  ('password.minimum_length',       15, 'characters', 8, 64,       'Shortest password where it is the only factor (SP 800-63B-4: 15).'),
  ('password.maximum_bytes',      1024, 'bytes',      64, 4096,    'Longest password; longer ones are refused before any hashing.'),
  ('password.memory',            19456, 'KiB',        19456, 1048576, 'Argon2id memory cost of new passwords (OWASP: 19456 with two passes).'),
  ('password.passes',                2, 'passes',     2, 20,       'Argon2id time cost of new passwords.'),
  ('password.parallelism',           1, 'lanes',      1, 8,        'Argon2id lanes of new passwords.'),
  ('attempt.failures',               5, 'attempts',   3, 50,       'Attempts on one account before it is locked for a while, over all doors together.'),
  ('attempt.lock_seconds',          60, 'seconds',    10, 3600,    'First lock; it doubles with each further failure.'),
  ('attempt.lock_maximum_seconds', 3600, 'seconds',   60, 86400,   'Longest lock.'),
  ('attempt.forget_seconds',     86400, 'seconds',    3600, 2592000, 'Quiet time after which failures are forgotten.'),
  ('attempt.answer_seconds',       120, 'seconds',    10, 600,     'How long a counted attempt may take to be answered.'),
  ('token.verification_seconds', 86400, 'seconds',    600, 604800, 'Life of a token that proves an e-mail address.'),
  ('token.reset_seconds',         1800, 'seconds',    300, 86400,  'Life of a token that resets a password.'),
  ('token.code_seconds',           600, 'seconds',    120, 3600,   'Life of a six-digit code sent by mail.'),
  ('mail.per_address_per_hour',      5, 'mails',      1, 100,      'Mails of one kind that one address gets in an hour.'),
  ('session.access_seconds',       600, 'seconds',    60, 3600,    'Life of an access token (RFC 9068).'),
  ('session.absolute_seconds', 2592000, 'seconds',    3600, 2592000, 'Life of a session however much it is used (SP 800-63B-4, AAL1: 30 days).'),
  ('session.idle_seconds',     1209600, 'seconds',    300, 2592000, 'Life of a session that nobody uses.'),
  ('session.parallel',              50, 'sessions',   1, 1000,     'Live sessions of one person; the oldest ends when there is one more.'),
  ('request.seconds',               30, 'seconds',    5, 300,      'How long one opened request may act before it must be opened again.'),
  ('envelope.seconds',              60, 'seconds',    60, 600,     'Longest life of the sealed application key in a request.'),
  ('transport_key.seconds',      86400, 'seconds',    600, 172800, 'Life of the key that seals the application key on its way.'),
  ('organization.name_length',     200, 'characters', 1, 1000,     'Longest name of an organization.'),
  ('person.name_length',           200, 'characters', 1, 1000,     'Longest display name of a person.'),
  ('organization.per_person',       50, 'organizations', 1, 10000, 'Organizations that one person may create.'),
  ('role.name_length',             100, 'characters', 1, 100,      'Longest name of a role.'),
  ('role.per_member',              100, 'roles',      1, 10000,    'Grants of roles that one member has and that are not over.'),
  ('job.turn_depth',               100, 'jobs',       1, 1000,     'Waiting jobs of one organization that take turns with those of others; what is beyond waits for all of these.'),
  ('opening.held_seconds',        3600, 'seconds',    60, 86400,   'How long a transaction may keep the record of what it read open before that counts as unrecorded.'),
  ('keep.attempt_seconds',       86400, 'seconds',    3600, 31536000, 'How long an attempt is kept after it was counted.'),
  ('keep.token_seconds',         86400, 'seconds',    600, 31536000,  'How long a token from a mail is kept after it was used or ran out.'),
  ('keep.mail_seconds',         604800, 'seconds',    86400, 31536000, 'How long it is kept that a mail was sent.'),
  ('keep.credential_seconds',    86400, 'seconds',    3600, 31536000, 'How long credentials are kept after their end, and refresh tokens after the end of their session.'),
  ('keep.session_seconds',     7776000, 'seconds',    86400, 315360000, 'How long a session is kept after its end.'),
  ('keep.failed_job_seconds',  2592000, 'seconds',    86400, 31536000, 'How long a job is kept that was given up.')
on conflict (name) do nothing;

insert into platform.tasks (name, scheduled, seconds, attempts, payload, needs_asker, description) values
  ('mail__send',                false, 60,  16, '{id}', false, 'Writes and sends one mail.'),
  ('audit__ensure_partitions',  true,  60,  5,  '{}',   true,  'Makes the monthly partitions of the audit trail ahead of time.'),
  ('platform__report_failures', true,  60,  5,  '{}',   true,  'Records in the audit trail which jobs were given up.'),
  ('platform__clean_up',        true,  300, 5,  '{}',   true,  'Removes jobs that were given up long ago, and contexts without a job.'),
  ('keyring__clean_up',         true,  60,  5,  '{}',   true,  'Removes transport keys that nothing can be sealed with any more.'),
  ('keyring__work',             true,  300, 5,  '{}',   true,  'Rotates keys, seals and unseals columns that have rows, in batches.'),
  ('keyring__compare_openings', true, 60, 5, '{}', true, 'Compares what was read of sensitive columns with what was recorded.'),
  ('identity__clean_up',        true,  300, 5,  '{}',   true,  'Removes attempts, lockouts, tokens, mails and registrations that have run out.'),
  ('sessions__clean_up',        true,  300, 5,  '{}',   true,  'Removes credentials, refresh tokens and sessions that are over.')
on conflict (name) do update
  set scheduled = excluded.scheduled, seconds = excluded.seconds, attempts = excluded.attempts,
      payload = excluded.payload, needs_asker = excluded.needs_asker, description = excluded.description;

reset row_security;
