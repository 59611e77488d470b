const KEYS = 'keys are made and destroyed by keeper functions, which append their own events; a row is a secret';
const SECRETS = 'a row is a secret or sealed; the functions that write it append their own events';
const DEFINITION = 'part of the definition: changes with a migration only';
const PROTECTED_DDL = 'compiles rules into DDL; every name goes through %I or regclass, every value through %L';

/** What a lint finds and a person has reviewed: lint, finding, reason. A line that no longer applies fails the test. */
export const exceptions: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  'PG-05 a security definer function of the wrong owner': {
    'audit_private.make_partitions(months integer)':
      'only the owner of audit.events can attach partitions; takes a number of months and nothing else',
  },
  'PG-06 dynamic SQL put together from text': {
    'platform_private.admit(role name, relation regclass, VARIADIC commands text[])': PROTECTED_DDL,
    'access.row_seen(relation oid, key_column name, organization_column name, owner_column name, key text, OUT seen text, OUT owner_id uuid, OUT organization_id uuid)':
      'looks up a row of any table with the rights of who asks; names of the catalog through %I, the key is a parameter',
    'access_private.run(relation regclass, lines text[])': PROTECTED_DDL,
    'access_private.differences(relation regclass, organization name, owner name, permissions text[], assurance integer, roles name[], audited boolean, assign text, hidden name[])':
      'runs nothing: asks about the privilege of that name',
    'access_private.take_table(relation regclass)': 'locks a table by its name from the catalog, quoted',
    'access_private.line_for_organization(relation regclass, organization name)':
      'asks whether a table has rows, by its name from the catalog, quoted',
    'audit.let_record(role name)': 'a grant of one function that refuses outside of triggers; the role through %I',
    'audit_private.make_partitions(months integer)': 'names of partitions are made from a date',
    'keyring.row_of(row_id text, row_keys text[], row_values jsonb, changed anyelement)':
      'runs with the rights of who writes; send functions of the catalog, names through %I',
    'keyring.erase(subject uuid)':
      'empties index columns of any table with a sealed column, as the worker: names from the catalog, quoted',
    'keyring.finish(relation regclass, "column" name)': 'names a table, as its owner',
    'keyring_private.reseal_own(work keyring_private.works, batch integer)':
      'calls a function that the register names, which no run-time role writes',
    'keyring.finish_unsealing(column_id uuid)': 'puts names from the catalog into DDL, as the owner of the table',
    'keyring.let_work(relation regclass, reads name[], writes name[])': 'grants on a table, as its owner',
    'keyring.count_rows(relation regclass, condition text, most bigint)':
      'takes a condition that its callers put together of quoted names; invoker, and the owner of the schema alone may call it',
    'keyring.hide_from_audit(relation regclass, hide boolean)':
      'makes a trigger anew from its definition in the catalog',
    'keyring.set_check(relation regclass, door text, sealed text, condition text)': 'as for count_rows',
    'keyring.unseal_column(relation regclass, "column" name, sensitive boolean)': 'names a table and a column, quoted',
    'keyring.work_rows(kind text, step text, column_id uuid, relation oid, "position" jsonb, batch integer, OUT rows_done integer, OUT outcome text, OUT after jsonb)':
      'goes over any table with a sealed column: names and types from the catalog, quoted; as the worker, with no right but its own',
    'keyring.seal_column(relation regclass, "column" name, subject name, class text, permission text, searchable boolean, options jsonb)':
      'DDL with the rights of who calls; every name goes through %I or regclass, every value through %L',
    'keyring_private.canonical(value text, type text)':
      'the type is one of a list of PostgreSQL’s own, checked by keyring.register_column()',
  },
  'PG-14 a policy that lets a client write or read everything': {
    'platform.errors: select_all': 'the register of errors is public: the API shows it to anybody',
  },
  'PG-51 a policy or function that believes a setting': {
    'keyring.compare_openings(batch integer)': 'the isolation that the transaction has, not one of ours',
    'api_steps.explain_access(person_id uuid, key_id uuid, permission text, command text, table_name text, column_name text, owner_id uuid, row_seen text, row_owner uuid)':
      'whether a refusal can be recorded: what it says is so, and nothing is told either way',
    'keyring_private.demand_record()': 'whether the transaction is read-only: what it says is so',
    'keyring_private.application_halves(credential_hash bytea)':
      'opens the sealed envelope in the setting; a forged one does not open',
    'keyring.seal_door()': 'a mark of the statement at hand: forged, it refuses or erases what its forger writes',
    'keyring.leave_door()': 'as for seal_door',
    'request_private.sealed_context': 'reads the context and verifies its seal: the one place that does',
    'request_private.write_context(context text, envelope bytea)': 'refuses when the setting holds a context already',
  },
  'a table whose changes leave no audit event': {
    'access.domains': 'what people do to a domain and what comes of a check are events (domain.*), not each check',
    'access.permissions': DEFINITION,
    'access.role_permissions':
      'functions that change a role record it; founding an organization is one event, not fifty',
    'access.setting_definitions': DEFINITION,
    'access.rules': 'access.set_rule appends table.protect for each rule that changed',
    'access_private.invitation_addresses': SECRETS,
    'access_private.api_key_secrets': SECRETS,
    'access.api_key_use': 'last use, written once a minute',
    'access.protections': 'access.keep_protection appends table.protect, access.forget_protection table.unprotect',
    'access.exemptions': 'access.exempt appends table.exempt',
    'access_private.ownership':
      'counts turns, so that changes of members and roles take them; says nothing about anybody',
    'access_private.kept_out': 'the end of the membership is an event',
    'access_private.domain_owners':
      'becoming and ceasing to be one are events (domain.verify, domain.lose, domain.remove)',
    'access_private.held_permissions': 'worked out from memberships and roles, which are audited',
    'audit.actions': DEFINITION,
    'audit.events': 'is the audit trail',
    'identity_private.attempts': 'each attempt ends in an event of its own (login.*, email.*)',
    'identity_private.emails': SECRETS,
    'identity_private.lockouts': 'a counter; the lock itself is an event (login.lock)',
    'identity_private.mails': 'a queue of mails; what asked for them is an event',
    'identity_private.passwords': SECRETS,
    'identity_private.profiles': SECRETS,
    'identity_private.registrations': SECRETS,
    'identity_private.tokens': SECRETS,
    'keyring_private.data_keys': KEYS,
    'keyring_private.index_keys': KEYS,
    'keyring_private.opening_checks': 'how far the comparison is; what it finds is an event',
    'keyring_private.opening_marks': 'says only that the server has not crashed',
    'keyring_private.openings': 'each row stands for an event (value.open, value.find)',
    'keyring_private.roots': KEYS,
    'keyring_private.seal_keys': KEYS,
    'keyring_private.sealed_columns': DEFINITION,
    'keyring_private.transport_keys': KEYS,
    'keyring_private.works': 'progress of a work; what asked for it is an event',
    'platform.errors': DEFINITION,
    'platform.tasks': DEFINITION,
    'platform_private.failed_jobs':
      'each row becomes an event (job.fail); what an operator does with the job is one too',
    'platform_private.heartbeat': 'says only that the primary lives',
    'platform_private.job_contexts': 'lives as long as its job; what made the job is an event',
    'sessions.activity': 'last use, written once a minute',
    'sessions.sessions': 'session.start, session.switch, token.refresh and session.end say it with the reason',
    'sessions_private.credentials': SECRETS,
    'sessions_private.refresh_tokens': SECRETS,
  },
  'a reference to a later domain': {
    'access.settings: _500_cap_sessions -> sessions': 'a setting about sessions counts for those that live, at once',
    'access.memberships: _510_end_sessions -> sessions': 'a membership that ends takes its sessions with it, at once',
    'access.organizations: _500_end_sessions -> sessions': 'as for memberships',
    'identity.people: _500_end_sessions -> sessions': 'as for memberships',
    'identity.compose_mail(id uuid, OUT recipient text, OUT kind text, OUT locale text, OUT variables jsonb) -> access':
      'one outbox for all mails; what an invitation says stands with the invitation',
    'identity_private.mails: mails_invitation_exists -> access': 'a mail about an invitation goes with it',
    'identity_private.tokens: tokens_invitation_exists -> access': 'a token of an invitation goes with it',
    'keyring.compare_openings(batch integer) -> audit': 'what is missing is told to the trail',
    'keyring.destroy_keys(subject uuid) -> audit': 'an erasure is recorded in the same transaction',
    'keyring.rotate_data_keys(subject uuid, destroy boolean) -> audit': 'as for rotate_application',
    'keyring.begin_work(column_id uuid, kind text, total bigint) -> audit':
      'a work on values is recorded where it begins',
    'keyring.forget_column(column_id uuid) -> audit': 'a column that is open again is recorded',
    'keyring_private.record_reading(action text, sealed_column keyring_private.sealed_columns, row_ids uuid[], subjects uuid[]) -> audit':
      'a reading is recorded in the same transaction',
    'keyring_private.import_data_keys(lines jsonb, OUT added bigint, OUT renewed bigint, OUT unknown bigint) -> access':
      'says of how many keys the subject is not there any more',
    'keyring_private.import_data_keys(lines jsonb, OUT added bigint, OUT renewed bigint, OUT unknown bigint) -> identity':
      'as for access',
    'keyring.rotate_application(next bytea) -> audit': 'a rotation is recorded by who does it',
    'keyring.rotate_root() -> audit': 'as for rotate_application',
    'keyring.rotate_transport() -> audit': 'as for rotate_application',
    'keyring.register_column(relation regclass, column_id uuid, class text, type text, tenant boolean, permission text, write_permission text, required boolean, indexed boolean, format text, lookup text, refusal text, keep_on_null boolean, state text) -> audit':
      'sealing a column is recorded in the same transaction',
    'keyring.seal_column(relation regclass, "column" name, subject name, class text, permission text, searchable boolean, options jsonb) -> access':
      'refuses a permission that does not exist, while the DBA looks',
    'platform.limits: _800_audit -> audit':
      'numbers that rules compare with are changed by operators, and that is recorded',
    'platform.open_job(job_id bigint, envelope bytea) -> keyring': 'the key of the seal is a key',
    'request.service_account_id() -> access': 'as request.can()',
    'request_private.key_stands(organization_id uuid, key_id uuid, credential_hash bytea) -> access':
      'an API key ends with whose it is, so that is read in each statement',
    'request_private.key_stands(organization_id uuid, key_id uuid, credential_hash bytea) -> identity': 'as for access',
    'request_private.key_context(credential_hash bytea, metadata jsonb) -> access': 'as for key_stands',
    'request_private.key_context(credential_hash bytea, metadata jsonb) -> keyring': 'the key of the seal is a key',
    'request.can(permission text) -> access': 'the accessors are the ground of every domain and ask the live state',
    'request_private.standing(permission text, OUT organization_id uuid, OUT credential_hash bytea, OUT may boolean) -> access':
      'as request.can(), which it asks for once with the organization',
    'request_private.job_stands(context_id uuid) -> access':
      'a job ends with the rights of who asked for it, so they are read in each statement',
    'request_private.job_stands(context_id uuid) -> identity': 'as for memberships',
  },
  'PG-46 a function that sends notifications': {
    'api_steps.retry_jobs(ids bigint[])': 'wakes the worker with an empty message',
  },
  'PG-67 a rule that asks when the transaction began': {
    'request_private.body(kind integer, deadline timestamp with time zone, session_id uuid, person_id uuid, organization_id uuid, credential_hash bytea, assurance integer, metadata jsonb)':
      'binds the seal to its transaction; the deadline is by the clock',
    'request_private.write_context(context text, envelope bytea)':
      'refuses to open in the message that began the transaction',
  },
  'a tenant table whose key does not begin with the organization': {
    'access_private.domain_owners':
      'a domain has one owner: that is its key; nobody but the functions about it reads it',
    'access_private.api_key_secrets':
      'found by its hash before it is known whose it is; nobody makes a second secret with the hash of another',
  },
  'PG-34, PG-36 a unique or exclusion rule across tenants': {
    'access_private.domain_owners: access_private.domain_owners_pkey':
      'tells that a domain is taken to who proved it, and to nobody else',
    'access_private.api_key_secrets: access_private.api_key_secrets_pkey':
      'a hash of 256 random bits: it tells of another only to who knows the secret',
  },
};
