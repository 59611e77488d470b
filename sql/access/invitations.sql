-- Purpose: invitations: whom somebody asked to join, as what, and until when that holds. The address is sealed under the
-- organization, apart; the token is made when the mail is written (identity.compose_mail) and kept as its hash.

create table if not exists access.invitations (
  organization_id uuid not null constraint invitations_organization_exists references access.organizations (id) on delete cascade,
  id uuid not null default platform.uuid_v7(),
  role_id uuid,
  role_valid_until timestamptz not null default 'infinity',
  status text not null default 'open' constraint invitations_status_known check (status in ('open', 'accepted', 'revoked')),
  invited_by uuid constraint invitations_inviter_exists references identity.people (id) on delete set null,
  accepted_by uuid constraint invitations_accepter_exists references identity.people (id) on delete set null,
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz not null,
  ended_at timestamptz,
  constraint invitations_pkey primary key (organization_id, id),
  constraint invitations_role_exists foreign key (organization_id, role_id)
    references access.roles (organization_id, id) on delete set null (role_id),
  constraint invitations_end_is_known check ((status = 'open') = (ended_at is null))
);
create index if not exists invitations_created_at_idx on access.invitations (organization_id, created_at);
create index if not exists invitations_role_idx on access.invitations (organization_id, role_id);
create index if not exists invitations_invited_by_idx on access.invitations (invited_by);
create index if not exists invitations_accepted_by_idx on access.invitations (accepted_by);
alter table access.invitations enable row level security, force row level security;
comment on table access.invitations is 'Who was asked to join an organization, and what became of it.';
comment on column access.invitations.organization_id is 'Organization.';
comment on column access.invitations.id is 'UUID version 7; not the token, which stands in the mail alone.';
comment on column access.invitations.role_id is 'Role that whoever accepts gets; null once that role is gone, and then nobody can accept.';
comment on column access.invitations.role_valid_until is 'Until when they hold that role.';
comment on column access.invitations.status is 'open, accepted or revoked. One that ran out stays open: see expiresAt.';
comment on column access.invitations.invited_by is 'Who invited, or sent it again. It is void when they could not invite to that role any more.';
comment on column access.invitations.accepted_by is 'Who accepted; null until then, and once that person is gone.';
comment on column access.invitations.created_at is 'When it was made.';
comment on column access.invitations.expires_at is 'Nobody can accept it from then on.';
comment on column access.invitations.ended_at is 'When it was accepted or revoked; null while it is open.';

create table if not exists access_private.invitation_addresses (
  organization_id uuid not null,
  invitation_id uuid not null,
  address bytea not null,
  lookup bytea not null,
  constraint invitation_addresses_pkey primary key (organization_id, invitation_id),
  constraint invitation_addresses_invitation_exists foreign key (organization_id, invitation_id)
    references access.invitations (organization_id, id) on delete cascade
);
create index if not exists invitation_addresses_lookup_idx on access_private.invitation_addresses (lookup, organization_id);
alter table access_private.invitation_addresses enable row level security, force row level security;
comment on table access_private.invitation_addresses is 'Sealed parts of an invitation.';
comment on column access_private.invitation_addresses.organization_id is 'Organization, whose key seals the address.';
comment on column access_private.invitation_addresses.invitation_id is 'Invitation.';
comment on column access_private.invitation_addresses.address is 'Sealed: access.invitations.address.';
comment on column access_private.invitation_addresses.lookup is 'Blind index of the address, as in identity_private.emails.';

-- The owner has no policy on these tables: with row_security off the check of rows that cannot be there yet would fail.
set local row_security = on;
do $$
begin
  if not exists (select from pg_constraint c where c.conname = 'tokens_invitation_exists') then
    alter table identity_private.tokens add constraint tokens_invitation_exists
      foreign key (organization_id, invitation_id) references access.invitations (organization_id, id) on delete cascade;
    alter table identity_private.mails add constraint mails_invitation_exists
      foreign key (organization_id, invitation_id) references access.invitations (organization_id, id) on delete cascade;
  end if;
end $$;
reset row_security;

grant create on schema access_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access_private.ask_for_invitation_mail(kind text, organization_id uuid, invitation_id uuid, asked_by uuid default null) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
begin
  insert into identity_private.mails (kind, lookup, organization_id, invitation_id, asked_by)
    select ask_for_invitation_mail.kind, a.lookup, a.organization_id, a.invitation_id, ask_for_invitation_mail.asked_by
      from access_private.invitation_addresses a
      where a.organization_id = ask_for_invitation_mail.organization_id and a.invitation_id = ask_for_invitation_mail.invitation_id
    returning id into strict v_id;
  perform platform.enqueue('mail__send', json_build_object('id', v_id));
end $$;
comment on function access_private.ask_for_invitation_mail(text, uuid, uuid, uuid) is
  'Puts a mail to the address of an invitation into the outbox, with its job, in this transaction.';

create or replace function access_private.invitation_mail(
  organization_id uuid, invitation_id uuid, out recipient text, out locale text, out organization text, out expires_at timestamptz
)
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  select keyring_private.open('access.invitations.address', a.organization_id, a.invitation_id, a.address),
      coalesce(p.locale, 'en'), o.name, i.expires_at
    from access.invitations i
    join access_private.invitation_addresses a on a.organization_id = i.organization_id and a.invitation_id = i.id
    join access.organizations o on o.id = i.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
    -- In the language of whoever invites: that of the invited address, if it has an account, is nobody's to tell.
    left join identity.people p on p.id = i.invited_by
    where i.organization_id = invitation_mail.organization_id and i.id = invitation_mail.invitation_id
      and i.status = 'open' and i.expires_at > clock_timestamp()
$$;
comment on function access_private.invitation_mail(uuid, uuid) is
  'What identity.compose_mail() writes to the address of an invitation; nulls if nobody can accept it any more.';

create or replace function access_private.revoke_invitations(organization_id uuid, ids uuid[]) returns integer
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid;
  v_count integer := 0;
begin
  for v_id in
    update access.invitations i set status = 'revoked', ended_at = clock_timestamp()
      where i.organization_id = revoke_invitations.organization_id and i.id = any (ids) and i.status = 'open'
      returning i.id
  loop
    perform audit_private.append('invitation.revoke', revoke_invitations.organization_id, details => jsonb_build_object('invitation', v_id));
    v_count := v_count + 1;
  end loop;
  update identity_private.tokens t set consumed_at = clock_timestamp()
    where t.organization_id = revoke_invitations.organization_id and t.invitation_id = any (ids) and t.consumed_at is null;
  return v_count;
end $$;
comment on function access_private.revoke_invitations(uuid, uuid[]) is
  'Takes open invitations back, and their tokens; returns how many. Whoever calls it has taken their turn.';

create or replace function access_private.reseal_invitations(batch integer, inout after uuid, out rows_done integer)
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_after uuid := after;
begin
  with held as materialized (
      select x.organization_id, x.invitation_id as id from access_private.invitation_addresses x
        where (v_after is null or x.invitation_id > v_after) and keyring.is_stale(x.address)
        order by x.invitation_id limit batch for no key update skip locked),
    done as (
      update access_private.invitation_addresses x
        set address = keyring_private.reseal('access.invitations.address', x.invitation_id, x.organization_id, x.address, x.organization_id)
        from held h where x.organization_id = h.organization_id and x.invitation_id = h.id)
    select count(*), max(h.id::text)::uuid into rows_done, after from held h;
  if after is null and exists (select from access_private.invitation_addresses x where keyring.is_stale(x.address)) then
    rows_done := null;
  end if;
end $$;
comment on function access_private.reseal_invitations(integer, uuid) is
  'Seals a batch of addresses of invitations anew, when data keys were replaced: see identity/reseal.sql.';
grant execute on function access_private.reseal_invitations(integer, uuid) to safetypin_keeper;

reset role;
reset row_security;
revoke create on schema access_private from safetypin_definer;

grant create on schema access to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function access.clean_up(batch integer) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_over constant timestamptz := clock_timestamp() - make_interval(secs => platform.limit_value('keep.invitation_seconds'));
  v_keys_over constant timestamptz := clock_timestamp() - make_interval(secs => platform.limit_value('keep.api_key_seconds'));
  v_count integer;
  v_total integer := 0;
begin
  if request.task() is distinct from 'access__clean_up' then
    raise exception 'only the job of this name may do this' using errcode = 'DENYD';
  end if;
  -- Its mails and tokens go before it, by identity.clean_up(): a cascade would wait for rows that are in use.
  delete from access.invitations i
    using (select o.organization_id, o.id from access.invitations o
           where least(o.ended_at, o.expires_at) < v_over
             and not exists (select from identity_private.tokens t where t.organization_id = o.organization_id and t.invitation_id = o.id)
             and not exists (select from identity_private.mails m where m.organization_id = o.organization_id and m.invitation_id = o.id)
           limit least(greatest(batch, 1), 10000) for update skip locked) old
    where i.organization_id = old.organization_id and i.id = old.id;
  get diagnostics v_count = row_count;
  v_total := v_total + v_count;
  delete from access.api_keys k
    using (select o.organization_id, o.id from access.api_keys o
           where least(o.revoked_at, o.expires_at) < v_keys_over
           limit least(greatest(batch, 1), 10000) for update skip locked) old
    where k.organization_id = old.organization_id and k.id = old.id;
  get diagnostics v_count = row_count;
  return v_total + v_count;
end $$;
comment on function access.clean_up(integer) is
  'Task access__clean_up: removes a batch of invitations that are over, with their addresses, and of API keys that ended long ago; returns how many. DENYD outside it.';

reset role;
reset row_security;
revoke create on schema access from safetypin_definer;
