// A PostgreSQL of a test's own, for what would disturb the one that all share.
import { inject } from 'vitest';
import { type EmbeddedCluster, type EmbeddedOptions, startEmbedded } from '../../src/platform/embedded/embedded.ts';
import { binariesOf } from '../versions/servers.ts';

/** Starts one of the version that this run is about. Whoever starts it stops it. */
export async function startPostgres(options: EmbeddedOptions): Promise<EmbeddedCluster> {
  return startEmbedded({ ...options, binaries: await binariesOf(inject('postgres')) });
}
