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

