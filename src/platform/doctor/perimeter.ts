// The doctor's checks of what leaves the server: the line to it, how passwords are kept, what its log shows.
import type pg from 'pg';
import { withClient } from '../connection.ts';
import { type Check, LOGINS, listed, ok, rows, settingsOf, unsafe, type Verdict, warn, wrong } from './check.ts';

const encryption: Check = {
  name: 'encryption',
  async look({ admin, access }) {
    const [line] = await rows<{ version: string | null; over: 'socket' | 'loopback' | 'network'; ssl: string }>(
      admin,
      `select (select version from pg_catalog.pg_stat_ssl where pid = pg_backend_pid()) as version,
         case when inet_client_addr() is null then 'socket'
              when inet_client_addr() << '127.0.0.0/8' or inet_client_addr() = '::1' then 'loopback'
              else 'network' end as over,
         current_setting('ssl') as ssl`,
    );
    if (line?.version) {
      const { ssl } = access.admin;
      if (typeof ssl === 'object' && ssl.rejectUnauthorized === false) {
        return warn('encrypted, but the certificate is not checked: say sslmode=verify-full in DATABASE_URL');
      }
      return ok(`the connection is encrypted (${line.version})`);
    }
    if (line?.over === 'socket') return ok('the connection stays on this machine (a socket)');
    if (line?.over === 'loopback') return warn('not encrypted, on this machine only: use TLS on any other');
    const cure = line?.ssl === 'on' ? '' : 'switch ssl on at the server, and ';
    return unsafe(`the connection to the server is not encrypted: ${cure}say sslmode=verify-full in DATABASE_URL`);
  },
};

const admission: Check = {
  name: 'admission',
  async look({ admin }) {
    const rules = await rows<{ name: string; kind: string; method: string; far: boolean }>(
      admin,
      `select format('line %s (%s %s)', line_number, type, auth_method) as name, type as kind, auth_method as method,
         type <> 'local' and coalesce(address, '') not in ('127.0.0.1', '::1', 'localhost', 'samehost') as far
         from pg_catalog.pg_hba_file_rules where error is null and auth_method <> 'reject'`,
    ).catch(() => null);
    if (!rules) return ok('pg_hba.conf is not for this login to read');
    const found: Verdict[] = [];
    const trusting = rules.filter(({ method }) => method === 'trust');
    if (trusting.length > 0) {
      found.push(wrong(`pg_hba.conf lets people in without a password: ${listed(trusting)}; use scram-sha-256`));
    }
    const plain = rules.filter(({ method }) => method === 'password');
    if (plain.length > 0)
      found.push(wrong(`pg_hba.conf asks for passwords in clear: ${listed(plain)}; use scram-sha-256`));
    const weak = rules.filter(({ method }) => method === 'md5');
    if (weak.length > 0) found.push(warn(`pg_hba.conf still accepts md5: ${listed(weak)}; use scram-sha-256`));
    const open = rules.filter(({ kind, far }) => far && !['hostssl', 'hostgssenc'].includes(kind));
    if (open.length > 0) found.push(warn(`pg_hba.conf lets others in without TLS: ${listed(open)}; use hostssl`));
    return found.length > 0 ? found : ok('pg_hba.conf asks everybody for a SCRAM password');
  },
};

const passwords: Check = {
  name: 'passwords',
  async look({ admin }) {
    const set = await settingsOf(admin, ['password_encryption']);
    const kind = set.get('password_encryption');
    if (kind !== 'scram-sha-256')
      return wrong(`new passwords are kept as ${kind}: set password_encryption to scram-sha-256`);
    const weak = await rows(
      admin,
      "select rolname as name from pg_catalog.pg_authid where rolpassword like 'md5%' order by 1",
    ).catch(() => []);
    if (weak.length > 0) return wrong(`the passwords of ${listed(weak)} are kept as md5: set them again`);
    return ok('passwords are kept as SCRAM-SHA-256');
  },
};

/** What prints the values of statements, and with them secrets on their way; and what is to be set instead. */
const PRINTS: Readonly<Record<string, { said: string; silent: readonly string[]; cure: string }>> = {
  ...Object.fromEntries(
    ['log_parameter_max_length', 'log_parameter_max_length_on_error', 'auto_explain.log_parameter_max_length'].map(
      (setting) => [setting, { said: 'bind parameters', silent: ['0', '0B', ''], cure: '0' }],
    ),
  ),
  'pgaudit.log_parameter': { said: 'bind parameters', silent: ['off', ''], cure: 'off' },
  // In a plan that was made for them, parameters are constants, and a plan in full has them all.
  'auto_explain.log_verbose': { said: 'bind parameters in plans', silent: ['off', '0', ''], cure: 'off' },
  debug_print_plan: { said: 'bind parameters in plans', silent: ['off'], cure: 'off' },
};

const logging: Check = {
  name: 'log',
  async look({ admin, access }) {
    const found: Verdict[] = [];
    // As each login, since a role can have settings of its own.
    const logins = [access.authenticator, access.jobs, access.auditor];
    const [loud, closed] = await loudLogins(logins);
    for (const [setting, who] of loud) {
      const { said, cure } = PRINTS[setting] as (typeof PRINTS)[string];
      found.push(unsafe(`the log shows ${said}, and secrets in them (${who.join(', ')}): set ${setting} to ${cure}`));
    }
    for (const line of closed) found.push(unsafe(line));
    const set = await settingsOf(admin, [
      'log_statement',
      'auto_explain.log_min_duration',
      'debug_print_parse',
      'debug_print_rewritten',
    ]);
    if (['mod', 'all'].includes(set.get('log_statement') ?? '')) {
      found.push(
        warn(
          `log_statement is ${set.get('log_statement')}: what people type into psql stays in the log; set it to ddl`,
        ),
      );
    }
    if (!['-1', '', undefined].includes(set.get('auto_explain.log_min_duration'))) {
      found.push(
        warn(
          'auto_explain writes plans into the log, and in them what slow statements compare with: set auto_explain.log_min_duration to -1, or compare no sealed value',
        ),
      );
    }
    const printed = [...set].filter(([name, value]) => name.startsWith('debug_') && value === 'on');
    if (printed.length > 0) {
      found.push(
        wrong(`the log shows values inside of statements: set ${printed.map(([name]) => name).join(', ')} to off`),
      );
    }
    return found.length > 0 ? found : ok('bind parameters are kept out of the log');
  },
};

/** Which settings print parameters for whom, and which logins do not come in. */
async function loudLogins(logins: readonly pg.ClientConfig[]): Promise<[Map<string, string[]>, string[]]> {
  const loud = new Map<string, string[]>();
  const closed: string[] = [];
  for (const [i, login] of logins.entries()) {
    const name = LOGINS[i] ?? '';
    try {
      const set = await withClient(login, (client) => settingsOf(client, Object.keys(PRINTS)));
      for (const [setting, value] of set) {
        if (!PRINTS[setting]?.silent.includes(value)) loud.set(setting, [...(loud.get(setting) ?? []), name]);
      }
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      closed.push(`${name} cannot sign in (${reason}): npm run migrate:up sets its password`);
    }
  }
  return [loud, closed];
}

export const PERIMETER: readonly Check[] = [encryption, admission, passwords, logging];
