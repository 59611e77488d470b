// The doctor's checks of the pooler, when there is one between us and the server.
import { type Check, ok, unsafe, type Verdict, warn, wrong } from './check.ts';
import { poolerFlawsOf } from './flaws.ts';
import { isPooled, poolingOf, readConsole } from './pooler.ts';

const pooler: Check = {
  name: 'pooler',
  async look({ access, admin, pooled }) {
    const found: Verdict[] = [];
    if (await isPooled(admin)) {
      found.push(
        unsafe('DATABASE_URL leads through a pooler: give it the server itself, and the pooler as DATABASE_POOLER_URL'),
      );
    }
    const config = access.authenticator;
    const { mode, leaves } = await poolingOf(config);
    if (mode === 'none') {
      if (pooled) found.push(warn('there is no pooler, so statements could have names: unset DATABASE_POOLED'));
      return found.length > 0 ? found : ok('direct connections');
    }
    if (mode === 'session') found.push(ok('a pooler in session mode: as good as direct connections'));
    else if (!pooled) found.push(unsafe('requests pass a pooler in transaction mode: set DATABASE_POOLED=on'));
    if (leaves) {
      found.push(
        wrong(
          'what one client leaves in a connection meets the next: set server_reset_query_always = 1, or keep the pool for this application alone',
        ),
      );
    }
    const console = await readConsole(access);
    if (!console) {
      found.push(
        warn(
          "PgBouncer's console is closed to this login: look yourself that it is 1.26.1 or newer (stats_users opens it)",
        ),
      );
      return found;
    }
    const flaws = poolerFlawsOf(console.version);
    if (flaws.length > 0)
      found.push(warn(`PgBouncer ${console.version} has ${flaws.join(', ')}: update to 1.26.1 or newer`));
    if (mode === 'transaction' && Number(console.settings.get('max_prepared_statements') ?? 0) > 0) {
      found.push(wrong('PgBouncer keeps named statements for its clients: set max_prepared_statements = 0'));
    }
    if (console.settings.get('server_tls_sslmode') === 'disable' && !access.admin.host?.startsWith('/')) {
      found.push(warn('PgBouncer reaches the server without TLS: set server_tls_sslmode = verify-full'));
    }
    return found.length > 0 ? found : ok(`PgBouncer ${console.version}, set as it should be`);
  },
};

export const POOLER: readonly Check[] = [pooler];
