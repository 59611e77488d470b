-- Purpose: the one register of errors. Every error that a client may see is a row here: SQLSTATE as raised, the
-- stable upper-case code of the API, the HTTP status, and a sentence that is safe to show to anybody. The API's
-- mask reads this table; a test compares it with every errcode used under sql/.

create table if not exists platform.errors (
  sqlstate text constraint errors_pkey primary key
    constraint errors_sqlstate_form check (sqlstate ~ '^[0-9A-Z]{5}$'),
  code text not null constraint errors_code_form check (code ~ '^[A-Z][A-Z_]{2,40}$'),
  http_status integer not null constraint errors_http_status_range check (http_status between 400 and 599),
  message text not null constraint errors_message_length check (length(message) between 5 and 200)
);
alter table platform.errors enable row level security, force row level security;
comment on table platform.errors is 'Register of errors: SQLSTATE, API code, HTTP status and the only sentence a client sees.';
comment on column platform.errors.sqlstate is 'Five characters as in `raise … using errcode`; our own follow PostgreSQL''s rules for implementation-defined states.';
comment on column platform.errors.code is 'Stable upper-case name in `extensions.code` and in the REST envelope.';
comment on column platform.errors.http_status is 'Status of the REST door.';
comment on column platform.errors.message is 'Sentence for people; holds no value of a row, no SQL and no name of a constraint.';

-- Rows stand with the table: the register is part of the contract, not data.
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
  ('REPLC', 'REPLICA_BEHIND',       503, 'This copy of the data is too old. Please try again.'),
  ('KEYNO', 'KEY_UNAVAILABLE',      503, 'The encryption key is not available. Please try again later.'),
  ('KEYBD', 'VALUE_UNREADABLE',     500, 'A protected value cannot be opened.'),
  ('KEYER', 'ERASED',               410, 'This value was erased.'),
  ('GUESS', 'ATTEMPT_NOT_COMMITTED', 500, 'The attempt was not recorded. Please try again.'),
  ('AUDAP', 'AUDIT_APPEND_ONLY',    500, 'Audit events are never changed.'),
  ('PRTCT', 'CANNOT_PROTECT',       400, 'The table cannot be protected as it is.'),
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
  ('40001', 'TRY_AGAIN',            503, 'Two changes met. Please try again.'),
  ('40P01', 'TRY_AGAIN',            503, 'Two changes met. Please try again.'),
  ('42501', 'FORBIDDEN',            403, 'You may not do this.'),
  ('53300', 'UNAVAILABLE',          503, 'The service is busy. Please try again.'),
  ('55P03', 'TRY_AGAIN',            503, 'The service is busy. Please try again.'),
  ('57014', 'TIMEOUT',              503, 'That took too long.'),
  ('57P01', 'UNAVAILABLE',          503, 'The service is restarting. Please try again.'),
  ('57P03', 'UNAVAILABLE',          503, 'The service is restarting. Please try again.'),
  ('P0002', 'NOT_FOUND',            404, 'There is no such thing here.')
on conflict (sqlstate) do update
  set code = excluded.code, http_status = excluded.http_status, message = excluded.message;
