-- Purpose: the events and the vocabulary of their actions.

create table if not exists audit.actions (
  name text constraint actions_pkey primary key constraint actions_name_form check (name ~ '^[a-z_]+\.[a-z_]+$'),
  category text not null constraint actions_category_known
    check (category in ('authentication', 'session', 'account', 'access', 'data', 'keys', 'administration')),
  severity text not null constraint actions_severity_known check (severity in ('info', 'notice', 'warning', 'alert')),
  description text not null
);
alter table audit.actions enable row level security, force row level security;
comment on table audit.actions is 'Vocabulary of actions. An event of an unknown action is refused.';
comment on column audit.actions.name is 'noun.verb, past tense of nothing: what was done or tried.';
comment on column audit.actions.category is 'Group of actions.';
comment on column audit.actions.severity is 'How loud it is.';
comment on column audit.actions.description is 'What an event of this action says.';

create table if not exists audit.events (
  organization_id uuid not null,
  id uuid not null default platform.uuid_v7(),
  occurred_at timestamptz not null default clock_timestamp(),
  action text not null,
  category text not null,
  severity text not null,
  actor_id uuid,
  session_id uuid,
  request_id uuid,
  database_role text not null,
  relation text,
  row_id text,
  details jsonb not null default '{}',
  entry bytea not null,
  transaction_id xid8 not null default pg_current_xact_id(),
  constraint events_pkey primary key (organization_id, id, occurred_at),
  constraint events_entry_version check (get_byte(entry, 0) = 1)
) partition by range (occurred_at);
create index if not exists events_organization_time_idx on audit.events (organization_id, occurred_at desc, id);
create index if not exists events_actor_idx on audit.events (organization_id, actor_id, occurred_at desc);
create index if not exists events_transaction_idx on audit.events (transaction_id);
alter table audit.events enable row level security, force row level security;
comment on table audit.events is 'What happened. Appended by audit_private.append() alone; partitioned by month.';
comment on column audit.events.organization_id is 'Organization; the zero uuid for what belongs to none.';
comment on column audit.events.id is 'UUID version 7.';
comment on column audit.events.occurred_at is 'Moment of the event, by the database''s clock.';
comment on column audit.events.action is 'What was done or tried, from audit.actions.';
comment on column audit.events.category is 'Category of the action.';
comment on column audit.events.severity is 'Severity of the action.';
comment on column audit.events.actor_id is 'Person who acted; null for nobody or an operator.';
comment on column audit.events.session_id is 'Session of the actor.';
comment on column audit.events.request_id is 'Request, for correlation with the log of the API.';
comment on column audit.events.database_role is 'Login that was connected.';
comment on column audit.events.relation is 'Table of a row event, schema.name.';
comment on column audit.events.row_id is 'Key of the row of a row event.';
comment on column audit.events.details is 'What changed or why, and apiKey if an API key asked; personal values are sealed.';
comment on column audit.events.entry is 'The event in canonical form, version 1: what is proved. The other columns are copies for queries.';
comment on column audit.events.transaction_id is 'Transaction that wrote it, for the sealer.';

create table if not exists audit.events_default partition of audit.events default;
alter table audit.events_default enable row level security, force row level security;
comment on table audit.events_default is 'Catches events of months whose partition was not made in time, so that no event is ever refused.';
