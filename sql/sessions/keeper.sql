-- Purpose: the one call that opens every request. Belongs to the keeper, since it seals the context.

grant create on schema sessions to safetypin_keeper;
set local role safetypin_keeper;
set local row_security = on;

create or replace function sessions.open_request(credential bytea, envelope bytea, metadata jsonb) returns text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Writes nothing, so that a slow request never stands in the way of a revocation.
declare
  v_context text;
begin
  if pg_is_in_recovery() then
    -- A replica does not know of revocations that it has not been sent yet. It has no transport keys either.
    if not exists (select from platform_private.heartbeat h where h.at > clock_timestamp() - interval '5 seconds') then
      raise exception 'this replica is behind' using errcode = 'OLDCP';
    end if;
  -- A crash empties the table of transport keys, and a rotation takes them back. Refused here, while nothing was done
  -- yet, the request can be opened anew with another envelope and nobody notices.
  elsif envelope is not null and not exists (
      select from keyring_private.transport_keys t where uuid_send(t.id) = substr(envelope, 2, 16) and t.retired_at is null) then
    raise exception 'the transport key of this request is gone' using errcode = 'KEYNO';
  end if;
  if length(credential) = 33 then
    -- An API key. No session has a credential of this length, so neither is ever looked for among the others.
    v_context := request_private.key_context(sha256(credential), metadata);
  else
    -- One query for all of it: every statement here is paid for by every request.
    select request_private.seal(o.body, o.inner_pad, o.outer_pad) || o.body into v_context
      from (
        select k.inner_pad, k.outer_pad, request_private.body(
            case when credential is null then 0 else 1 end, clock_timestamp() + make_interval(secs => r.value),
            s.id, s.person_id, m.organization_id, c.hash, coalesce(s.assurance, 0), metadata) as body
          from platform.limits r
          join platform.limits i on i.name = 'session.idle_seconds'
          join keyring_private.seal_keys k on k.purpose = 'request'
          left join sessions_private.credentials c on c.hash = sha256(credential) and c.expires_at > clock_timestamp()
          left join sessions.sessions s on s.id = c.session_id and s.ends_at > clock_timestamp()
          left join identity.people p on p.id = s.person_id and p.status = 'active'
          left join access.organizations o on o.id = s.organization_id and o.status = 'active' and o.closes_at > clock_timestamp()
          left join access.memberships m on m.organization_id = o.id and m.person_id = s.person_id
          left join sessions.activity a on a.session_id = s.id
          where r.name = 'request.seconds'
            and (credential is null
              or p.id is not null
                and greatest(s.created_at, a.last_used_at) > clock_timestamp() - make_interval(secs => i.value))
          offset 0
      ) o;
  end if;
  if v_context is null then
    raise exception 'no live session or key for this credential' using errcode = 'AUTHN';
  end if;
  v_context := request_private.write_context(v_context, envelope);
  return case
    when session_user = 'safetypin_auditor' then 'safetypin_auditor'
    when credential is null then 'safetypin_anonymous'
    else 'safetypin_member'
  end;
end $$;
comment on function sessions.open_request(bytea, bytea, jsonb) is
  'Opens the request of this transaction: select set_config(''role'', sessions.open_request($1, $2, $3), true), all bound. Credential (32 bytes of a session, 33 of an API key, null for nobody), envelope of the application''s half of the key (may be null: then sealed values stay shut), metadata {ip, userAgent, requestId}. Returns the role to become. AUTHN without a live session or key, OLDCP on a replica that is more than 5 s behind, KEYNO if the envelope''s transport key is gone or was taken back, CTXAG if the transaction has a context, CTXTX in the message that began it.';

reset role;
reset row_security;
revoke create on schema sessions from safetypin_keeper;
