-- Purpose: the key tree. Roots (the database's half) → key-encryption key, never stored → data keys, one per person or
-- organization, and index keys, one per column. The other half is the application's, and comes sealed with a request.
-- Wrapped keys have no foreign key to people: they are backed up apart from the data and die apart from it.

grant create on schema keyring_private, keyring to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create table if not exists keyring_private.seal_keys (
  purpose text constraint seal_keys_pkey primary key,
  inner_pad bytea not null constraint seal_keys_inner_pad_length check (length(inner_pad) = 64),
  outer_pad bytea not null constraint seal_keys_outer_pad_length check (length(outer_pad) = 64)
);
alter table keyring_private.seal_keys enable row level security, force row level security;
comment on table keyring_private.seal_keys is 'HMAC-SHA-256 keys of this database, kept as the two padded blocks of RFC 2104.';
comment on column keyring_private.seal_keys.purpose is 'request: seals contexts. guess: guesses of attempts at rest. value: stamps of values in other tables. export: signs files of keys.';
comment on column keyring_private.seal_keys.inner_pad is 'Key xor 0x36.';
comment on column keyring_private.seal_keys.outer_pad is 'Key xor 0x5c.';

create table if not exists keyring_private.roots (
  version integer constraint roots_pkey primary key,
  half bytea not null constraint roots_half_length check (length(half) = 32),
  check_value bytea,
  created_at timestamptz not null default clock_timestamp(),
  application_id bytea constraint roots_application_id_length check (length(application_id) = 8)
);
alter table keyring_private.roots enable row level security, force row level security;
comment on table keyring_private.roots is 'The database''s half of the key-encryption key. Useless without the application''s half.';
comment on column keyring_private.roots.version is 'Grows with each rotation; the highest is in use.';
comment on column keyring_private.roots.half is '32 random bytes.';
comment on column keyring_private.roots.check_value is 'HMAC under the key-encryption key: tells whether an application holds the right half. Null until the first one came.';
comment on column keyring_private.roots.created_at is 'When the half was made.';
comment on column keyring_private.roots.application_id is 'Which half of the application''s it is bound to, see half_id(). Null until the first one came.';

create table if not exists keyring_private.data_keys (
  id uuid constraint data_keys_pkey primary key default platform.uuid_v7(),
  subject uuid not null,
  root_version integer not null constraint data_keys_root_exists references keyring_private.roots (version) on delete restrict,
  wrapped bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  retired_at timestamptz
);
create unique index if not exists data_keys_current_unique on keyring_private.data_keys (subject) where retired_at is null;
create index if not exists data_keys_retired_idx on keyring_private.data_keys (subject) where retired_at is not null;
create index if not exists data_keys_root_version_idx on keyring_private.data_keys (root_version);
alter table keyring_private.data_keys enable row level security, force row level security;
comment on table keyring_private.data_keys is 'Data keys of people, organizations and registrations, wrapped: one current for each, and those it had before. Deleting all of a subject erases all that was sealed for it.';
comment on column keyring_private.data_keys.id is 'Key id, part of the associated data of each value.';
comment on column keyring_private.data_keys.subject is 'Whose key it is; not a foreign key.';
comment on column keyring_private.data_keys.root_version is 'Root whose key-encryption key wraps it.';
comment on column keyring_private.data_keys.wrapped is 'IV, ciphertext and tag of the 64-byte key (A256CBC-HS512).';
comment on column keyring_private.data_keys.created_at is 'When the key was made.';
comment on column keyring_private.data_keys.retired_at is 'When another took its place: it opens what it sealed and seals no more. Null for the current one.';

create table if not exists keyring_private.index_keys (
  column_id uuid not null,
  slot text not null default 'a' constraint index_keys_slot_known check (slot in ('a', 'b')),
  root_version integer not null constraint index_keys_root_exists references keyring_private.roots (version) on delete restrict,
  wrapped bytea not null,
  created_at timestamptz not null default clock_timestamp(),
  constraint index_keys_pkey primary key (column_id, slot)
);
create index if not exists index_keys_root_version_idx on keyring_private.index_keys (root_version);
alter table keyring_private.index_keys enable row level security, force row level security;
comment on table keyring_private.index_keys is 'Keys of the blind indexes of sealed columns, wrapped. Two while one is replaced.';
comment on column keyring_private.index_keys.column_id is 'The sealed column.';
comment on column keyring_private.index_keys.slot is 'Which of the two index columns of a door it fills. SafetyPin''s own columns have a alone.';
comment on column keyring_private.index_keys.root_version is 'Root whose key-encryption key wraps it.';
comment on column keyring_private.index_keys.wrapped is 'IV, ciphertext and tag of the 64-byte key.';
comment on column keyring_private.index_keys.created_at is 'When the key was made.';

create table if not exists keyring_private.sealed_columns (
  id uuid constraint sealed_columns_pkey primary key default platform.uuid_v7(),
  name text constraint sealed_columns_name_unique unique,
  class text not null default 'personal' constraint sealed_columns_class_known check (class in ('personal', 'secret', 'sensitive')),
  created_at timestamptz not null default clock_timestamp(),
  relation regclass,
  tenant boolean not null default true,
  type text not null default 'text',
  permission text,
  write_permission text,
  required boolean not null default false,
  indexed boolean not null default false,
  format text,
  lookup text not null default 'exact' constraint sealed_columns_lookup_known check (lookup in ('exact', 'lower', 'alphanumeric')),
  refusal text not null default 'null' constraint sealed_columns_refusal_known check (refusal in ('null', 'error')),
  keep_on_null boolean not null default false,
  state text not null default 'sealed' constraint sealed_columns_state_known check (state in ('sealing', 'sealed', 'unsealing')),
  reseals text,
  constraint sealed_columns_name_or_relation check (num_nonnulls(name, relation) = 1)
);
create index if not exists sealed_columns_relation_idx on keyring_private.sealed_columns (relation);
alter table keyring_private.sealed_columns enable row level security, force row level security;
comment on table keyring_private.sealed_columns is 'Columns whose values are sealed: SafetyPin''s own, by name, and the doors of other tables, by table.';
comment on column keyring_private.sealed_columns.id is 'Given once; stands in the associated data, so that renaming leaves values readable.';
comment on column keyring_private.sealed_columns.name is 'What functions call one of our own by; null for a door.';
comment on column keyring_private.sealed_columns.class is 'personal: read by whoever may read the row. secret: never leaves the database. sensitive: each reading is recorded.';
comment on column keyring_private.sealed_columns.created_at is 'When the column was sealed.';
comment on column keyring_private.sealed_columns.relation is 'Table of a door; which of its columns play which part stands in the triggers: see doors.sql.';
comment on column keyring_private.sealed_columns.tenant is 'Whether each row belongs to an organization, which its value is bound to.';
comment on column keyring_private.sealed_columns.type is 'Type of the values, as format_type() writes it.';
comment on column keyring_private.sealed_columns.permission is 'What opening demands beside the row; null for nothing.';
comment on column keyring_private.sealed_columns.write_permission is 'What writing demands beside the right to write the row; null for nothing.';
comment on column keyring_private.sealed_columns.required is 'Refuses null, as NOT NULL would.';
comment on column keyring_private.sealed_columns.indexed is 'Has a blind index: can be found, or is unique.';
comment on column keyring_private.sealed_columns.format is 'Regular expression that a value must match; null for none.';
comment on column keyring_private.sealed_columns.lookup is 'What counts as equal: exact; lower: whatever the case; alphanumeric: letters and digits alone, whatever the case.';
comment on column keyring_private.sealed_columns.refusal is 'What one gets who may not open: null, or the error DENYD.';
comment on column keyring_private.sealed_columns.keep_on_null is 'An explicit null in an update changes nothing, for clients that write back all columns.';
comment on column keyring_private.sealed_columns.reseals is 'Of our own: function (batch, after) that seals its values anew under their current keys. Null where nothing is ever changed.';
comment on column keyring_private.sealed_columns.state is 'sealing, unsealing: a job goes through the rows.';

-- Unlogged: never in WAL, a replica or a base backup, so that an envelope in an old log line stays shut for ever.
create unlogged table if not exists keyring_private.transport_keys (
  id uuid constraint transport_keys_pkey primary key default platform.uuid_v7(),
  key bytea not null constraint transport_keys_key_length check (length(key) = 64),
  created_at timestamptz not null default clock_timestamp(),
  retired_at timestamptz,
  behind_at timestamptz
);
alter table keyring_private.transport_keys enable row level security, force row level security;
comment on table keyring_private.transport_keys is 'Keys that seal the application''s half on its way into a request; replaced daily and deleted.';
comment on column keyring_private.transport_keys.id is 'Named in each envelope.';
comment on column keyring_private.transport_keys.key is '64 bytes for A256CBC-HS512.';
comment on column keyring_private.transport_keys.created_at is 'When the key was made.';
comment on column keyring_private.transport_keys.retired_at is 'When it was taken back before its time: no request opens with it any more, and what was on its way is good for its minute.';
comment on column keyring_private.transport_keys.behind_at is 'When a process asked last that did not hold the next half of the application''s, while that is being replaced.';

-- Each of the keeper's tables is for the keeper alone.
do $$
declare
  v_table text;
begin
  foreach v_table in array array['seal_keys', 'roots', 'data_keys', 'index_keys', 'sealed_columns', 'transport_keys'] loop
    execute format('drop policy if exists keeper_select on keyring_private.%I', v_table);
    execute format('create policy keeper_select on keyring_private.%I for select to safetypin_keeper using (true)', v_table);
    execute format('drop policy if exists keeper_insert on keyring_private.%I', v_table);
    execute format('create policy keeper_insert on keyring_private.%I for insert to safetypin_keeper with check (true)', v_table);
    execute format('drop policy if exists keeper_update on keyring_private.%I', v_table);
    execute format('create policy keeper_update on keyring_private.%I for update to safetypin_keeper using (true) with check (true)', v_table);
    execute format('drop policy if exists keeper_delete on keyring_private.%I', v_table);
    execute format('create policy keeper_delete on keyring_private.%I for delete to safetypin_keeper using (true)', v_table);
  end loop;
end $$;

reset role;
reset row_security;
revoke create on schema keyring_private, keyring from safetypin_keeper;
