// What only an administrator can do: roles, the logins' passwords, the database, extensions, server settings.
// All of it idempotent; the caller holds the lock.
import { readFile } from 'node:fs/promises';
import pg from 'pg';
import type { DatabaseAccess } from './access.ts';
import { retarget, type Say, withClient } from './connection.ts';
import { sqlstateOf } from './errors.ts';
import { matchesVerifier, scramVerifier } from './scram.ts';

const INVALID_CATALOG_NAME = '3D000';
const INSUFFICIENT_PRIVILEGE = '42501';

/** A file under sql/ as text. */
export function readSql(path: string): Promise<string> {
  return readFile(new URL(`../../sql/${path}`, import.meta.url), 'utf8');
}

/** Creates the roles and sets the passwords of the logins as SCRAM verifiers. */
export async function provisionRoles(access: DatabaseAccess, admin: pg.Client): Promise<void> {
  await inTransaction(admin, async () => {
    await admin.query(await readSql('platform/roles.sql'));
    for (const login of [access.authenticator, access.jobs, access.auditor]) await setPassword(admin, login);
    await becomeMember(admin);
  });
}

/** Creates the database if there is none; true when it did. */
export async function provisionDatabase(admin: pg.Client, database: string): Promise<boolean> {
  const found = await admin.query('select from pg_catalog.pg_database where datname = $1', [database]);
  if (found.rowCount) return false;
  await admin.query(
    `create database ${pg.escapeIdentifier(database)} owner safetypin_owner encoding 'UTF8' template template0`,
  );
  return true;
}

/**
 * Extensions, and what `create database … template` does not copy: the database's own grants and settings.
 * The client is connected to that database.
 */
export async function provisionContents(admin: pg.Client, database: string, say: Say): Promise<void> {
  await inTransaction(admin, async () => admin.query(await readSql('platform/extensions.sql')));
  const refused: string[] = [];
  for (const setting of SILENT) if (!(await silence(admin, database, setting))) refused.push(setting);
  if (refused.length > 0) {
    say(`let an administrator of the server set ${refused.join(' and ')} to 0: its log could show secrets`);
  }
}

/** Stock logging prints bind parameters of slow or failed statements, and with them secrets on their way. */
const SILENT = [
  'log_parameter_max_length',
  'log_parameter_max_length_on_error',
  'auto_explain.log_parameter_max_length',
];

/** Answers false where that is not ours to set and has another value. */
async function silence(admin: pg.Client, database: string, setting: string): Promise<boolean> {
  try {
    await admin.query(`alter database ${pg.escapeIdentifier(database)} set ${setting} = 0`);
    return true;
  } catch (error) {
    if (sqlstateOf(error) !== INSUFFICIENT_PRIVILEGE) throw error;
    const { rows } = await admin.query('select current_setting($1, true) as value', [setting]);
    // Empty: auto_explain is not loaded, and only its name was ever mentioned.
    return ['0', '', null].includes(rows[0].value);
  }
}

/** A connection to the maintenance database, or to our own where that is all the administrator may reach. */
export async function withMaintenance<T>(access: DatabaseAccess, work: (client: pg.Client) => Promise<T>): Promise<T> {
  try {
    return await withClient(retarget(access.admin, 'postgres'), work);
  } catch (error) {
    if (sqlstateOf(error) !== INVALID_CATALOG_NAME) throw error;
    return await withClient(retarget(access.admin, access.database), work);
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
  if (await hasPassword(admin, login.user, login.password)) return;
  await admin.query(
    `alter role ${pg.escapeIdentifier(login.user)} password ${pg.escapeLiteral(scramVerifier(login.password))}`,
  );
}

async function hasPassword(admin: pg.Client, user: string, password: string): Promise<boolean> {
  const allowed = await admin.query("select has_table_privilege('pg_catalog.pg_authid', 'select') as yes");
  if (!allowed.rows[0].yes) return false;
  const stored = await admin.query('select rolpassword from pg_catalog.pg_authid where rolname = $1', [user]);
  return matchesVerifier(stored.rows[0]?.rolpassword ?? '', password);
}

/** An administrator who is no superuser must be a member of the three owners to create things in their name. */
async function becomeMember(admin: pg.Client): Promise<void> {
  const { rows } = await admin.query('select rolsuper from pg_catalog.pg_roles where rolname = current_user');
  if (rows[0].rolsuper) return;
  await admin.query('grant safetypin_owner, safetypin_keeper, safetypin_definer to current_user');
}
