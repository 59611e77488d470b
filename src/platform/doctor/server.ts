// The doctor's checks of the server itself: version, encoding, migrations, clock.

import { migrationStates, summary } from '../migrate/status.ts';
import { type Check, ok, rows, unsafe, type Verdict, warn, wrong } from './check.ts';
import { flawsOf } from './flaws.ts';

const NEWEST = 18;
const OLDEST = 15;

/** What there is to say about a version, as server_version_num. */
export function judgeVersion(version: number): Verdict {
  const major = Math.floor(version / 10_000);
  const name = `PostgreSQL ${major}.${version % 10_000}`;
  if (major < OLDEST) return wrong(`${name}: SafetyPin needs ${OLDEST} to ${NEWEST}`);
  if (major > NEWEST) return warn(`${name}: SafetyPin was tried with ${OLDEST} to ${NEWEST} only`);
  const known = flawsOf(version);
  if (!known) return ok(name);
  const line = `${name} has ${known.flaws} (${known.gain}): update to ${known.update} or newer`;
  return known.forbidden ? wrong(line) : warn(line);
}

const version: Check = {
  name: 'version',
  async look({ admin }) {
    const [row] = await rows<{ version: number }>(
      admin,
      "select current_setting('server_version_num')::int as version",
    );
    return judgeVersion(row?.version ?? 0);
  },
};

const encoding: Check = {
  name: 'encoding',
  async look({ admin }) {
    const [row] = await rows(admin, "select current_setting('server_encoding') as name");
    if (row?.name === 'UTF8') return ok('texts are UTF8');
    return wrong(`texts are ${row?.name}: make a new database with encoding UTF8 and move the data`);
  },
};

const migrated: Check = {
  name: 'migrations',
  async look({ admin }) {
    const { line, exitCode } = summary(await migrationStates(admin));
    if (exitCode === 0) return ok(line);
    return wrong(exitCode === 1 ? `${line}: npm run migrate:up` : line);
  },
};

const clock: Check = {
  name: 'clock',
  async look({ admin, now }) {
    const before = now();
    const [row] = await rows<{ at: number }>(
      admin,
      'select (extract(epoch from clock_timestamp()) * 1000)::float8 as at',
    );
    const after = now();
    const apart = (row?.at ?? 0) - (before + after) / 2;
    const said = `${(Math.abs(apart) / 1000).toFixed(1)} s ${apart < 0 ? 'behind' : 'ahead of'} ours`;
    if (Math.abs(apart) <= 1000) return ok('the clocks of the server and of this machine agree');
    const line = `the server's clock is ${said}: run a time service (chrony, systemd-timesyncd) on both`;
    return Math.abs(apart) > 5000 ? wrong(`${line}; tokens and codes are refused meanwhile`) : warn(line);
  },
};

/** Words that stand in examples and are tried first by everybody. */
const EXAMPLES = new Set([
  'password',
  'postgres',
  'postgresql',
  'administrator',
  'admin',
  'root',
  'secret',
  'changeme',
  'change-me',
  'changeit',
  'example',
  'safetypin',
  'test',
  'hunter2',
  '123456',
  '12345678',
  'qwerty',
  'letmein',
  'pass',
  '',
]);

const secrets: Check = {
  name: 'secrets',
  async look({ access }) {
    const logins = [access.admin, access.authenticator, access.jobs, access.auditor];
    const weak = logins.filter(
      ({ user, password }) =>
        typeof password === 'string' &&
        (EXAMPLES.has(password.toLowerCase()) || password === user || password.toLowerCase() === access.database),
    );
    if (weak.length === 0) return ok('no login has a password out of an example');
    const names = [...new Set(weak.map(({ user }) => user))].join(', ');
    return unsafe(`the password of ${names} is one out of an example: choose another`);
  },
};

export const SERVER: readonly Check[] = [version, encoding, migrated, clock, secrets];
