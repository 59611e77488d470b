// `safetypin provision`: everything that needs an administrator, as SQL for a person who runs it by hand.
import pg from 'pg';
import type { Secrets } from '../secrets.ts';
import { readSql, SILENT } from './provision.ts';
import { scramVerifier } from './scram.ts';

export interface ProvisionOptions {
  readonly database: string;
  /** The login that DATABASE_URL will name. */
  readonly user: string;
  /** Puts in the verifiers of these passwords; without them psql asks for variables. */
  readonly secrets: Secrets | undefined;
}

const LOGINS = ['safetypin_authenticator', 'safetypin_jobs', 'safetypin_auditor'] as const;

/** The script for psql. It can run again. */
export async function provisionScript(o: ProvisionOptions): Promise<string> {
  const [database, user] = [pg.escapeIdentifier(o.database), pg.escapeIdentifier(o.user)];
  return `${[
    header(o),
    'begin;',
    await readSql('platform/roles.sql'),
    passwords(o),
    login(o.user),
    `grant safetypin_owner, safetypin_keeper, safetypin_definer to ${user};`,
    'commit;',
    '',
    '-- The database. No transaction can hold this.',
    `select ${pg.escapeLiteral(`create database ${database} owner safetypin_owner encoding 'UTF8' template template0`)}`,
    `  where not exists (select from pg_catalog.pg_database where datname = ${pg.escapeLiteral(o.database)}) \\gexec`,
    `grant create, connect on database ${database} to safetypin_owner;`,
    `grant connect on database ${database} to ${user};`,
    '',
    `\\connect ${database}`,
    'begin;',
    await readSql('platform/extensions.sql'),
    'commit;',
    '',
    silence(o.database),
  ].join('\n')}\n`;
}

function header({ database, user, secrets }: ProvisionOptions): string {
  const variables = [...LOGINS, user].map((name) => `-v ${variableOf(name)}=…`);
  return [
    '-- What SafetyPin needs of an administrator: roles, a database, an extension, settings. It can run again.',
    `--   psql -v ON_ERROR_STOP=1 ${(secrets ? [`-v ${variableOf(user)}=…`] : variables).join(' ')} -f FILE postgres`,
    `-- Then DATABASE_URL=postgres://${encodeURIComponent(user)}:…@HOST/${encodeURIComponent(database)}?sslmode=verify-full, a login that is`,
    '-- a member of the three owners and nothing else: no superuser, no CREATEROLE, no CREATEDB.',
    secrets
      ? '-- It holds SCRAM-SHA-256 verifiers: nobody signs in with one, but keep it as you keep a backup.'
      : '-- A password may be given as it is or as a SCRAM-SHA-256 verifier (--with-passwords puts ours in).',
    '\\set ON_ERROR_STOP on',
    '',
  ].join('\n');
}

/** Without a value psql leaves the name standing, and the server refuses that: no login without a password. */
const variableOf = (name: string) => `${name.replace(/\W/g, '_')}_password`;

function passwords({ secrets }: ProvisionOptions): string {
  const lines = LOGINS.map((name) => {
    const password = secrets ? pg.escapeLiteral(scramVerifier(secrets[name])) : `:'${variableOf(name)}'`;
    return `alter role ${name} password ${password};`;
  });
  return ['-- Passwords of the logins, as SafetyPin has them in secrets.json.', ...lines, ''].join('\n');
}

function login(user: string): string {
  const name = pg.escapeIdentifier(user);
  return [
    '-- The login of DATABASE_URL.',
    `select ${pg.escapeLiteral(`create role ${name}`)} where not exists`,
    `  (select from pg_catalog.pg_roles where rolname = ${pg.escapeLiteral(user)}) \\gexec`,
    `alter role ${name} login inherit password :'${variableOf(user)}';`,
  ].join('\n');
}

function silence(database: string): string {
  const settings = SILENT.map((name) => pg.escapeLiteral(name)).join(', ');
  return [
    '-- Stock logging prints bind parameters. Where that is not yours to set (managed servers), set them to 0 in the',
    "-- provider's parameter group.",
    'do $$',
    'declare',
    '  v_setting text;',
    'begin',
    `  foreach v_setting in array array[${settings}] loop`,
    '    begin',
    `      execute format('alter database %I set %s = 0', ${pg.escapeLiteral(database)}, v_setting);`,
    '    exception when invalid_name then',
    '      null; -- auto_explain of 15 has no such setting.',
    '    when insufficient_privilege then',
    "      raise warning 'set % to 0 in the parameters of the server', v_setting;",
    '    end;',
    '  end loop;',
    'end $$;',
  ].join('\n');
}
