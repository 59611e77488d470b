-- Purpose: the doors: what an anonymous request may call, and what a member may.

grant usage on schema api, api_steps to safetypin_anonymous, safetypin_member, safetypin_jobs;

set local role safetypin_definer;

grant execute on function
  api_steps.prepare_registration(text, text, text, jsonb),
  api_steps.register(text, text, text, jsonb, text, jsonb, bytea, bytea),
  api_steps.verify_email(bytea),
  api_steps.start_email_code(text), api_steps.submit_email_code(uuid, text), api_steps.finish_email_code(uuid, text),
  api_steps.start_sign_in(text), api_steps.submit_sign_in(uuid, bytea),
  api_steps.finish_sign_in(uuid, bytea, uuid, bytea, bytea),
  api_steps.refresh_session(bytea, bytea, bytea),
  api_steps.prepare_password_reset(bytea, jsonb),
  api_steps.reset_password(bytea, jsonb, text, jsonb, bytea, bytea),
  api_steps.note_first_use(bytea),
  api_steps.record_fault(uuid, text, text, integer),
  api.resend_verification(text), api.request_password_reset(text),
  api."current_user"()
  to safetypin_anonymous, safetypin_member;

grant execute on function
  api_steps.switch_organization(uuid, bytea, bytea),
  api.logout(), api.revoke_session(uuid), api.revoke_other_sessions(),
  api.create_organization(text), api.my_organizations(), api.key_works(),
  api_steps.start_shell(), api_steps.record_statement(text), api_steps.end_shell()
  to safetypin_member;

-- Of the organization that is active.
grant execute on function
  api.create_role(text, text, text[]), api.update_role(uuid, integer, text, text, text[]), api.delete_role(uuid),
  api.grant_role(uuid, uuid, timestamptz, timestamptz), api.revoke_role(uuid), api.change_member_role(uuid, text),
  api.my_permissions()
  to safetypin_member;
-- Members and invitations.
grant execute on function
  api.invite_member(text, text, timestamptz), api.resend_invitation(uuid), api.revoke_invitation(uuid),
  api.remove_member(uuid), api.leave_organization(),
  api.memberships_display_name(access.memberships), api.memberships_email(access.memberships),
  api.invitations_email(access.invitations),
  api_steps.member_names(uuid[]), api_steps.member_addresses(uuid[]), api_steps.invitation_addresses(uuid[]),
  api_steps.accept_invitation(bytea), api_steps.request_invitation_code(bytea), api_steps.start_invitation_code(bytea),
  api_steps.submit_invitation_code(uuid, text), api_steps.finish_invitation_code(uuid, bytea, text)
  to safetypin_member;
-- Of oneself, or with access.explain.
grant execute on function api_steps.explain_access(uuid, uuid, text, text, text, text, uuid, text, uuid) to safetypin_member;
grant execute on function api.plan_usage(),
  api.rename_organization(text, integer), api.close_organization(), api.reopen_organization(), api.transfer_ownership(uuid),
  api.organization_settings(), api.change_setting(text, jsonb), api.reset_setting(text)
  to safetypin_member;

grant execute on function
  api.create_service_account(text, text[], text), api.remove_service_account(uuid),
  api_steps.create_api_key(text, text[], timestamptz, uuid, bytea, text), api_steps.rotate_api_key(uuid, integer, bytea, text),
  api.revoke_api_key(uuid), api.api_key_reach(uuid)
  to safetypin_member;
grant execute on function api.add_domain(text), api.verify_domain(uuid), api.remove_domain(uuid) to safetypin_member;

-- Invoker: they show what row-level security lets through.
grant execute on function api.current_organization(), api.current_session() to safetypin_member, safetypin_anonymous;

grant execute on function api_steps.report_failed_jobs() to safetypin_jobs;
-- For an operator, who works as the owner.
grant execute on function api_steps.retry_jobs(bigint[]), api_steps.drop_jobs(bigint[]) to safetypin_owner;

reset role;
-- Invoker, and so the owner's own: it looks rows up as who asks.
grant execute on function api.explain_access(uuid, text, text, text, uuid, text, text, uuid, uuid) to safetypin_member;
