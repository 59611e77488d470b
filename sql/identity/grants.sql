-- Purpose: who may reach people.

grant usage on schema identity to safetypin_member, safetypin_jobs;
grant select on identity.people to safetypin_member;
set local role safetypin_definer;
grant execute on function identity.compose_mail(uuid), identity.mark_mail_sent(uuid), identity.clean_up(integer) to safetypin_jobs;
reset role;
