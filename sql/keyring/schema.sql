-- Purpose: keys and sealed values. Everything here belongs to safetypin_keeper.

create schema if not exists keyring;
comment on schema keyring is 'Sealed columns: what an application or a DBA calls.';
create schema if not exists keyring_private;
comment on schema keyring_private is 'Keys and cipher; keeper only. A key is opened from two halves: one here, one held by the application.';

grant usage on schema keyring, keyring_private to safetypin_keeper, safetypin_definer;
