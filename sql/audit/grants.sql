-- Purpose: who may reach the trail.

-- Whoever may write an audited table comes here through its trigger.
grant usage on schema audit to public;
grant select on audit.actions to safetypin_member, safetypin_auditor;
grant execute on function audit_private.make_partitions(integer) to safetypin_definer;
set local role safetypin_keeper;
grant execute on function audit_private.append(text, uuid, uuid, jsonb, text, text, uuid, text) to safetypin_definer, safetypin_owner;
-- Refused outside of triggers. access.protect() lets other roles in.
grant execute on function audit.append_change(oid, text, jsonb, jsonb, text[])
  to safetypin_owner, safetypin_definer, safetypin_member, safetypin_jobs;
grant execute on function audit.let_record(name) to safetypin_owner;
grant execute on function audit.statement(uuid) to safetypin_member, safetypin_auditor;
-- Not to the API's login: whether an account was unknown or its password wrong would be told to whoever holds it.
grant execute on function audit.count_events(text) to safetypin_auditor;
reset role;
set local role safetypin_definer;
grant execute on function audit.ensure_partitions() to safetypin_jobs;
reset role;
