// Ways to break an installation, and what the doctor says of each.

export interface Breakage {
  readonly name: string;
  /** Run by the administrator in our database. */
  readonly breaking: string;
  readonly mending: string;
  readonly check: string;
  /** Part of what is said, with its level when it is a warning. */
  readonly said: string;
  /** What the administrator's password is meanwhile. Defaults to what it was. */
  readonly password?: string;
}

export const BREAKAGES: readonly Breakage[] = [
  {
    name: 'LG-10 secrets',
    breaking: 'select 1',
    mending: 'select 1',
    check: 'secrets',
    said: 'the password of postgres is one out of an example: choose another',
    password: 'postgres',
  },
  {
    name: 'roles',
    breaking: 'alter role safetypin_member bypassrls',
    mending: 'alter role safetypin_member nobypassrls',
    check: 'roles',
    said: 'wrong: too strong: safetypin_member (bypassrls); take that away',
  },
  {
    name: 'logins',
    breaking: 'alter role safetypin_owner login',
    mending: 'alter role safetypin_owner nologin',
    check: 'roles',
    said: 'to log in: safetypin_owner can',
  },
  {
    name: 'PG-11 an owner within reach, through another role',
    breaking: 'create role odd_one; grant safetypin_keeper to odd_one; grant odd_one to safetypin_jobs',
    mending: 'drop role odd_one',
    check: 'memberships',
    said: 'safetypin_jobs → odd_one → safetypin_keeper',
  },
  {
    name: 'PG-11 one owner inside another',
    breaking: 'grant safetypin_keeper to safetypin_definer',
    mending: 'revoke safetypin_keeper from safetypin_definer',
    check: 'memberships',
    said: 'safetypin_definer → safetypin_keeper',
  },
  {
    name: 'PG-42 a role that reads files',
    breaking: 'grant pg_read_all_data to safetypin_member',
    mending: 'revoke pg_read_all_data from safetypin_member',
    check: 'memberships',
    said: 'safetypin_member → pg_read_all_data',
  },
  {
    name: 'PG-10 a table open to the login itself',
    breaking:
      'grant usage on schema identity to safetypin_authenticator; grant select on identity.people to safetypin_authenticator',
    mending:
      'revoke select on identity.people from safetypin_authenticator; revoke usage on schema identity from safetypin_authenticator',
    check: 'tables',
    said: 'read or changed without a request: safetypin_authenticator identity.people',
  },
  {
    name: 'PG-60 triggers that can be switched off',
    breaking: 'grant set on parameter session_replication_role to safetypin_jobs',
    mending: 'revoke set on parameter session_replication_role from safetypin_jobs',
    check: 'parameters',
    said: 'session_replication_role to safetypin_jobs; it switches triggers off',
  },
  {
    name: 'PG-22 timeouts',
    breaking: 'alter role safetypin_auditor set lock_timeout = 0',
    mending: "alter role safetypin_auditor set lock_timeout = '5s'",
    check: 'timeouts',
    said: 'warn: no limit of time: safetypin_auditor lock_timeout',
  },
  {
    name: 'PG-66 owned objects',
    breaking: 'create table public.odd (); alter table public.odd owner to safetypin_jobs',
    mending: 'drop table public.odd',
    check: 'owners',
    said: 'owned by a login: safetypin_jobs: table odd; reassign it',
  },
  {
    name: 'PG-02 temporary objects',
    breaking: 'grant temporary on database safetypin to public',
    mending: 'revoke temporary on database safetypin from public',
    check: 'PUBLIC',
    said: 'everybody may make temporary objects here: npm run migrate:up',
  },
  {
    name: 'PG-03 objects in public',
    breaking: 'grant create on schema public to public',
    mending: 'revoke create on schema public from public',
    check: 'PUBLIC',
    said: 'everybody may create in schema public',
  },
  {
    name: 'PG-04 functions for everybody',
    breaking: 'grant execute on function platform.uuid_v7() to public',
    mending: 'revoke execute on function platform.uuid_v7() from public',
    check: 'PUBLIC',
    said: 'everybody may call platform.uuid_v7()',
  },
  {
    name: 'PG-04 functions to come',
    breaking: 'alter default privileges for role safetypin_definer grant execute on functions to public',
    mending: 'alter default privileges for role safetypin_definer revoke execute on functions from public',
    check: 'PUBLIC',
    said: 'new functions of safetypin_definer can be called by everybody',
  },
  {
    name: 'connections from everywhere',
    breaking: 'grant connect on database safetypin to public',
    mending: 'revoke connect on database safetypin from public',
    check: 'PUBLIC',
    said: 'warn: everybody on this server may connect here',
  },
  {
    name: 'PG-08 extensions',
    breaking: 'create extension dblink',
    mending: 'drop extension dblink',
    check: 'extensions',
    said: 'drop extension dblink',
  },
  {
    name: 'pgcrypto elsewhere',
    breaking: 'alter extension pgcrypto set schema public',
    mending: 'alter extension pgcrypto set schema extensions',
    check: 'extensions',
    said: 'pgcrypto is in schema public: alter extension pgcrypto set schema extensions',
  },
  {
    name: 'PG-10 row-level security',
    breaking: 'alter table access.organizations disable row level security',
    mending: 'alter table access.organizations enable row level security',
    check: 'row security',
    said: 'no row-level security on access.organizations',
  },
  {
    name: 'PG-60 a trigger switched off',
    breaking: 'alter table access.organizations disable trigger _800_audit',
    mending: 'alter table access.organizations enable always trigger _800_audit',
    check: 'triggers',
    said: 'on access.organizations',
  },
  {
    name: 'PG-45 publications',
    breaking: 'create publication everything for all tables',
    mending: 'drop publication everything',
    check: 'replication',
    said: 'publication everything is for all tables',
  },
  {
    name: 'PG-45 secrets published',
    breaking: 'create publication secrets for table identity_private.passwords',
    mending: 'drop publication secrets',
    check: 'replication',
    said: 'identity_private.passwords in secrets',
  },
  {
    name: 'PG-45 a slot nobody reads',
    breaking: "select pg_create_physical_replication_slot('idle', true)",
    mending: "select pg_drop_replication_slot('idle')",
    check: 'replication',
    said: 'warn: nobody reads from replication slot idle',
  },
  {
    name: 'PG-61 bind parameters',
    breaking: 'alter database safetypin set log_parameter_max_length = -1',
    mending: 'alter database safetypin set log_parameter_max_length = 0',
    check: 'log',
    said: 'set log_parameter_max_length to 0',
  },
  {
    name: 'PG-61 bind parameters of one login',
    breaking: 'alter role safetypin_jobs set log_parameter_max_length_on_error = 100',
    mending: 'alter role safetypin_jobs reset log_parameter_max_length_on_error',
    check: 'log',
    said: '(safetypin_jobs): set log_parameter_max_length_on_error to 0',
  },
  {
    name: 'PG-61 auto_explain',
    breaking: 'alter database safetypin set auto_explain.log_parameter_max_length = 50',
    mending: 'alter database safetypin set auto_explain.log_parameter_max_length = 0',
    check: 'log',
    said: 'set auto_explain.log_parameter_max_length to 0',
  },
  {
    name: 'PG-61 pgaudit',
    breaking: "alter database safetypin set pgaudit.log_parameter = 'on'",
    mending: 'alter database safetypin reset pgaudit.log_parameter',
    check: 'log',
    said: 'set pgaudit.log_parameter to off',
  },
  {
    name: 'PG-61 all statements',
    breaking: "alter database safetypin set log_statement = 'all'",
    mending: 'alter database safetypin reset log_statement',
    check: 'log',
    said: 'warn: log_statement is all',
  },
  {
    name: 'PG-61 plans of slow statements',
    breaking: 'alter database safetypin set auto_explain.log_min_duration = 100',
    mending: 'alter database safetypin reset auto_explain.log_min_duration',
    check: 'log',
    said: 'warn: auto_explain writes plans into the log',
  },
  {
    name: 'PG-61 plans in full',
    breaking: 'alter database safetypin set auto_explain.log_verbose = on',
    mending: 'alter database safetypin set auto_explain.log_verbose = off',
    check: 'log',
    said: 'wrong: the log shows bind parameters in plans, and secrets in them (safetypin_authenticator, safetypin_jobs, safetypin_auditor): set auto_explain.log_verbose to off',
  },
  {
    name: 'PG-61 plans of one login, printed',
    breaking: 'alter role safetypin_jobs set debug_print_plan = on',
    mending: 'alter role safetypin_jobs reset debug_print_plan',
    check: 'log',
    said: '(safetypin_jobs): set debug_print_plan to off',
  },
  {
    name: 'values in printed statements',
    breaking: 'alter database safetypin set debug_print_parse = on',
    mending: 'alter database safetypin reset debug_print_parse',
    check: 'log',
    said: 'set debug_print_parse to off',
  },
  {
    name: 'a login that does not come in',
    breaking: "alter role safetypin_auditor password 'other'",
    mending: 'select 1',
    check: 'log',
    said: 'safetypin_auditor cannot sign in (password authentication failed',
  },
  {
    name: 'md5',
    breaking: "alter database safetypin set password_encryption = 'md5'",
    mending: 'alter database safetypin reset password_encryption',
    check: 'passwords',
    said: 'new passwords are kept as md5',
  },
  {
    name: 'crashes',
    breaking: 'alter database safetypin set synchronous_commit = off',
    mending: 'alter database safetypin reset synchronous_commit',
    check: 'durability',
    said: 'synchronous_commit is off',
  },
  {
    name: 'limits of connections',
    breaking: 'alter role safetypin_authenticator connection limit 3',
    mending: 'alter role safetypin_authenticator connection limit -1',
    check: 'connections',
    said: 'connections of safetypin_authenticator are limited',
  },
  {
    name: 'PG-65 prepared transactions',
    breaking: "begin; select 1; prepare transaction 'forgotten'",
    mending: "rollback prepared 'forgotten'",
    check: 'two-phase commit',
    said: 'commit or roll back forgotten',
  },
  {
    name: 'PG-41 large objects, and the end of other requests',
    breaking: 'grant execute on function pg_terminate_backend(int, bigint), lo_create(oid) to public',
    mending: 'revoke execute on function pg_terminate_backend(int, bigint), lo_create(oid) from public',
    check: 'PUBLIC',
    said: 'warn: any login may fill the disk or end the requests of others: revoke execute on lo_create, pg_terminate_backend from public',
  },
];
