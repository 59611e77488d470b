-- Purpose: sessions and the hashes of what opens them.

create table if not exists sessions.sessions (
  id uuid constraint sessions_pkey primary key default platform.uuid_v7(),
  person_id uuid not null constraint sessions_person_exists references identity.people (id) on delete cascade,
  organization_id uuid constraint sessions_organization_exists references access.organizations (id) on delete cascade,
  assurance integer not null default 1 constraint sessions_assurance_range check (assurance between 1 and 3),
  created_at timestamptz not null default clock_timestamp(),
  authenticated_at timestamptz not null default clock_timestamp(),
  ends_at timestamptz not null,
  ended_because text constraint sessions_ended_because_known
    check (ended_because in ('logout', 'revoked', 'replay', 'password', 'person', 'membership', 'organization', 'limit'))
);
create index if not exists sessions_person_id_idx on sessions.sessions (person_id, created_at desc);
create index if not exists sessions_organization_id_idx on sessions.sessions (organization_id);
alter table sessions.sessions enable row level security, force row level security;
comment on table sessions.sessions is 'A session of a person. Global: a session has one active organization at a time, or none.';
comment on column sessions.sessions.id is 'UUID version 7; not a secret.';
comment on column sessions.sessions.person_id is 'Whose session it is.';
comment on column sessions.sessions.organization_id is 'Active organization.';
comment on column sessions.sessions.assurance is 'Authenticator assurance level, 1 to 3 (SP 800-63B).';
comment on column sessions.sessions.created_at is 'When it began.';
comment on column sessions.sessions.authenticated_at is 'When the person last proved who they are.';
comment on column sessions.sessions.ends_at is 'Absolute end, not moved by use; set to the moment when the session is ended.';
comment on column sessions.sessions.ended_because is 'Why it was ended before its time; null if it was not.';

create table if not exists sessions_private.credentials (
  hash bytea constraint credentials_pkey primary key constraint credentials_hash_length check (length(hash) = 32),
  session_id uuid not null constraint credentials_session_exists references sessions.sessions (id) on delete cascade,
  issued_with bytea,
  expires_at timestamptz not null,
  first_used_at timestamptz
);
create index if not exists credentials_session_id_idx on sessions_private.credentials (session_id);
create index if not exists credentials_issued_with_idx on sessions_private.credentials (issued_with);
alter table sessions_private.credentials enable row level security, force row level security;
comment on table sessions_private.credentials is 'What an access token carries: 256 random bits, kept as SHA-256.';
comment on column sessions_private.credentials.hash is 'SHA-256 of the credential.';
comment on column sessions_private.credentials.session_id is 'Session that it opens.';
comment on column sessions_private.credentials.issued_with is 'Hash of the refresh token that was issued beside it.';
comment on column sessions_private.credentials.expires_at is 'End of the access token.';
comment on column sessions_private.credentials.first_used_at is 'First use: from then on the refresh token before it is spent for good.';

create table if not exists sessions_private.refresh_tokens (
  hash bytea constraint refresh_tokens_pkey primary key constraint refresh_tokens_hash_length check (length(hash) = 32),
  session_id uuid not null constraint refresh_tokens_session_exists references sessions.sessions (id) on delete cascade,
  successor bytea constraint refresh_tokens_successor_length check (length(successor) = 32),
  created_at timestamptz not null default clock_timestamp(),
  rotated_at timestamptz,
  constraint refresh_tokens_rotated_has_successor check ((successor is null) = (rotated_at is null))
);
create index if not exists refresh_tokens_session_id_idx on sessions_private.refresh_tokens (session_id);
alter table sessions_private.refresh_tokens enable row level security, force row level security;
comment on table sessions_private.refresh_tokens is 'Refresh tokens of a session, oldest to newest, as SHA-256.';
comment on column sessions_private.refresh_tokens.hash is 'SHA-256 of the token.';
comment on column sessions_private.refresh_tokens.session_id is 'Session; its absolute end is the token''s.';
comment on column sessions_private.refresh_tokens.successor is 'Hash of the token it was exchanged for.';
comment on column sessions_private.refresh_tokens.created_at is 'When it was issued.';
comment on column sessions_private.refresh_tokens.rotated_at is 'When it was first exchanged.';

create table if not exists sessions.activity (
  session_id uuid constraint activity_pkey primary key constraint activity_session_exists references sessions.sessions (id) on delete cascade,
  last_used_at timestamptz not null
) with (fillfactor = 70);
alter table sessions.activity enable row level security, force row level security;
comment on table sessions.activity is 'Last use of sessions, written in batches, apart from the session so that use never waits for revocation or the other way round.';
comment on column sessions.activity.session_id is 'Session.';
comment on column sessions.activity.last_used_at is 'Last use, to about a minute.';
