import type { DatabaseAccess } from '../../src/platform/access.ts';

/** The PostgreSQL of this run, as tests are told about it. */
export interface TestCluster {
  host: string;
  port: number;
  passwords: Record<string, string>;
  /** Where the functions are noted that tests called. Defaults to nowhere. */
  calls?: string;
}

/** Who connects how to one database of the test server. The administrator starts in `postgres`. */
export function accessTo({ host, port, passwords }: TestCluster, database: string): DatabaseAccess {
  const login = (user: string) => ({ host, port, user, password: passwords[user] ?? '', database });
  return {
    admin: { ...login('postgres'), database: 'postgres' },
    authenticator: login('safetypin_authenticator'),
    jobs: login('safetypin_jobs'),
    auditor: login('safetypin_auditor'),
    database,
    embedded: true,
    lost: new Promise(() => {}),
    async close() {},
  };
}
