-- Purpose: steps about sessions that the API's functions are made of; the definer's own.

grant create on schema sessions_private to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function sessions_private.end_session(session_id uuid, because text) returns boolean
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_session sessions.sessions;
begin
  update sessions.sessions s set ends_at = clock_timestamp(), ended_because = end_session.because
    where s.id = end_session.session_id and s.ends_at > clock_timestamp()
    returning s.* into v_session;
  if not found then
    return false;
  end if;
  perform audit_private.append('session.end', v_session.organization_id, v_session.person_id,
    jsonb_build_object('session', v_session.id, 'because', end_session.because));
  return true;
end $$;
comment on function sessions_private.end_session(uuid, text) is 'Ends a session now; false if it was over.';

create or replace function sessions_private.end_sessions(person_id uuid, because text, keep uuid default null) returns integer
  language sql volatile
  set search_path = pg_catalog, pg_temp
as $$
  select count(*) filter (where sessions_private.end_session(s.id, end_sessions.because))::integer
  from sessions.sessions s
  where s.person_id = end_sessions.person_id and s.ends_at > clock_timestamp()
    and s.id is distinct from end_sessions.keep
$$;
comment on function sessions_private.end_sessions(uuid, text, uuid) is 'Ends all sessions of a person but one; returns how many.';

create or replace function sessions_private.issue(session_id uuid, credential_hash bytea, refresh_hash bytea, out access_expires_at timestamptz)
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  select least(s.ends_at, clock_timestamp() + make_interval(secs => platform.limit_value('session.access_seconds')))
    into access_expires_at
    from sessions.sessions s where s.id = issue.session_id;
  insert into sessions_private.credentials (hash, session_id, issued_with, expires_at)
    values (issue.credential_hash, issue.session_id, issue.refresh_hash, issue.access_expires_at);
end $$;
comment on function sessions_private.issue(uuid, bytea, bytea) is 'Issues a credential for a session beside a refresh token, both given as SHA-256; returns its end.';

create or replace function sessions_private.hold_organization(organization_id uuid) returns void
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
begin
  perform from access_private.ownership o where o.organization_id = hold_organization.organization_id for share;
end $$;
comment on function sessions_private.hold_organization(uuid) is
  'Before a session comes into an organization: waits for the turns of those who change it, and they for this one. So a setting that shrinks, or a closing, meets the session, or the session meets it. 40001 in REPEATABLE READ.';

create or replace function sessions_private.latest_end(organization_id uuid, created_at timestamptz) returns timestamptz
  language plpgsql stable
  set search_path = pg_catalog, pg_temp
as $$
begin
  return (select least(o.closes_at, latest_end.created_at
      + make_interval(secs => access_private.setting_number(o.id, 'session.absolute_seconds')))
    from access.organizations o where o.id = latest_end.organization_id);
end $$;
comment on function sessions_private.latest_end(uuid, timestamptz) is
  'When a session that began then is over in an organization, at the latest; null without an organization.';

create or replace function sessions_private.start_session(
  person_id uuid, organization_id uuid, assurance integer, credential_hash bytea, refresh_hash bytea
) returns uuid
  language plpgsql volatile
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_id uuid := platform.uuid_v7();
begin
  -- One person's sign-ins take their turn here, so that the number of sessions holds in a race too.
  perform from identity.people p where p.id = start_session.person_id for no key update;
  perform sessions_private.hold_organization(start_session.organization_id);
  perform sessions_private.end_session(s.id, 'limit')
    from (select s.id from sessions.sessions s
          where s.person_id = start_session.person_id and s.ends_at > clock_timestamp()
          order by s.created_at desc
          offset platform.limit_value('session.parallel') - 1) s;
  insert into sessions.sessions (id, person_id, organization_id, assurance, ends_at)
    values (v_id, start_session.person_id, start_session.organization_id, start_session.assurance,
      clock_timestamp() + make_interval(secs => platform.limit_value('session.absolute_seconds')));
  insert into sessions_private.refresh_tokens (hash, session_id) values (start_session.refresh_hash, v_id);
  return v_id;
end $$;
comment on function sessions_private.start_session(uuid, uuid, integer, bytea, bytea) is
  'Starts a session and its family of refresh tokens; ends the oldest when the person has too many.';

create or replace function sessions_private.choose_organization(person_id uuid, wanted uuid) returns uuid
  language sql stable
  set search_path = pg_catalog, pg_temp
as $$
  -- The one that was asked for, else where the person was last, else the oldest membership.
  select m.organization_id
  from access.memberships m
  join access.organizations o on o.id = m.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
  left join lateral (
    select max(s.created_at) as at from sessions.sessions s
    where s.person_id = m.person_id and s.organization_id = m.organization_id) last on true
  where m.person_id = choose_organization.person_id
    and (choose_organization.wanted is null or m.organization_id = choose_organization.wanted)
  order by last.at desc nulls last, m.created_at
  limit 1
$$;
comment on function sessions_private.choose_organization(uuid, uuid) is 'Active organization of a new session; null if there is none, or the wanted one is not the person''s.';

reset role;
reset row_security;
revoke create on schema sessions_private from safetypin_definer;
