/**
 * The supervisor of the embedded PostgreSQL: makes the cluster at the first start, runs the server on a unix socket
 * that only we reach, and stops it in whatever way we end.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Claim, claimOrRefuse } from '../claim.ts';
import { openDataDirectory, placeCluster, rememberCluster, setAside } from '../data-directory.ts';
import { loadSecrets } from '../secrets.ts';
import { StartupError } from '../startup-error.ts';
import { serverAccount } from './account.ts';
import { shippedBinaries, usableBinaries } from './binaries.ts';
import { makeCluster, versionOfCluster } from './cluster.ts';
import { clearLeftovers } from './leftover.ts';
import { launch, type Place, untilReady } from './postmaster.ts';

export interface EmbeddedOptions {
  /** Holds the cluster, its secrets and its log. */
  readonly dataDirectory: string;
  /** The right to it, when it is held already. Defaults to taking it until the server stops. */
  readonly claim?: Claim;
  /** Settings of PostgreSQL beside our own. Defaults to none. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Options of initdb beside our own. Defaults to none. */
  readonly initdbOptions?: readonly string[];
  /** A folder with bin, lib and share. Defaults to the PostgreSQL that npm installed. */
  readonly binaries?: string;
  /** Ends the start, when it is aborted before the server is ready. */
  readonly signal?: AbortSignal;
  readonly say?: (line: string) => void;
}

export interface EmbeddedCluster {
  readonly dataDirectory: string;
  readonly socketDirectory: string;
  readonly port: number;
  readonly superuserPassword: string;
  /** Settles when the server ends without having been told to, with what is known about it. */
  readonly lost: Promise<string>;
  stop(): Promise<void>;
}

/** Starts the embedded PostgreSQL of a data directory, which it makes when there is none. */
export async function startEmbedded(o: EmbeddedOptions): Promise<EmbeddedCluster> {
  const say = o.say ?? (() => {});
  const dataDirectory = openDataDirectory(o.dataDirectory);
  const claim = o.claim ?? (await claimOrRefuse(dataDirectory));
  try {
    const cluster = placeCluster(dataDirectory);
    const account = serverAccount(cluster);
    const binaries = usableBinaries(o.binaries ?? shippedBinaries(), account, dataDirectory, say);
    await clearLeftovers(dataDirectory, cluster, say);
    setAside(dataDirectory, cluster, say);
    const password = await prepare(o, { dataDirectory, cluster, account, binaries, say });
    o.signal?.throwIfAborted();
    const server = launch({ dataDirectory, cluster, account, binaries }, o.settings);
    try {
      await untilReady(server, password, say, o.signal);
    } catch (error) {
      await server.stop();
      throw error;
    }
    const stop = async () => {
      await server.stop();
      if (!o.claim) claim.release();
    };
    return {
      dataDirectory,
      socketDirectory: server.socketDirectory,
      port: server.port,
      superuserPassword: password,
      lost: server.lost,
      stop,
    };
  } catch (error) {
    if (!o.claim) claim.release();
    throw error;
  }
}

/** Makes the cluster when there is none, and answers the administrator's password. */
async function prepare(o: EmbeddedOptions, place: Place & { say: (line: string) => void }): Promise<string> {
  const { dataDirectory, cluster, account, binaries, say } = place;
  const version = versionOfCluster(cluster);
  if (version !== undefined && version !== String(binaries.major)) {
    const cure = `start with the SafetyPin that made it, or remove ${dataDirectory} to begin anew`;
    throw new StartupError(`${cluster} was made by PostgreSQL ${version}, this is ${binaries.major}: ${cure}`);
  }
  if (version !== undefined && !existsSync(join(dataDirectory, 'secrets.json'))) {
    const cure = 'restore them, or remove the folder to begin anew';
    throw new StartupError(`${dataDirectory} has a database but its passwords, secrets.json, are missing: ${cure}`);
  }
  const password = loadSecrets(dataDirectory).postgres;
  if (version === undefined) {
    const started = Date.now();
    const options = o.initdbOptions ?? [];
    await makeCluster({ cluster, binaries, account, password, options, signal: o.signal });
    rememberCluster(dataDirectory, cluster, say);
    say(`made a PostgreSQL ${binaries.major} database in ${((Date.now() - started) / 1000).toFixed(1)} s`);
  }
  return password;
}
