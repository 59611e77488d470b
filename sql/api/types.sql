-- Purpose: what the functions of the API answer with.

do $$
begin
  if to_regtype('api.sent_outcome') is null then
    create type api.sent_outcome as enum ('SENT');
    create type api.ended_outcome as enum ('ENDED', 'REFUSED');
    create type api.created_outcome as enum ('CREATED', 'REFUSED');
    create type api.changed_outcome as enum ('CHANGED', 'REFUSED');
    create type api.removed_outcome as enum ('REMOVED', 'REFUSED');
    create type api.created_result as (outcome api.created_outcome, reasons text[], id uuid);
    create type api.changed_result as (outcome api.changed_outcome, reasons text[], version integer);
    create type api.removed_result as (outcome api.removed_outcome, reasons text[]);
    create type api.profile as (id uuid, email text, display_name text, email_verified boolean, locale text, created_at timestamptz);
    create type api_steps.password_challenge as (
      outcome text, reasons text[], scheme text, parameters jsonb, salt bytea);
    create type api_steps.sign_in_challenge as (
      attempt uuid, retry_after integer, scheme text, parameters jsonb, salt bytea);
    create type api_steps.sign_in_result as (
      outcome text, session_id uuid, person_id uuid, organization_id uuid, assurance integer, authenticated_at timestamptz,
      access_expires_at timestamptz, expires_at timestamptz, retry_after integer, mfa_methods text[]);
    create type api_steps.outcome_with_reasons as (outcome text, reasons text[]);
  end if;
end $$;
comment on type api.sent_outcome is 'Always SENT: whether there was anybody to write to is not said.';
comment on type api.ended_outcome is 'Whether something was ended; REFUSED says nothing about why.';
comment on type api.created_outcome is 'Whether something was made.';
comment on type api.changed_outcome is 'Whether something was changed.';
comment on type api.removed_outcome is 'Whether something was removed.';
comment on type api.created_result is 'What became of making something: reasons are empty unless it was refused, id is null then.';
comment on type api.changed_result is 'What became of a change: reasons are empty unless it was refused; version is what the next change names.';
comment on type api.removed_result is 'What became of removing something; reasons are empty unless it was refused.';
comment on type api.profile is 'A person as she sees herself.';
comment on type api_steps.password_challenge is 'How a new password is to be hashed, or the outcome if it is refused before.';
comment on type api_steps.sign_in_challenge is 'How a password is to be hashed for a counted attempt; attempt is null while the account is locked.';
comment on type api_steps.sign_in_result is 'Outcome of a sign-in, refresh or switch, and what the access token says.';
comment on type api_steps.outcome_with_reasons is 'Outcome, and why it was refused.';

-- Roles.
do $$
begin
  if to_regtype('api.member_role_result') is null then
    create type api.member_role_result as (outcome api.changed_outcome, reasons text[], id uuid);
    create type api.held_permission as (permission text, valid_until timestamptz);
  end if;
end $$;
comment on type api.member_role_result is 'What became of changing a member''s role: reasons are empty unless it was refused; id is that of the grant.';
comment on type api.held_permission is 'A permission that the asker holds now.';
comment on column api.held_permission.permission is 'noun.verb.';
comment on column api.held_permission.valid_until is 'Until when, as roles and grants are now; null for no end.';

-- Members and invitations.
do $$
begin
  if to_regtype('api.resent_outcome') is null then
    create type api.resent_outcome as enum ('SENT', 'REFUSED');
    create type api.resent_result as (outcome api.resent_outcome, reasons text[]);
    create type api_steps.accepted_invitation as (outcome text, reasons text[], organization_id uuid);
    create type api_steps.started_code as (attempt uuid, outcome text, reasons text[], retry_after integer);
  end if;
end $$;
comment on type api.resent_outcome is 'Whether something was sent again.';
comment on type api.resent_result is 'What became of sending something again; reasons are empty unless it was refused.';
comment on type api_steps.accepted_invitation is 'ACCEPTED with the organization, or REFUSED with reasons.';
comment on type api_steps.started_code is 'A counted attempt at a code, or the outcome if there is none to make.';
