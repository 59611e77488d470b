// What must be there when the login of DATABASE_URL may not make it: one line for what is missing.
import type pg from 'pg';
import { OWNERS, rows } from '../doctor/check.ts';
import { provisionedFindings } from '../doctor/roles.ts';
import { sqlstateOf } from '../errors.ts';
import { StartupError } from '../startup-error.ts';

const CURE = 'let an administrator run the SQL that `safetypin provision` prints';
const INSUFFICIENT_PRIVILEGE = '42501';

/** Roles as they must be, their passwords, and the right to create in the name of the owners. */
export async function requireProvisioned(admin: pg.Client, closed: readonly string[]): Promise<void> {
  const [me] = await rows<{ name: string; version: number }>(
    admin,
    "select current_user::text as name, current_setting('server_version_num')::int as version",
  );
  const problems = (await provisionedFindings(admin)).map(({ line }) => line);
  if (problems.length === 0) {
    const right = (me?.version ?? 0) >= 160_000 ? 'set' : 'member';
    const foreign = await rows(
      admin,
      'select name from unnest($1::text[]) as name where not pg_has_role(current_user, name, $2)',
      [OWNERS, right],
    );
    if (foreign.length > 0) {
      const names = foreign.map(({ name }) => name).join(', ');
      problems.push(`it is no member of ${names} (grant ${names} to ${me?.name})`);
    }
  }
  if (problems.length === 0 && closed.length > 0) {
    const cure = 'let an administrator run what `safetypin provision --with-passwords` prints';
    throw new StartupError(`${closed.join(', ')} do not have the passwords of secrets.json: ${cure}`);
  }
  if (problems.length === 0) return;
  throw new StartupError(`${me?.name} may not make roles, and ${problems.join('; ')}: ${CURE}`);
}

/** A database that was there before: its texts must be UTF8, and the owner must be able to create in it. */
export async function requireDatabase(admin: pg.Client, database: string): Promise<void> {
  const [found] = await rows<{ encoding: string; creates: boolean; name: string }>(
    admin,
    `select pg_encoding_to_char(encoding) as encoding, quote_ident(datname) as name,
       has_database_privilege('safetypin_owner', oid, 'create') as creates
       from pg_catalog.pg_database where datname = $1`,
    [database],
  );
  if (!found) return;
  if (found.encoding !== 'UTF8') {
    throw new StartupError(
      `database ${database} keeps texts as ${found.encoding}: give DATABASE_URL another name and migrate makes one with UTF8`,
    );
  }
  if (found.creates) return;
  try {
    await admin.query(`grant create on database ${found.name} to safetypin_owner`);
  } catch (error) {
    if (sqlstateOf(error) !== INSUFFICIENT_PRIVILEGE) throw error;
  }
  // Granting what one may not grant can also be a mere warning.
  const [now] = await rows<{ creates: boolean }>(
    admin,
    "select has_database_privilege('safetypin_owner', $1, 'create') as creates",
    [database],
  );
  if (now?.creates) return;
  throw new StartupError(
    `safetypin_owner may not create in database ${database}: let its owner run: alter database ${found.name} owner to safetypin_owner`,
  );
}
