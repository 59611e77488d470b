// The doctor looks through PgBouncer: how it pools, what it leaves between clients, how old it is (PG-55, F10).
import { describe, expect, test } from 'vitest';
import { connectionUrl } from '../../src/platform/connection.ts';
import { examine } from '../../src/platform/doctor/doctor.ts';
import { poolingOf } from '../../src/platform/doctor/pooler.ts';
import { migrate } from '../../src/platform/migrate/migrate.ts';
import { cloneDatabase } from '../support/database.ts';
import { hasPgbouncer, startPooler } from './pgbouncer.ts';

describe.skipIf(!hasPgbouncer)('behind PgBouncer', async () => {
  const db = await cloneDatabase();
  const linesThrough = async (config: typeof db.access.authenticator, pooled: boolean) => {
    const findings = await examine({ ...db.access, authenticator: config }, { only: 'pooler', pooled });
    return findings.map(({ level, line, unsafe }) => `${level}${unsafe ? ' (unsafe)' : ''}: ${line}`);
  };

  test('nothing in between', async () => {
    expect(await linesThrough(db.access.authenticator, false)).toEqual(['ok: direct connections']);
    expect(await linesThrough(db.access.authenticator, true)).toEqual([
      'warn: there is no pooler, so statements could have names: unset DATABASE_POOLED',
    ]);
  });

  test('PG-55 as one finds it: not told of, and what one client leaves meets the next', async () => {
    const pooler = await startPooler({ db, size: 3, kind: 'naive', extra: 'stats_users = safetypin_authenticator' });
    expect(await poolingOf(pooler.config)).toEqual({ mode: 'transaction', leaves: true });
    const lines = await linesThrough(pooler.config, false);
    expect(lines[0]).toBe('wrong (unsafe): requests pass a pooler in transaction mode: set DATABASE_POOLED=on');
    expect(lines[1]).toContain(
      'wrong: what one client leaves in a connection meets the next: set server_reset_query_always = 1',
    );
    expect(lines.slice(2).join('\n')).toMatch(/^(warn: PgBouncer [\d.]+ has CVE-.*: update to 1\.26\.1 or newer|)/);
    expect(lines.join('\n')).not.toContain('console is closed');
  });

  test('PG-55 with the recommended file: only its age and its closed console are left to say', async () => {
    const pooler = await startPooler({ db, size: 3, kind: 'recommended' });
    expect(await poolingOf(pooler.config)).toEqual({ mode: 'transaction', leaves: false });
    expect(await linesThrough(pooler.config, true)).toEqual([
      expect.stringMatching(/^warn: PgBouncer's console is closed to this login/),
    ]);
  });

  test('in session mode it is as good as none', async () => {
    const pooler = await startPooler({
      db,
      size: 3,
      kind: 'naive',
      extra: 'pool_mode = session\nstats_users = safetypin_authenticator',
    });
    expect(await poolingOf(pooler.config)).toEqual({ mode: 'session', leaves: false });
    expect((await linesThrough(pooler.config, false))[0]).toBe(
      'ok: a pooler in session mode: as good as direct connections',
    );
  });

  test('a migration through it is refused with one line', async () => {
    const pooler = await startPooler({ db, size: 3, kind: 'naive' });
    expect(connectionUrl(pooler.config)).toContain(String(pooler.port));
    // PgBouncer knows the API's login here; that nobody migrates as that one does not matter: it is refused before.
    await expect(migrate({ ...db.access, admin: pooler.config }, () => {})).rejects.toThrow(
      /^DATABASE_URL leads through a pooler: give it the address of the server itself, and the pooler as DATABASE_POOLER_URL$/,
    );
  });
});
