-- Purpose: who may reach organizations.

grant usage on schema access to safetypin_member, safetypin_jobs;
grant select on access.permissions to safetypin_member;
set local role safetypin_definer;
grant execute on function access.clean_up(integer) to safetypin_jobs;
-- For a DBA, who works as the owner.
grant execute on function access.define_permission(text, text, text[]),
  access.set_rule(regclass, text, name, name, text, integer, name[], text),
  access.keep_protection(regclass, name, name, name[], boolean, name[]), access.forget_protection(regclass),
  access.exempt(text, text), access_private.table_name(regclass) to safetypin_owner;
-- Steps of explaining: what they borrow ends at the rules; rows are looked up with the rights of who asks.
grant execute on function access.explain_place(text, text) to safetypin_member, safetypin_owner;
grant execute on function access_private.explain_for_owner(uuid, text, text, text, text, uuid, uuid, uuid, integer) to safetypin_owner;
-- For operators.
grant execute on function access.list_organizations(), access.suspend_organization(text), access.resume_organization(text),
  access.give_plan(text, text) to safetypin_owner;
grant execute on function access.close_organizations(integer) to safetypin_jobs;
-- Of the active organization; which one is asked for must be readable.
grant execute on function access.setting(text) to safetypin_member, safetypin_owner;
grant execute on function access.define_setting(text, text, jsonb, text, bigint, bigint, text[], text, text) to safetypin_owner;
grant execute on function access.share_domain(text, boolean) to safetypin_owner;
grant execute on function access.due_domains(integer), access.note_domain_check(uuid, uuid, boolean, text[]) to safetypin_jobs;
reset role;
grant execute on function access.row_seen(oid, name, name, name, text) to safetypin_member;
