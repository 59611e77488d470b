-- Purpose: events are append-only, for their owner too.

create or replace trigger _200_refuse_change
  before update or delete on audit.events
  for each row execute function audit_private.refuse_change();
alter table audit.events enable always trigger _200_refuse_change;
alter table audit.events_default enable always trigger _200_refuse_change;

create or replace trigger _210_refuse_truncate
  before truncate on audit.events
  for each statement execute function audit_private.refuse_change();
alter table audit.events enable always trigger _210_refuse_truncate;

create or replace trigger _210_refuse_truncate
  before truncate on audit.events_default
  for each statement execute function audit_private.refuse_change();
alter table audit.events_default enable always trigger _210_refuse_truncate;
