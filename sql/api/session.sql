-- Purpose: staying signed in, switching, and ending sessions.

grant create on schema api, api_steps to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function api_steps.note_first_use(credential bytea) returns void
  language sql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
  update sessions_private.credentials c set first_used_at = clock_timestamp()
    where c.hash = sha256(note_first_use.credential) and c.first_used_at is null
$$;
comment on function api_steps.note_first_use(bytea) is 'Notes that a credential was used; called when a process sees it for the first time.';

create or replace function api_steps.refresh_session(refresh_token bytea, successor_hash bytea, credential_hash bytea) returns api_steps.sign_in_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- The successor is derived from the presented token (by HMAC, in TypeScript), so that a lost answer can be given again
-- without having been stored.
declare
  v_hash bytea := sha256(refresh_session.refresh_token);
  v_token sessions_private.refresh_tokens;
  v_session sessions.sessions;
  v_result api_steps.sign_in_result;
begin
  v_result.outcome := 'REFUSED';
  -- All refreshes of one session take their turn, so that parallel ones get one successor.
  select s.* into v_session
    from sessions.sessions s
    where s.id = (select t.session_id from sessions_private.refresh_tokens t where t.hash = v_hash)
    for no key update;
  if not found or v_session.ends_at <= clock_timestamp()
    or not exists (select from identity.people p where p.id = v_session.person_id and p.status = 'active')
    or greatest(v_session.created_at, (select a.last_used_at from sessions.activity a where a.session_id = v_session.id))
       <= clock_timestamp() - make_interval(secs => platform.limit_value('session.idle_seconds')) then
    perform audit_private.append('access.refuse', v_session.organization_id, v_session.person_id, '{"what": "refresh"}');
    return v_result;
  end if;
  select t.* into v_token from sessions_private.refresh_tokens t where t.hash = v_hash;
  if not found then
    -- The session was switched to another organization while this call waited for it: its old tokens are gone.
    perform audit_private.append('access.refuse', v_session.organization_id, v_session.person_id, '{"what": "refresh"}');
    return v_result;
  end if;
  if v_token.rotated_at is null then
    update sessions_private.refresh_tokens t set rotated_at = clock_timestamp(), successor = refresh_session.successor_hash
      where t.hash = v_hash;
    insert into sessions_private.refresh_tokens (hash, session_id) values (refresh_session.successor_hash, v_session.id);
    perform audit_private.append('token.refresh', v_session.organization_id, v_session.person_id, jsonb_build_object('session', v_session.id));
  elsif v_token.successor is distinct from refresh_session.successor_hash
    or exists (select from sessions_private.refresh_tokens t where t.hash = v_token.successor and t.rotated_at is not null)
    or exists (select from sessions_private.credentials c where c.issued_with = v_token.successor and c.first_used_at is not null) then
    -- The successor is in use already: whoever presents this token is not who holds that one.
    perform audit_private.append('token.replay', v_session.organization_id, v_session.person_id,
      jsonb_build_object('session', v_session.id), origin_subject => v_session.person_id);
    perform sessions_private.end_session(v_session.id, 'replay');
    return v_result;
  end if;
  v_result.access_expires_at := sessions_private.issue(v_session.id, refresh_session.credential_hash, refresh_session.successor_hash);
  -- A refresh is a use: what it gives is not refused as idle a moment later.
  insert into sessions.activity as a (session_id, last_used_at) values (v_session.id, clock_timestamp())
    on conflict on constraint activity_pkey do update set last_used_at = greatest(a.last_used_at, excluded.last_used_at);
  v_result.outcome := 'SIGNED_IN';
  v_result.session_id := v_session.id;
  v_result.person_id := v_session.person_id;
  v_result.organization_id := v_session.organization_id;
  v_result.assurance := v_session.assurance;
  v_result.authenticated_at := v_session.authenticated_at;
  v_result.expires_at := v_session.ends_at;
  return v_result;
end $$;
comment on function api_steps.refresh_session(bytea, bytea, bytea) is
  'Exchanges a refresh token for its successor: the same one again while neither it nor an access token issued with it was used (RFC 9700 4.14.2); anything older ends the session.';

create or replace function api_steps.switch_organization(organization_id uuid, credential_hash bytea, refresh_hash bytea) returns api_steps.sign_in_result
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_person uuid := request.user_id();
  v_session uuid := request.session_id();
  v_organization uuid;
  v_result api_steps.sign_in_result;
begin
  v_result.outcome := 'REFUSED';
  if v_person is null or v_session is null then
    raise exception 'nobody is signed in' using errcode = 'AUTHN';
  end if;
  v_organization := sessions_private.choose_organization(v_person, switch_organization.organization_id);
  perform sessions_private.hold_organization(v_organization);
  -- Not hers, or her session is older than sessions may be there.
  if v_organization is null or switch_organization.organization_id is null or not exists (
      select from sessions.sessions s where s.id = v_session
        and sessions_private.latest_end(v_organization, s.created_at) > clock_timestamp()) then
    perform audit_private.append('access.refuse', details => '{"what": "switch"}');
    return v_result;
  end if;
  -- Old tokens stop working: they speak for the other organization.
  update sessions.sessions s set organization_id = v_organization
    where s.id = v_session and s.ends_at > clock_timestamp();
  if not found then
    -- Ended while this call waited for it.
    perform audit_private.append('access.refuse', details => '{"what": "switch"}');
    return v_result;
  end if;
  perform audit_private.append('session.switch', v_organization);
  delete from sessions_private.credentials c where c.session_id = v_session;
  delete from sessions_private.refresh_tokens t where t.session_id = v_session;
  insert into sessions_private.refresh_tokens (hash, session_id) values (switch_organization.refresh_hash, v_session);
  v_result.access_expires_at := sessions_private.issue(v_session, switch_organization.credential_hash, switch_organization.refresh_hash);
  select 'SIGNED_IN', s.id, s.person_id, s.organization_id, s.assurance, s.authenticated_at, s.ends_at
    into v_result.outcome, v_result.session_id, v_result.person_id, v_result.organization_id, v_result.assurance,
      v_result.authenticated_at, v_result.expires_at
    from sessions.sessions s where s.id = v_session;
  return v_result;
end $$;
comment on function api_steps.switch_organization(uuid, bytea, bytea) is 'Makes another organization of the person the active one, under new tokens; REFUSED if it is not hers. AUTHN for nobody.';

create or replace function api.logout() returns api.ended_outcome
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.session_id() is null or not sessions_private.end_session(request.session_id(), 'logout') then
    return 'REFUSED';
  end if;
  return 'ENDED';
end $$;
comment on function api.logout() is 'Ends this session, its access tokens and its refresh token.';

create or replace function api.revoke_session(session_id uuid) returns api.ended_outcome
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if not exists (select from sessions.sessions s where s.id = revoke_session.session_id and s.person_id = request.signed_in_id())
    or not sessions_private.end_session(revoke_session.session_id, 'revoked') then
    perform audit_private.append('access.refuse', details => '{"what": "revoke session"}');
    return 'REFUSED';
  end if;
  return 'ENDED';
end $$;
comment on function api.revoke_session(uuid) is 'Ends a session of one''s own; its next statement is refused.';

create or replace function api.revoke_other_sessions() returns api.ended_outcome
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.session_id() is null then
    return 'REFUSED';
  end if;
  perform sessions_private.end_sessions(request.user_id(), 'revoked', request.session_id());
  return 'ENDED';
end $$;
comment on function api.revoke_other_sessions() is 'Ends all sessions of one''s own but this.';

reset role;
reset row_security;
revoke create on schema api, api_steps from safetypin_definer;
