-- Purpose: sessions: how a proved identity becomes an open request, and how it ends.

create schema if not exists sessions;
comment on schema sessions is 'Sessions, and opening a request with one.';
create schema if not exists sessions_private;
comment on schema sessions_private is 'Credentials and refresh tokens, as hashes; no run-time role reaches it.';
grant usage on schema sessions, sessions_private to safetypin_keeper, safetypin_definer;
