// What only an administrator can do: roles, the logins' passwords, the database, extensions, server settings.
// All of it idempotent; the caller holds the lock.
import { readFile } from 'node:fs/promises';
import pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { retarget, type Say, withClient } from '../connection.ts';
import { sqlstateOf } from '../errors.ts';
import { StartupError } from '../startup-error.ts';
import { requireDatabase, requireProvisioned } from './demands.ts';
import { matchesVerifier, scramVerifier } from './scram.ts';

const INVALID_CATALOG_NAME = '3D000';
const INSUFFICIENT_PRIVILEGE = '42501';
const INVALID_NAME = '42602';
const NOT_ADMITTED = '28000';
const WRONG_PASSWORD = '28P01';
/** A pooler's word for a database that it was not told of. */
const PROTOCOL_VIOLATION = '08P01';
/** What PostgreSQL says of an extension whose files are not on the machine; which of them depends on the version. */
const EXTENSION_MISSING = ['0A000', '58P01', '22023'];

/** A file under sql/ as text. */
export function readSql(path: string): Promise<string> {
  return readFile(new URL(`../../../sql/${path}`, import.meta.url), 'utf8');
}

/**
 * Creates the roles and sets the passwords of the logins as SCRAM verifiers. A login that may not make roles finds them
 * as an administrator made them (`safetypin provision`), or is told what is missing.
 */
export async function provisionRoles(access: DatabaseAccess, admin: pg.Client): Promise<void> {
  try {
    await inTransaction(admin, async () => {
      await admin.query(await readSql('platform/roles.sql'));
      for (const login of loginsOf(access)) await setPassword(admin, login);
      await becomeMember(admin);
    });
  } catch (error) {
    if (sqlstateOf(error) !== INSUFFICIENT_PRIVILEGE) throw error;
    const closed: string[] = [];
    for (const login of loginsOf(access)) if (!(await accepts(login))) closed.push(login.user ?? '');
    await requireProvisioned(admin, closed);
  }
}

/** The logins that serve people, directly: a pooler may keep a password of yesterday. */
const loginsOf = (access: DatabaseAccess): pg.ClientConfig[] =>
  [access.authenticator, access.jobs, access.auditor].map(({ user, password }) => ({ ...access.jobs, user, password }));

/** Creates the database if there is none; true when it did. */
export async function provisionDatabase(admin: pg.Client, database: string): Promise<boolean> {
  const found = await admin.query('select from pg_catalog.pg_database where datname = $1', [database]);
  if (found.rowCount) {
    await requireDatabase(admin, database);
    return false;
  }
  try {
    await admin.query(
      `create database ${pg.escapeIdentifier(database)} owner safetypin_owner encoding 'UTF8' template template0`,
    );
    return true;
  } catch (error) {
    if (sqlstateOf(error) !== INSUFFICIENT_PRIVILEGE) throw error;
    throw new StartupError(
      `there is no database ${database}, and this login may not make one: let an administrator run the SQL that \`safetypin provision\` prints`,
      { cause: error },
    );
  }
}

/**
 * Extensions, and what `create database … template` does not copy: the database's own grants and settings.
 * The client is connected to that database.
 */
export async function provisionContents(admin: pg.Client, database: string, say: Say): Promise<void> {
  await inTransaction(admin, async () => admin.query(await readSql('platform/extensions.sql'))).catch((error) => {
    throw explainExtension(error, database);
  });
  if (await ownFunctionsAreOpen(admin)) {
    say(
      'let an administrator of the server revoke execute on lo_*, loread, lowrite, pg_cancel_backend and pg_terminate_backend from public: any login may fill the disk, and end the requests of others',
    );
  }
  const refused: string[] = [];
  for (const setting of SILENT) if (!(await silence(admin, database, setting))) refused.push(setting);
  if (refused.length > 0) {
    say(`let an administrator of the server set ${refused.join(' and ')} to 0: its log could show secrets`);
  }
}

/** Where the provider owns PostgreSQL's own functions, extensions.sql takes nothing from PUBLIC. */
async function ownFunctionsAreOpen(admin: pg.Client): Promise<boolean> {
  const { rowCount } = await admin.query(
    "select from pg_catalog.pg_roles where rolname = 'safetypin_authenticator' and pg_catalog.has_function_privilege(oid, 'pg_catalog.lo_create(oid)', 'execute')",
  );
  return rowCount !== 0;
}

/** What a person can do about it. */
function explainExtension(error: unknown, database: string): unknown {
  const code = sqlstateOf(error) ?? '';
  if (EXTENSION_MISSING.includes(code)) {
    const cure =
      'install the contrib package of the server (postgresql-contrib), or allow it where the provider lists extensions';
    return new StartupError(`the server has no pgcrypto: ${cure}`, { cause: error });
  }
  if (code === INSUFFICIENT_PRIVILEGE) {
    const message = error instanceof Error ? error.message : '';
    const cure = 'let an administrator run the SQL that `safetypin provision` prints';
    return new StartupError(`database ${database} cannot be prepared by this login (${message}): ${cure}`, {
      cause: error,
    });
  }
  // extensions.sql raises it with its own words.
  if (code === 'P0001') return new StartupError(error instanceof Error ? error.message : code, { cause: error });
  return error;
}

/**
 * Stock logging prints bind parameters of slow or failed statements, and with them secrets on their way. So do plans in
 * full: there parameters have become constants.
 */
export const SILENT = [
  'log_parameter_max_length',
  'log_parameter_max_length_on_error',
  'auto_explain.log_parameter_max_length',
  'auto_explain.log_verbose',
  'debug_print_plan',
];

/** Answers false where that is not ours to set and has another value. */
async function silence(admin: pg.Client, database: string, setting: string): Promise<boolean> {
  try {
    await admin.query(`alter database ${pg.escapeIdentifier(database)} set ${setting} = 0`);
    return true;
  } catch (error) {
    // auto_explain of 15 prints no parameters, and knows no such setting.
    if (sqlstateOf(error) === INVALID_NAME) return true;
    if (sqlstateOf(error) !== INSUFFICIENT_PRIVILEGE) throw error;
    const { rows } = await admin.query('select current_setting($1, true) as value', [setting]);
    // Empty: auto_explain is not loaded, and only its name was ever mentioned.
    return ['0', 'off', '', null].includes(rows[0].value);
  }
}

/** A connection to the maintenance database, or to our own where that is all the administrator may reach. */
export async function withMaintenance<T>(access: DatabaseAccess, work: (client: pg.Client) => Promise<T>): Promise<T> {
  let entered = false;
  const enter = (client: pg.Client) => {
    entered = true;
    return work(client);
  };
  try {
    return await withClient(retarget(access.admin, 'postgres'), enter);
  } catch (error) {
    const closed = [INVALID_CATALOG_NAME, INSUFFICIENT_PRIVILEGE, NOT_ADMITTED, WRONG_PASSWORD, PROTOCOL_VIOLATION];
    if (entered || !closed.includes(sqlstateOf(error) ?? '')) throw error;
    return await withClient(retarget(access.admin, access.database), work);
  }
}

/** A standby, and a server that its provider closed to changes, take no migration. */
export async function refuseReadOnly(client: pg.Client): Promise<void> {
  const { rows } = await client.query(
    "select pg_is_in_recovery() as standby, current_setting('default_transaction_read_only') as closed",
  );
  if (rows[0].standby) {
    throw new StartupError(
      'this server is a standby and takes no changes: give DATABASE_URL the address of the primary',
    );
  }
  if (rows[0].closed === 'on') {
    throw new StartupError(
      'this server takes no changes (default_transaction_read_only is on; providers do that when the disk is full): see to that first',
    );
  }
}

/** Runs in one transaction; rolls back on any error. */
export async function inTransaction<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query('begin');
  try {
    const result = await work();
    await client.query('commit');
    return result;
  } catch (error) {
    await client.query('rollback').catch(() => {});
    throw error;
  }
}

async function setPassword(admin: pg.Client, login: pg.ClientConfig): Promise<void> {
  if (!login.user || typeof login.password !== 'string') return; // a URL of the operator's own: its password stands
  if (await hasPassword(admin, login, login.user, login.password)) return;
  await admin.query(
    `alter role ${pg.escapeIdentifier(login.user)} password ${pg.escapeLiteral(scramVerifier(login.password))}`,
  );
}

/** Managed servers show nobody the stored verifiers: there the password is tried. */
async function hasPassword(admin: pg.Client, login: pg.ClientConfig, user: string, password: string): Promise<boolean> {
  const allowed = await admin.query("select has_table_privilege('pg_catalog.pg_authid', 'select') as yes");
  if (!allowed.rows[0].yes) return accepts(login);
  const stored = await admin.query('select rolpassword from pg_catalog.pg_authid where rolname = $1', [user]);
  return matchesVerifier(stored.rows[0]?.rolpassword ?? '', password);
}

/** Whether the server takes this password. Which database there is comes up only after that. */
async function accepts(login: pg.ClientConfig): Promise<boolean> {
  try {
    await withClient(login, async () => {});
    return true;
  } catch (error) {
    return [INVALID_CATALOG_NAME, INSUFFICIENT_PRIVILEGE].includes(sqlstateOf(error) ?? '');
  }
}

/** An administrator who is no superuser must be a member of the three owners to create things in their name. */
async function becomeMember(admin: pg.Client): Promise<void> {
  const { rows } = await admin.query('select rolsuper from pg_catalog.pg_roles where rolname = current_user');
  if (rows[0].rolsuper) return;
  await admin.query('grant safetypin_owner, safetypin_keeper, safetypin_definer to current_user');
}
