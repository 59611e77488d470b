-- Purpose: every number that a rule compares with, in one table, with unit and bounds. SQL reads it; TypeScript
-- does not decide by numbers of its own.

create table if not exists platform.limits (
  name text constraint limits_pkey primary key,
  value bigint not null,
  unit text not null,
  minimum bigint not null,
  maximum bigint not null,
  description text not null,
  constraint limits_value_in_bounds check (value between minimum and maximum)
);
alter table platform.limits enable row level security, force row level security;
comment on table platform.limits is 'Numbers that rules compare with. Changing a value takes effect with the next statement; bounds refuse what would be unsafe.';
comment on column platform.limits.name is 'Dotted name, as given to platform.limit_value().';
comment on column platform.limits.value is 'The number in force.';
comment on column platform.limits.unit is 'Unit of value, minimum and maximum.';
comment on column platform.limits.minimum is 'Lowest value that is allowed.';
comment on column platform.limits.maximum is 'Highest value that is allowed.';
comment on column platform.limits.description is 'What is limited, and the standard it follows where there is one.';

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
  ('envelope.seconds',              60, 'seconds',    10, 600,     'Longest life of the sealed application key in a request.'),
  ('transport_key.seconds',      86400, 'seconds',    600, 172800, 'Life of the key that seals the application key on its way.'),
  ('organization.name_length',     200, 'characters', 1, 1000,     'Longest name of an organization.'),
  ('person.name_length',           200, 'characters', 1, 1000,     'Longest display name of a person.'),
  ('organization.per_person',       50, 'organizations', 1, 10000, 'Organizations that one person may create.')
on conflict (name) do nothing;

create or replace function platform.limit_value(name text) returns bigint
  language sql stable parallel safe
  set search_path = pg_catalog, pg_temp
as $$
  select l.value from platform.limits l where l.name = limit_value.name
$$;
comment on function platform.limit_value(text) is 'The number in force for a limit; null for an unknown name.';
