-- Purpose: whatever takes the ground from under a session ends it, in the same transaction, whichever function did it.

grant create on schema sessions_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function sessions_private.tg_people__end_sessions() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  if new.status <> 'active' and old.status = 'active' then
    perform sessions_private.end_sessions(new.id, 'person');
  end if;
  return null;
end $$;
comment on function sessions_private.tg_people__end_sessions() is 'A person is not active any more: all sessions end.';

create or replace function sessions_private.tg_memberships__end_sessions() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  perform sessions_private.end_session(s.id, 'membership')
    from sessions.sessions s
    where s.person_id = old.person_id and s.organization_id = old.organization_id;
  return null;
end $$;
comment on function sessions_private.tg_memberships__end_sessions() is 'A membership ended: the person''s sessions in that organization end.';

create or replace function sessions_private.tg_organizations__end_sessions() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  if new.status <> 'active' and old.status = 'active' then
    perform sessions_private.end_session(s.id, 'organization')
      from sessions.sessions s
      where s.organization_id = new.id;
  end if;
  -- Over by the clock, in an open transaction too, without anybody asking the organization at each statement.
  if new.closes_at < old.closes_at then
    update sessions.sessions s set ends_at = new.closes_at
      where s.organization_id = new.id and s.ends_at > new.closes_at;
  end if;
  return null;
end $$;
comment on function sessions_private.tg_organizations__end_sessions() is 'An organization is not active any more: the sessions in it end. It is going to close: they end with it.';

create or replace function sessions_private.tg_sessions__cap() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
begin
  -- An end in the past stays what it is, and an earlier one than before is never too late.
  if new.organization_id is not null and new.ends_at > clock_timestamp()
    and (tg_op = 'INSERT' or new.organization_id is distinct from old.organization_id or new.ends_at > old.ends_at)
  then
    new.ends_at := least(new.ends_at, sessions_private.latest_end(new.organization_id, new.created_at));
  end if;
  return new;
end $$;
comment on function sessions_private.tg_sessions__cap() is
  'No session in an organization lasts longer than its setting session.absolute_seconds says, nor than the organization.';

create or replace function sessions_private.tg_settings__cap_sessions() returns trigger
  language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  set row_security = on
as $$
declare
  v_setting access.settings := case when tg_op = 'DELETE' then old else new end;
  v_most interval;
begin
  if v_setting.name = 'session.absolute_seconds' then
    v_most := make_interval(secs => access_private.setting_number(v_setting.organization_id, v_setting.name));
    update sessions.sessions s set ends_at = s.created_at + v_most
      where s.organization_id = v_setting.organization_id and s.ends_at > clock_timestamp() and s.ends_at > s.created_at + v_most;
  end if;
  return null;
end $$;
comment on function sessions_private.tg_settings__cap_sessions() is
  'A shorter session.absolute_seconds counts for the sessions that live, too. A longer one gives nothing back to them.';

grant execute on function sessions_private.tg_people__end_sessions(), sessions_private.tg_memberships__end_sessions(),
  sessions_private.tg_organizations__end_sessions(), sessions_private.tg_sessions__cap(),
  sessions_private.tg_settings__cap_sessions() to safetypin_owner;
reset role;
reset row_security;
revoke create on schema sessions_private from safetypin_definer;

create or replace trigger _500_end_sessions after update of status on identity.people
  for each row execute function sessions_private.tg_people__end_sessions();
create or replace trigger _510_end_sessions after delete on access.memberships
  for each row execute function sessions_private.tg_memberships__end_sessions();
create or replace trigger _500_end_sessions after update of status, closes_at on access.organizations
  for each row execute function sessions_private.tg_organizations__end_sessions();
create or replace trigger _200_cap before insert or update of organization_id, ends_at on sessions.sessions
  for each row execute function sessions_private.tg_sessions__cap();
alter table sessions.sessions enable always trigger _200_cap;
create or replace trigger _500_cap_sessions after insert or update or delete on access.settings
  for each row execute function sessions_private.tg_settings__cap_sessions();
