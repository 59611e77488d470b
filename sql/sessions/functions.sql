-- Purpose: keeping track of use. Both are for the application's login, outside any request.

grant create on schema sessions to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function sessions.record_activity(credential_hashes bytea[], used_at timestamptz[]) returns integer
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
declare
  v_count integer;
  v_keys integer;
begin
  -- One batch at a time; a batch that meets another is dropped, the next one brings the same sessions again.
  if not pg_try_advisory_xact_lock(hashtextextended('safetypin activity', 0)) then
    return 0;
  end if;
  -- Only a use that was possible counts: a request with the credential of a session that was idle too long was refused,
  -- and must not bring it back to life.
  insert into sessions.activity as a (session_id, last_used_at)
    select c.session_id, least(max(u.at), clock_timestamp())
      from unnest(credential_hashes, used_at) as u (hash, at)
      join sessions_private.credentials c on c.hash = u.hash and c.expires_at > u.at
      join sessions.sessions s on s.id = c.session_id and s.ends_at > clock_timestamp()
      left join sessions.activity l on l.session_id = s.id
      where u.at < greatest(s.created_at, l.last_used_at)
        + make_interval(secs => platform.limit_value('session.idle_seconds'))
      group by c.session_id
      order by c.session_id
    on conflict on constraint activity_pkey do update
      set last_used_at = greatest(a.last_used_at, excluded.last_used_at);
  get diagnostics v_count = row_count;
  insert into access.api_key_use as a (organization_id, key_id, person_id, last_used_at)
    select k.organization_id, k.id, k.person_id, least(max(u.at), clock_timestamp())
      from unnest(credential_hashes, used_at) as u (hash, at)
      join access_private.api_key_secrets c on c.hash = u.hash and c.expires_at > u.at
      join access.api_keys k on k.organization_id = c.organization_id and k.id = c.key_id
        and k.expires_at > u.at and (k.revoked_at is null or k.revoked_at > u.at)
      where u.at >= k.created_at
      group by k.organization_id, k.id
      order by k.organization_id, k.id
    on conflict on constraint api_key_use_pkey do update
      set last_used_at = greatest(a.last_used_at, excluded.last_used_at);
  get diagnostics v_keys = row_count;
  return v_count + v_keys;
end $$;
comment on function sessions.record_activity(bytea[], timestamptz[]) is
  'Notes the last use of credentials (SHA-256), gathered by the application and sent about once a minute; returns how many sessions and API keys were noted.';

reset role;
reset row_security;
revoke create on schema sessions from safetypin_definer;
