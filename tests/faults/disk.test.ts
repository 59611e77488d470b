// The disk of the database is full: nobody gets half of anything, and room is all it needs to go on.
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { whenFileEnds } from '../support/cleanup.ts';
import { expectServed, expectWhole, load, WARD } from './clients.ts';
import { startOwnCluster } from './cluster.ts';

/** A small disk, or undefined where this account may mount nothing. */
function smallDisk(): string | undefined {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), 'sp-disk-')));
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=200m,mode=755', 'tmpfs', folder]);
  whenFileEnds(() => {
    if (status === 0) spawnSync('umount', ['-l', folder]);
    rmSync(folder, { recursive: true, force: true });
  });
  return status === 0 ? folder : undefined;
}

describe('a full disk', () => {
  test.for([
    ['of the data: PostgreSQL stays', 'data'],
    ['of the log as well: PostgreSQL may end, and is started again', 'log'],
  ])(
    '%s; clients are told one code, get no half of anything, and go on',
    { timeout: 120_000 },
    async ([_name, what], { skip }) => {
      const disk = smallDisk();
      if (disk === undefined) return skip('this account may mount nothing');
      const dataDirectory = join(disk, 'data');
      mkdirSync(dataDirectory);
      const elsewhere = realpathSync(mkdtempSync(join(tmpdir(), 'sp-wal-')));
      chmodSync(elsewhere, 0o777);
      const own = await startOwnCluster({
        host: WARD,
        dataDirectory,
        settings: { max_wal_size: '32MB', min_wal_size: '32MB', shared_buffers: '16MB' },
        initdbOptions: what === 'data' ? [`--waldir=${join(elsewhere, 'wal')}`] : [],
      });
      whenFileEnds(() => rmSync(elsewhere, { recursive: true, force: true }));
      const ada = await own.api.member('Ada');
      const clients = load(own, ada, 64);
      await sleep(300);
      // Somebody else's file takes all but a little.
      const ballast = join(disk, 'ballast');
      const { bavail, bsize } = statfsSync(disk);
      try {
        writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - 2_000_000)));
      } catch (error) {
        // PostgreSQL took some of it meanwhile: full is full.
        expect(error).toMatchObject({ code: 'ENOSPC' });
      }
      for (let tries = 0; !clients.codes.has('UNAVAILABLE') && tries < 300; tries += 1) await sleep(50);
      await sleep(500);
      // With the log's disk full it ends as soon as a segment of the log is to be made; it may have made enough before.
      if (what === 'data') expect(await own.hasEnded()).toBe(false);
      rmSync(ballast);
      if (await own.hasEnded()) await own.restart();
      await expectServed(own, ada);
      const recovered = clients.written.length;
      await sleep(500);
      await clients.stop();
      expect([...clients.codes.keys()].filter((code) => !['none', 'UNAVAILABLE'].includes(code))).toEqual([]);
      expect(clients.codes.get('UNAVAILABLE')).toBeGreaterThan(0);
      expect(clients.written.length).toBeGreaterThan(recovered);
      expect(own.log()).toContain('No space left on device');
      await expectWhole(own, clients);
    },
  );
});
