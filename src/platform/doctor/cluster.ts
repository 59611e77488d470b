// The doctor's checks of how the server keeps data and how many it serves.
import { type Check, listed, ok, rows, settingsOf, type Verdict, warn, wrong } from './check.ts';

const durability: Check = {
  name: 'durability',
  async look({ admin }) {
    const set = await settingsOf(admin, ['fsync', 'full_page_writes', 'synchronous_commit', 'wal_level']);
    const found: Verdict[] = [];
    for (const name of ['fsync', 'full_page_writes']) {
      if (set.get(name) === 'off') found.push(wrong(`${name} is off: a crash destroys the database; set it to on`));
    }
    if (set.get('synchronous_commit') === 'off') {
      found.push(
        wrong('synchronous_commit is off: a crash takes back what was answered, a revocation too; set it to on'),
      );
    }
    if (set.get('wal_level') === 'minimal') {
      found.push(warn('wal_level is minimal: no replica and no restore to a moment; set it to replica'));
    }
    return found.length > 0 ? found : ok('what is committed is kept');
  },
};

/** What one process takes: requests, jobs, and the connections that listen and beat. */
const A_PROCESS = 20;

const connections: Check = {
  name: 'connections',
  async look({ admin }) {
    const set = await settingsOf(admin, [
      'max_connections',
      'superuser_reserved_connections',
      'reserved_connections', // from 16
    ]);
    const number = (name: string) => Number(set.get(name) ?? 0);
    const free = number('max_connections') - number('superuser_reserved_connections') - number('reserved_connections');
    const limited = await rows(
      admin,
      `select rolname as name from pg_catalog.pg_roles
        where rolname in ('safetypin_authenticator', 'safetypin_jobs') and rolconnlimit between 0 and 10
        union all select 'the database' from pg_catalog.pg_database
        where datname = current_database() and datconnlimit between 0 and $1`,
      [A_PROCESS],
    );
    if (limited.length > 0) return wrong(`connections of ${listed(limited)} are limited below what one process needs`);
    const processes = Math.floor(free / A_PROCESS);
    const line = `${free} connections, enough for ${processes} ${processes === 1 ? 'process' : 'processes'} of ours`;
    if (processes < 1)
      return wrong(`${free} connections: one process of ours takes ${A_PROCESS}; raise max_connections`);
    return processes < 2 ? warn(`${line}: a second one needs a larger max_connections or a pooler`) : ok(line);
  },
};

const prepared: Check = {
  name: 'two-phase commit',
  async look({ admin }) {
    const open = await rows(admin, 'select gid as name from pg_catalog.pg_prepared_xacts order by prepared');
    if (open.length > 0) {
      return wrong(`prepared transactions hold locks and old rows for ever: commit or roll back ${listed(open)}`);
    }
    const set = await settingsOf(admin, ['max_prepared_transactions']);
    if (Number(set.get('max_prepared_transactions')) === 0) return ok('no prepared transactions');
    return warn('max_prepared_transactions is not 0: any login can leave locks behind; set it to 0 unless you need it');
  },
};

const replication: Check = {
  name: 'replication',
  async look({ admin }) {
    const found: Verdict[] = [];
    const all = await rows(admin, 'select pubname as name from pg_catalog.pg_publication where puballtables');
    if (all.length > 0) {
      found.push(
        wrong(`publication ${listed(all)} is for all tables, keys and password verifiers too: name the tables instead`),
      );
    }
    const secret = await rows(
      admin,
      `select distinct format('%s.%s in %s', schemaname, tablename, pubname) as name
         from pg_catalog.pg_publication_tables
        where schemaname ~ '_private$'
          and pubname not in (select pubname from pg_catalog.pg_publication where puballtables)`,
    );
    if (secret.length > 0) found.push(wrong(`secrets are published: take out ${listed(secret)}`));
    const idle = await rows(
      admin,
      `select slot_name || coalesce(' (keeps ' ||
         pg_size_pretty(pg_wal_lsn_diff(case when pg_is_in_recovery() then pg_last_wal_replay_lsn()
                                             else pg_current_wal_lsn() end, restart_lsn)) || ')', '') as name
         from pg_catalog.pg_replication_slots where not active`,
    );
    if (idle.length > 0) {
      found.push(warn(`nobody reads from replication slot ${listed(idle)}: drop it before it fills the disk`));
    }
    return found.length > 0 ? found : ok('nothing is published that should not be');
  },
};

export const CLUSTER: readonly Check[] = [durability, connections, prepared, replication];
