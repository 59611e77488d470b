-- Purpose: people are global, so their policies are written by hand: everybody sees themselves.

drop policy if exists select_own on identity.people;
create policy select_own on identity.people for select to safetypin_member using (id = (select request.signed_in_id()));

select platform_private.admit('safetypin_keeper', 'identity.people', 'select');
select platform_private.admit('safetypin_definer', 'identity.people', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'identity_private.profiles', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'identity_private.emails', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'identity_private.passwords', 'select', 'insert', 'update');
select platform_private.admit('safetypin_definer', 'identity_private.registrations', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'identity_private.mails', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'identity_private.tokens', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'identity_private.lockouts', 'select', 'insert', 'update', 'delete');
select platform_private.admit('safetypin_definer', 'identity_private.attempts', 'select', 'insert', 'update', 'delete');

create or replace trigger _800_audit after insert or update or delete on identity.people
  for each row execute function audit.record_change('', 'id');
alter table identity.people enable always trigger _800_audit;
