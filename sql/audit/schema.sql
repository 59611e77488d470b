-- Purpose: what happened, kept so that it can be proved. Events are appended and never changed.

create schema if not exists audit;
comment on schema audit is 'The audit trail: append-only events, one canonical entry each.';
create schema if not exists audit_private;
comment on schema audit_private is 'Internal parts of the audit trail.';
grant usage on schema audit, audit_private to safetypin_keeper, safetypin_definer;
