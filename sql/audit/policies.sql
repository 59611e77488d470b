-- Purpose: who reads events: whoever may, in the organization they belong to.

select platform_private.admit('safetypin_keeper', 'audit.events', 'select', 'insert');
select platform_private.admit('safetypin_keeper', 'audit.actions', 'select');
select platform_private.admit('safetypin_owner', 'audit.actions', 'select', 'insert', 'update');
select platform_private.admit('safetypin_owner', 'audit.events_default', 'select');

drop policy if exists select_all on audit.actions;
create policy select_all on audit.actions for select to safetypin_member, safetypin_auditor
  using ((select request.user_id()) is not null);

select access.protect('audit.events', "select" => 'audit.read', "insert" => null, "update" => null, "delete" => null,
  roles => '{safetypin_member,safetypin_auditor}', audited => false);
