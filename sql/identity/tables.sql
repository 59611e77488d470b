-- Purpose: people and what proves them. Names and addresses are sealed under the person's own key; passwords are kept
-- as the sealed SHA-256 of a tag that only the right password gives.

create table if not exists identity.people (
  id uuid constraint people_pkey primary key default platform.uuid_v7(),
  status text not null default 'active' constraint people_status_known
    check (status in ('pending', 'active', 'suspended', 'deactivated', 'erased')),
  locale text not null default 'en' constraint people_locale_form check (locale ~ '^[a-z]{2}(-[A-Z]{2})?$'),
  created_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp(),
  version integer not null default 1
);
alter table identity.people enable row level security, force row level security;
comment on table identity.people is 'A person. Global: belongs to no organization; memberships say where.';
comment on column identity.people.id is 'UUID version 7; never given to anybody else.';
comment on column identity.people.status is 'Only active people can sign in.';
comment on column identity.people.locale is 'Language of mails, BCP 47.';
comment on column identity.people.created_at is 'When the account was made.';
comment on column identity.people.updated_at is 'When it last changed.';
comment on column identity.people.version is 'Grows with each change; for optimistic locking.';

create table if not exists identity_private.profiles (
  person_id uuid constraint profiles_pkey primary key
    constraint profiles_person_exists references identity.people (id) on delete cascade,
  display_name bytea
);
alter table identity_private.profiles enable row level security, force row level security;
comment on table identity_private.profiles is 'Sealed parts of a person.';
comment on column identity_private.profiles.person_id is 'The person.';
comment on column identity_private.profiles.display_name is 'Sealed: identity.people.display_name.';

create table if not exists identity_private.emails (
  id uuid constraint emails_pkey primary key default platform.uuid_v7(),
  person_id uuid not null constraint emails_person_exists references identity.people (id) on delete cascade,
  address bytea not null,
  lookup bytea not null constraint emails_lookup_unique unique,
  is_primary boolean not null default true,
  verified_at timestamptz
);
create unique index if not exists emails_primary_unique on identity_private.emails (person_id) where is_primary;
create index if not exists emails_person_id_idx on identity_private.emails (person_id);
alter table identity_private.emails enable row level security, force row level security;
comment on table identity_private.emails is 'E-mail addresses of people.';
comment on column identity_private.emails.id is 'UUID version 7.';
comment on column identity_private.emails.person_id is 'Whose address it is.';
comment on column identity_private.emails.address is 'Sealed: identity.emails.address.';
comment on column identity_private.emails.lookup is 'Blind index of the normalised address.';
comment on column identity_private.emails.is_primary is 'The address that mails go to.';
comment on column identity_private.emails.verified_at is 'When the person proved it; null if never.';

create table if not exists identity_private.passwords (
  person_id uuid constraint passwords_pkey primary key
    constraint passwords_person_exists references identity.people (id) on delete cascade,
  scheme text not null constraint passwords_scheme_known check (scheme in ('argon2id')),
  parameters jsonb not null,
  salt bytea not null constraint passwords_salt_length check (length(salt) between 16 and 64),
  verifier bytea not null,
  changed_at timestamptz not null default clock_timestamp()
);
alter table identity_private.passwords enable row level security, force row level security;
comment on table identity_private.passwords is 'How a password is checked: the application computes a tag from scheme, parameters and salt; its SHA-256 must be the verifier.';
comment on column identity_private.passwords.person_id is 'Whose password it is.';
comment on column identity_private.passwords.scheme is 'Hash function of the tag (Argon2id, RFC 9106).';
comment on column identity_private.passwords.parameters is 'Cost: memory in KiB, passes, parallelism, tag length in bytes.';
comment on column identity_private.passwords.salt is '16 random bytes.';
comment on column identity_private.passwords.verifier is 'Sealed: hex of the SHA-256 of the tag. A dump without the application''s key cannot check a guess.';
comment on column identity_private.passwords.changed_at is 'When it was set.';

create table if not exists identity_private.registrations (
  id uuid constraint registrations_pkey primary key default platform.uuid_v7(),
  email bytea not null,
  lookup bytea not null,
  display_name bytea not null,
  organization_name bytea,
  locale text not null default 'en',
  scheme text not null constraint registrations_scheme_known check (scheme in ('argon2id')),
  parameters jsonb not null,
  salt bytea not null,
  verifier bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  completed_at timestamptz
);
create index if not exists registrations_lookup_idx on identity_private.registrations (lookup, created_at desc);
alter table identity_private.registrations enable row level security, force row level security;
comment on table identity_private.registrations is
  'Accounts asked for. The account is made when the address is proved, with the password of that very request, so that nobody can plant a password under somebody else''s address.';
comment on column identity_private.registrations.id is 'UUID version 7; also the subject of the key that seals the row.';
comment on column identity_private.registrations.email is 'Sealed: identity.registrations.email.';
comment on column identity_private.registrations.lookup is 'Blind index of the address, as in emails.';
comment on column identity_private.registrations.display_name is 'Sealed: identity.registrations.display_name.';
comment on column identity_private.registrations.organization_name is 'Sealed: identity.registrations.organization_name.';
comment on column identity_private.registrations.locale is 'Language of the mail.';
comment on column identity_private.registrations.scheme is 'As in passwords.';
comment on column identity_private.registrations.parameters is 'As in passwords.';
comment on column identity_private.registrations.salt is 'As in passwords.';
comment on column identity_private.registrations.verifier is 'Sealed: identity.registrations.verifier.';
comment on column identity_private.registrations.created_at is 'When it was asked for.';
comment on column identity_private.registrations.completed_at is 'When the address was proved.';

create table if not exists identity_private.mails (
  id uuid constraint mails_pkey primary key default platform.uuid_v7(),
  kind text not null constraint mails_kind_known
    check (kind in ('registration', 'password_reset', 'password_changed', 'invitation', 'invitation_code')),
  lookup bytea,
  registration_id uuid constraint mails_registration_exists references identity_private.registrations (id) on delete cascade,
  person_id uuid constraint mails_person_exists references identity.people (id) on delete cascade,
  organization_id uuid,
  invitation_id uuid,
  asked_by uuid constraint mails_asker_exists references identity.people (id) on delete cascade,
  created_at timestamptz not null default clock_timestamp(),
  sent_at timestamptz,
  composed_at timestamptz,
  constraint mails_has_recipient check (num_nonnulls(lookup, registration_id, person_id) = 1),
  constraint mails_names_invitation check ((kind in ('invitation', 'invitation_code')) = (num_nonnulls(organization_id, invitation_id, lookup) = 3)),
  constraint mails_names_asker check ((kind = 'invitation_code') = (asked_by is not null))
);
create index if not exists mails_lookup_idx on identity_private.mails (lookup, kind, created_at desc);
create index if not exists mails_registration_id_idx on identity_private.mails (registration_id);
create index if not exists mails_person_id_idx on identity_private.mails (person_id);
create index if not exists mails_asked_by_idx on identity_private.mails (asked_by);
create index if not exists mails_invitation_idx on identity_private.mails (organization_id, invitation_id);
alter table identity_private.mails enable row level security, force row level security;
comment on table identity_private.mails is
  'Mails asked for. Whether there is anybody to write to is found out by the job, so that asking takes the same work for a known and an unknown address.';
comment on column identity_private.mails.id is 'UUID version 7; all that the job''s payload holds.';
comment on column identity_private.mails.kind is 'What the mail is about.';
comment on column identity_private.mails.lookup is 'Blind index of a typed address, which may be nobody''s.';
comment on column identity_private.mails.registration_id is 'Registration whose address is written to.';
comment on column identity_private.mails.person_id is 'Person whose primary address is written to.';
comment on column identity_private.mails.organization_id is 'Organization of the invitation.';
comment on column identity_private.mails.invitation_id is 'Invitation whose address is written to.';
comment on column identity_private.mails.asked_by is 'Who wants to accept the invitation with an account of another address: the code is good for nobody else.';
comment on column identity_private.mails.created_at is 'When it was asked for.';
comment on column identity_private.mails.sent_at is 'When a mail server took it, or when it was found that nobody gets it; null while it waits.';
comment on column identity_private.mails.composed_at is 'When it was last written for sending: what the hourly limit of an address counts.';

create table if not exists identity_private.tokens (
  hash bytea constraint tokens_pkey primary key constraint tokens_hash_length check (length(hash) = 32),
  purpose text not null constraint tokens_purpose_known check (purpose in ('verification', 'password_reset', 'invitation', 'invitation_code')),
  mail_id uuid not null constraint tokens_mail_exists references identity_private.mails (id) on delete cascade,
  registration_id uuid constraint tokens_registration_exists references identity_private.registrations (id) on delete cascade,
  person_id uuid constraint tokens_person_exists references identity.people (id) on delete cascade,
  organization_id uuid,
  invitation_id uuid,
  code_mac bytea,
  code_expires_at timestamptz,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  consumed_at timestamptz,
  constraint tokens_has_subject check (
    (registration_id is not null) = (purpose = 'verification')
    and (person_id is not null) = (purpose in ('password_reset', 'invitation_code'))
    and num_nonnulls(organization_id, invitation_id) = case when purpose in ('invitation', 'invitation_code') then 2 else 0 end)
);
create index if not exists tokens_mail_id_idx on identity_private.tokens (mail_id);
create index if not exists tokens_registration_id_idx on identity_private.tokens (registration_id);
create index if not exists tokens_person_id_idx on identity_private.tokens (person_id, purpose);
create index if not exists tokens_invitation_idx on identity_private.tokens (organization_id, invitation_id);
alter table identity_private.tokens enable row level security, force row level security;
comment on table identity_private.tokens is 'One-time tokens sent by mail: 256 random bits, kept as SHA-256, bound to a purpose and a subject, used once.';
comment on column identity_private.tokens.hash is 'SHA-256 of the token.';
comment on column identity_private.tokens.purpose is 'A token of one purpose is refused for another.';
comment on column identity_private.tokens.mail_id is 'Mail it went out with. Tokens of a repeated mail live side by side; using one uses them all.';
comment on column identity_private.tokens.registration_id is 'What it completes.';
comment on column identity_private.tokens.person_id is 'Whom it is for.';
comment on column identity_private.tokens.organization_id is 'Organization of the invitation.';
comment on column identity_private.tokens.invitation_id is 'Invitation that it accepts, or that its code helps to accept.';
comment on column identity_private.tokens.code_mac is 'The six-digit code of the same mail, as keyed hash.';
comment on column identity_private.tokens.code_expires_at is 'End of the code''s life, sooner than the token''s.';
comment on column identity_private.tokens.created_at is 'When it was made.';
comment on column identity_private.tokens.expires_at is 'End of its life.';
comment on column identity_private.tokens.consumed_at is 'When it was used or voided.';

create table if not exists identity_private.lockouts (
  key bytea constraint lockouts_pkey primary key,
  failures integer not null,
  last_at timestamptz not null,
  locked_until timestamptz
) with (fillfactor = 50);
alter table identity_private.lockouts enable row level security, force row level security;
comment on table identity_private.lockouts is 'Failed attempts by account, over all doors. Logged: a crash forgives nothing. No index on what changes.';
comment on column identity_private.lockouts.key is 'Blind index of the account''s address, known or not.';
comment on column identity_private.lockouts.failures is 'Attempts since the last success.';
comment on column identity_private.lockouts.last_at is 'Last attempt.';
comment on column identity_private.lockouts.locked_until is 'Attempts are refused until then.';

create table if not exists identity_private.attempts (
  id uuid constraint attempts_pkey primary key default platform.uuid_v7(),
  door text not null constraint attempts_door_known check (door in ('password', 'email_code', 'invitation_code')),
  account bytea not null,
  guess_mac bytea,
  guess_transaction xid8,
  created_at timestamptz not null default clock_timestamp(),
  resolved_at timestamptz
);
alter table identity_private.attempts enable row level security, force row level security;
comment on table identity_private.attempts is
  'One guess each: counted when it starts, stored before it is answered, answered once and only in a later transaction. A rollback never gives a try back.';
comment on column identity_private.attempts.id is 'UUID version 7.';
comment on column identity_private.attempts.door is 'What is guessed.';
comment on column identity_private.attempts.account is 'Blind index of the address.';
comment on column identity_private.attempts.guess_mac is 'Keyed hash of the guess.';
comment on column identity_private.attempts.guess_transaction is 'Transaction that stored the guess.';
comment on column identity_private.attempts.created_at is 'When it was counted.';
comment on column identity_private.attempts.resolved_at is 'When it was answered.';
