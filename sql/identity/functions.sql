-- Purpose: the job side of mails. What the API calls about people stands in `api`, since it ends in sessions and
-- organizations.

grant create on schema identity to safetypin_definer;
set local role safetypin_definer;
set local row_security = on;

create or replace function identity.compose_mail(
  id uuid, out recipient text, out kind text, out locale text, out variables jsonb
) returns setof record
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
-- Tokens are made here, at the moment of sending, and given to nobody but the mail: no secret waits in a job, an outbox
-- or a log. A mail that is tried again carries a new token beside the old one.
declare
  v_none constant uuid := platform.no_organization();
  v_mail identity_private.mails;
  v_registration identity_private.registrations;
  v_email identity_private.emails;
  v_expires_at timestamptz;
  v_token bytea;
  v_code text;
  v_hash bytea;
  v_address bytea;
begin
  if request.task() is distinct from 'mail__send' or request.job_value('id') is distinct from compose_mail.id then
    raise exception 'only the job of a mail may do this' using errcode = 'DENYD';
  end if;
  select m.* into v_mail from identity_private.mails m where m.id = compose_mail.id and m.sent_at is null;
  if not found then
    return;
  end if;
  -- Where the address is known no registration waits for it: then its owner is told.
  kind := case v_mail.kind when 'registration' then 'already_registered' else v_mail.kind end;
  variables := '{}';

  if v_mail.registration_id is not null then
    select r.* into v_registration
      from identity_private.registrations r
      where r.id = v_mail.registration_id and r.completed_at is null;
    if not found then
      return;
    end if;
    recipient := keyring_private.open('identity.registrations.email', v_none, v_registration.id, v_registration.email);
    locale := v_registration.locale;
    -- Somebody else's request for an address that has an account: its owner is told, and gets no token.
    kind := case when exists (select from identity_private.emails e where e.lookup = v_registration.lookup)
      then 'already_registered' else 'verification' end;
    variables := jsonb_build_object('name', keyring_private.open('identity.registrations.display_name', v_none,
      v_registration.id, v_registration.display_name));
  elsif v_mail.invitation_id is not null then
    select i.recipient, i.locale, jsonb_build_object('organization', i.organization), i.expires_at
      into recipient, locale, variables, v_expires_at
      from access_private.invitation_mail(v_mail.organization_id, v_mail.invitation_id) i;
    if recipient is null then
      -- Revoked, accepted or over by now.
      update identity_private.mails m set sent_at = clock_timestamp() where m.id = v_mail.id;
      return;
    end if;
  else
    select e.* into v_email
      from identity_private.emails e
      join identity.people p on p.id = e.person_id
      where (e.lookup = v_mail.lookup or e.person_id = v_mail.person_id and e.is_primary) and p.status = 'active';
    if not found then
      -- Nobody's address: nothing is sent, and nobody outside learns it.
      update identity_private.mails m set sent_at = clock_timestamp() where m.id = v_mail.id;
      return;
    end if;
    recipient := keyring_private.open('identity.emails.address', v_none, v_email.id, v_email.address);
    select p.locale, jsonb_build_object('name', keyring_private.open('identity.people.display_name', v_none, p.id, f.display_name))
      into locale, variables
      from identity.people p
      join identity_private.profiles f on f.person_id = p.id
      where p.id = v_email.person_id;
  end if;

  -- One mailbox is not flooded through us, whoever asks. What was left out does not count: else whoever keeps asking
  -- would keep every mail from its owner.
  v_address := coalesce(v_registration.lookup, v_mail.lookup);
  perform identity_private.hold_address(v_address);
  if (select count(*)
      from (select m.id, m.kind, m.composed_at from identity_private.mails m where m.lookup = v_address
            union all
            select m.id, m.kind, m.composed_at
              from identity_private.registrations r
              join identity_private.mails m on m.registration_id = r.id
              where r.lookup = v_address) m
      where m.kind = v_mail.kind and m.id <> v_mail.id
        and m.composed_at > clock_timestamp() - interval '1 hour') >= platform.limit_value('mail.per_address_per_hour') then
    update identity_private.mails m set sent_at = clock_timestamp() where m.id = v_mail.id;
    return;
  end if;
  update identity_private.mails m set composed_at = clock_timestamp() where m.id = v_mail.id;

  if kind in ('verification', 'password_reset', 'invitation', 'invitation_code') then
    v_token := extensions.gen_random_bytes(32);
    v_hash := sha256(v_token);
    v_code := lpad((('x' || encode(extensions.gen_random_bytes(6), 'hex'))::bit(48)::bigint % 1000000)::text, 6, '0');
    -- A token asked for anew voids those of earlier mails.
    update identity_private.tokens t set consumed_at = clock_timestamp()
      where (t.person_id = v_email.person_id or t.registration_id = v_registration.id
          or t.organization_id = v_mail.organization_id and t.invitation_id = v_mail.invitation_id
            and t.person_id is not distinct from v_mail.asked_by)
        and t.purpose = compose_mail.kind and t.mail_id <> v_mail.id and t.consumed_at is null;
    insert into identity_private.tokens (hash, purpose, mail_id, registration_id, person_id, organization_id, invitation_id,
        code_mac, code_expires_at, expires_at)
      values (v_hash, compose_mail.kind, v_mail.id, v_mail.registration_id, coalesce(v_email.person_id, v_mail.asked_by),
        v_mail.organization_id, v_mail.invitation_id,
        keyring_private.guess_mac(v_mail.id, convert_to(v_code, 'UTF8')),
        clock_timestamp() + make_interval(secs => platform.limit_value('token.code_seconds')),
        coalesce(v_expires_at, clock_timestamp() + make_interval(secs => platform.limit_value(
          case compose_mail.kind when 'verification' then 'token.verification_seconds' else 'token.reset_seconds' end))));
    -- Who asked for a code has the invitation's token already; that of this mail opens nothing.
    variables := variables
      || case when kind <> 'invitation_code' then jsonb_build_object(
        'token', translate(rtrim(encode(v_token, 'base64'), '='), '+/', '-_')) else '{}' end
      || case when kind <> 'invitation' then jsonb_build_object('code', v_code) else '{}' end;
  end if;
  return next;
end $$;
comment on function identity.compose_mail(uuid) is
  'Task mail__send: what to write to whom, with fresh tokens; no row if there is nobody to write to or it was sent. DENYD outside the job of this very mail.';

create or replace function identity.mark_mail_sent(id uuid) returns void
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
as $$
begin
  if request.task() is distinct from 'mail__send' or request.job_value('id') is distinct from mark_mail_sent.id then
    raise exception 'only the job of a mail may do this' using errcode = 'DENYD';
  end if;
  update identity_private.mails m set sent_at = clock_timestamp() where m.id = mark_mail_sent.id and m.sent_at is null;
end $$;
comment on function identity.mark_mail_sent(uuid) is 'Task mail__send: a mail server took the mail. DENYD outside the job of this very mail.';

reset role;
reset row_security;
revoke create on schema identity from safetypin_definer;
