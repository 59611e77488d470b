-- Purpose: service accounts and API keys: what programs ask with. A key never has more than its own permissions, and
-- never more than whose key it is: a person as long as she is a member, or a service account of the organization.

create table if not exists access.service_accounts (
  organization_id uuid not null constraint service_accounts_organization_exists references access.organizations (id) on delete cascade,
  id uuid not null default platform.uuid_v7(),
  name text not null constraint service_accounts_name_length check (length(name) between 1 and 100),
  description text not null default '' constraint service_accounts_description_length check (length(description) <= 1000),
  status text not null default 'active' constraint service_accounts_status_known check (status in ('active', 'removed')),
  permissions text[] not null,
  created_by uuid constraint service_accounts_creator_exists references identity.people (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  constraint service_accounts_pkey primary key (organization_id, id)
);
create unique index if not exists service_accounts_name_unique on access.service_accounts (organization_id, name)
  where status = 'active';
create index if not exists service_accounts_created_by_idx on access.service_accounts (created_by);
alter table access.service_accounts enable row level security, force row level security;
comment on table access.service_accounts is 'Programs that act in an organization in their own name. They belong to the organization: they stay when whoever made them leaves.';
comment on column access.service_accounts.organization_id is 'Organization.';
comment on column access.service_accounts.id is 'UUID version 7.';
comment on column access.service_accounts.name is 'Name, unique among those that are active.';
comment on column access.service_accounts.description is 'What it is for, for people.';
comment on column access.service_accounts.status is 'active, or removed: then none of its keys opens anything.';
comment on column access.service_accounts.permissions is 'What it may do at most. Whoever made it held all of it, without an end.';
comment on column access.service_accounts.created_by is 'Who made it; null once that person is gone.';
comment on column access.service_accounts.created_at is 'When it was made.';

create table if not exists access.api_keys (
  organization_id uuid not null constraint api_keys_organization_exists references access.organizations (id) on delete cascade,
  id uuid not null default platform.uuid_v7(),
  name text not null constraint api_keys_name_length check (length(name) between 1 and 100),
  person_id uuid,
  service_account_id uuid,
  permissions text[] not null,
  prefix text not null constraint api_keys_prefix_form check (prefix ~ '^sp_[A-Za-z0-9_-]{9}$'),
  expires_at timestamptz not null,
  revoked_at timestamptz,
  rotated_at timestamptz,
  created_by uuid constraint api_keys_creator_exists references identity.people (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  constraint api_keys_pkey primary key (organization_id, id),
  -- Leaving takes the keys along: joining again does not bring them back.
  constraint api_keys_member_exists foreign key (organization_id, person_id)
    references access.memberships (organization_id, person_id) on delete cascade,
  constraint api_keys_service_account_exists foreign key (organization_id, service_account_id)
    references access.service_accounts (organization_id, id) on delete cascade,
  constraint api_keys_one_owner check ((person_id is null) <> (service_account_id is null))
);
create index if not exists api_keys_person_idx on access.api_keys (organization_id, person_id);
create index if not exists api_keys_service_account_idx on access.api_keys (organization_id, service_account_id);
create index if not exists api_keys_created_by_idx on access.api_keys (created_by);
alter table access.api_keys enable row level security, force row level security;
comment on table access.api_keys is 'API keys: personal ones, of a member, and those of service accounts. What a key may do is what it and its owner both may.';
comment on column access.api_keys.organization_id is 'Organization that it acts in.';
comment on column access.api_keys.id is 'UUID version 7; not a secret.';
comment on column access.api_keys.name is 'What it is for, for people.';
comment on column access.api_keys.person_id is 'Member whose key it is; null for the key of a service account.';
comment on column access.api_keys.service_account_id is 'Service account whose key it is; null for a personal key.';
comment on column access.api_keys.permissions is 'What it may do at most.';
comment on column access.api_keys.prefix is 'How its newest secret begins, to recognize it by.';
comment on column access.api_keys.expires_at is 'When it ends; no job has to run for that.';
comment on column access.api_keys.revoked_at is 'When it was ended before its time; null if it was not.';
comment on column access.api_keys.rotated_at is 'When it got its newest secret; null if that is its first.';
comment on column access.api_keys.created_by is 'Who made it; null once that person is gone.';
comment on column access.api_keys.created_at is 'When it was made.';

create table if not exists access_private.api_key_secrets (
  hash bytea constraint api_key_secrets_pkey primary key constraint api_key_secrets_hash_length check (length(hash) = 32),
  organization_id uuid not null,
  key_id uuid not null,
  expires_at timestamptz not null default 'infinity',
  created_at timestamptz not null default clock_timestamp(),
  constraint api_key_secrets_key_exists foreign key (organization_id, key_id)
    references access.api_keys (organization_id, id) on delete cascade
);
create index if not exists api_key_secrets_key_idx on access_private.api_key_secrets (organization_id, key_id);
alter table access_private.api_key_secrets enable row level security, force row level security;
comment on table access_private.api_key_secrets is 'What opens a request with an API key: 256 random bits behind a byte for the kind, kept as SHA-256. Two while a rotation overlaps.';
comment on column access_private.api_key_secrets.hash is 'SHA-256 of the 33 bytes.';
comment on column access_private.api_key_secrets.organization_id is 'Organization.';
comment on column access_private.api_key_secrets.key_id is 'API key.';
comment on column access_private.api_key_secrets.expires_at is 'End of a secret that another one replaced.';
comment on column access_private.api_key_secrets.created_at is 'When it was made.';

create table if not exists access.api_key_use (
  organization_id uuid not null,
  key_id uuid not null,
  person_id uuid,
  last_used_at timestamptz not null,
  constraint api_key_use_pkey primary key (organization_id, key_id),
  constraint api_key_use_key_exists foreign key (organization_id, key_id)
    references access.api_keys (organization_id, id) on delete cascade
) with (fillfactor = 70);
alter table access.api_key_use enable row level security, force row level security;
comment on table access.api_key_use is 'Last use of API keys, written in batches, apart from the key so that use never waits for a revocation or the other way round.';
comment on column access.api_key_use.organization_id is 'Organization.';
comment on column access.api_key_use.key_id is 'API key.';
comment on column access.api_key_use.person_id is 'Member whose key it is; null for the key of a service account.';
comment on column access.api_key_use.last_used_at is 'Last use, to about a minute.';

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.valid_label(name text) returns boolean
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select access_private.valid_name(name) and length(btrim(name)) <= 100
$$;
comment on function access_private.valid_label(text) is 'Whether a text can be the name of an API key or a service account.';

create or replace function access_private.scope_reasons(permissions text[]) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select case
    when coalesce(cardinality(scope_reasons.permissions), 0) not between 1 and 1000 then '{VALUE_INVALID}'::text[]
    when exists (
      select from unnest(scope_reasons.permissions) as u (name)
        where not exists (select from access.permissions p where p.name = u.name)) then '{PERMISSION_UNKNOWN}'
    else '{}' end
$$;
comment on function access_private.scope_reasons(text[]) is 'Why these cannot be permissions of a key; empty if they can.';

create or replace function access_private.key_holds(api_key access.api_keys) returns text[]
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select array(
    select distinct u.name from unnest(key_holds.api_key.permissions) as u (name)
      where exists (
          select from access_private.held_permissions h
            where h.organization_id = key_holds.api_key.organization_id and h.person_id = key_holds.api_key.person_id
              and h.permission = u.name and h.valid @> clock_timestamp())
        or exists (
          select from access.service_accounts s
            where s.organization_id = key_holds.api_key.organization_id and s.id = key_holds.api_key.service_account_id
              and s.status = 'active' and u.name = any (s.permissions))
      order by u.name)
$$;
comment on function access_private.key_holds(access.api_keys) is 'Which of its permissions a key has now, by whose it is. Whether the key itself still stands is another question.';

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;
