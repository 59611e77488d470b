-- Purpose: what the internal roles need of the trail, and its vocabulary for everybody who is signed in.

select platform_private.admit('safetypin_keeper', 'audit.events', 'select', 'insert');
select platform_private.admit('safetypin_keeper', 'audit.actions', 'select');
select platform_private.admit('safetypin_owner', 'audit.actions', 'select', 'insert', 'update');
select platform_private.admit('safetypin_owner', 'audit.events_default', 'select');

drop policy if exists select_all on audit.actions;
create policy select_all on audit.actions for select to safetypin_member, safetypin_auditor
  using ((select request.kind()) in ('session', 'key'));

-- Numbers that rules compare with are changed by operators: that is recorded too.
create or replace trigger _800_audit after insert or update or delete on platform.limits
  for each row execute function audit.record_change('', 'name');
alter table platform.limits enable always trigger _800_audit;
