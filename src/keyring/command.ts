// `safetypin keys`: what an operator sees of the key tree, and does with it.
import { dirname } from 'node:path';
import type pg from 'pg';
import type { Config } from '../config.ts';
import type { DatabaseAccess } from '../platform/access.ts';
import { OWNER_OPTIONS, retarget, type Say, withClient } from '../platform/connection.ts';
import { StartupError } from '../platform/startup-error.ts';
import { painter } from '../platform/table.ts';
import { type ApplicationKeys, readKeys } from './application-keys.ts';
import { workByHand } from './hand.ts';
import { KeyFile } from './key-file.ts';
import { type KeyProvider, openProvider } from './provider.ts';
import { rotateApplication, rotateRoot, rotateTransport } from './rotate.ts';
import { treeText, workLine } from './show.ts';
import { readTree, unfinished, type Work } from './tree.ts';

interface Tools {
  readonly access: DatabaseAccess;
  readonly config: Config;
  readonly print: Say;
  readonly say: Say;
}

export const LEVELS = ['root', 'application', 'transport'] as const;

/** Shows the tree. */
export async function listKeys({ access, config, print }: Tools): Promise<void> {
  const provider = openProvider(config);
  const problem = await provider.health();
  const tree = await asOwner(access, readTree);
  const paint = painter(process.stdout);
  const held = problem === undefined ? { halves: await provider.halves() } : { problem };
  print(treeText({ tree, provider: { name: provider.name, ...held }, now: new Date(), paint }));
}

/** Replaces a key of one level, and stays until that is done. */
export async function rotateKeys(level: (typeof LEVELS)[number], tools: Tools): Promise<void> {
  await alone(tools, async (owner, provider, keys) => {
    const rotation = { owner, provider, work: () => work(owner, keys, tools) };
    if (level === 'root') await rotateRoot(rotation);
    else if (level === 'application') await rotateApplication(rotation);
    else await rotateTransport(rotation);
    tools.say(`${level}: replaced`);
  });
}

/** Makes a key file; `after` is the one in use, which is left as it is. */
export async function newKeyFile(path: string, after: string | undefined, say: Say): Promise<void> {
  const file = new KeyFile(path, { make: false });
  const made = await (after === undefined ? file.create() : new KeyFile(after, { make: false }).copyWithNext(path));
  if (!made) throw new StartupError(`${path} is there already: no key is written over`);
  say(`made ${path}. Keep a copy where neither the database nor its backups are: without it nothing opens`);
}

/** Writes the wrapped keys to a file, apart from the data and from the application's half. */
export async function exportTo(path: string, { access, config, say }: Tools): Promise<void> {
  const { exportKeys } = await import('./export.ts');
  const provider = openProvider(config);
  if (provider.folder === dirname(path)) {
    throw new StartupError(`${path} would lie beside the application's half, and both together open everything`);
  }
  const count = await asKeeper(access, (keeper) => exportKeys(keeper, path));
  say(`${path} holds ${count} data keys. Keep it apart from backups of the data, and no longer than you must`);
}

/** Takes the keys of such a file, and says what came of it. */
export async function importFrom(path: string, erase: boolean, { access, print }: Tools): Promise<void> {
  const { importKeys } = await import('./import.ts');
  const { added, renewed, unknown, reindex, missing, younger } = await asKeeper(access, (keeper) =>
    importKeys(keeper, path, erase),
  );
  print(`${added} added, ${renewed} renewed`);
  if (unknown > 0) print(`${unknown} of subjects that are neither people nor organizations of this database`);
  if (reindex > 0) print(`${reindex} indexes were made under another key: index their columns anew`);
  if (younger > 0) print(`${younger} keys of this database are younger than the file, and stay`);
  if (missing > 0 && erase) print(`${missing} keys that the file does not have were erased`);
  if (missing > 0 && !erase) {
    print(
      `${missing} keys of this database are not in the file: erased since the backup. --erase erases them here too`,
    );
  }
}

/** Does the works that wait, in the foreground. */
export async function workOnKeys(tools: Tools): Promise<void> {
  await asOwner(tools.access, async (owner) => {
    if ((await unfinished(owner)).length === 0) return tools.say('nothing is to be done');
    await work(owner, await readKeys(openProvider(tools.config)), tools);
    tools.say('all is done');
  });
}

async function work(owner: pg.Client, keys: ApplicationKeys, { access, say }: Tools): Promise<void> {
  const progress = progressOn(process.stderr, say);
  try {
    await workByHand({ access, keys, owner, onProgress: progress.show, say });
  } finally {
    progress.end();
  }
}

/** One line that changes, on a terminal; elsewhere a line for each ten percent. */
function progressOn(stream: NodeJS.WriteStream, say: Say) {
  const paint = painter(stream);
  let last = '';
  return {
    show([first]: readonly Work[]): void {
      if (first === undefined) return;
      const line = workLine(first, new Date(), paint);
      if (stream.isTTY) stream.write(`\r\u001b[K${line}`);
      const step = `${first.id} ${Math.floor((first.percent ?? 0) / 10)} ${first.problem}`;
      if (!stream.isTTY && step !== last) say(line);
      last = step;
    },
    end(): void {
      if (stream.isTTY && last !== '') stream.write('\r\u001b[K');
    },
  };
}

/** One rotation at a time changes what the provider keeps: two would each make a next half. */
async function alone(
  { access, config }: Tools,
  rotate: (owner: pg.Client, provider: KeyProvider, keys: ApplicationKeys) => Promise<void>,
): Promise<void> {
  const provider = openProvider(config);
  const keys = await readKeys(provider);
  await asOwner(access, async (owner) => {
    const { rows } = await owner.query<{ taken: boolean }>(
      "select pg_try_advisory_lock(hashtextextended('safetypin keys rotate', 0)) as taken",
    );
    if (!rows[0]?.taken) throw new StartupError('somebody else is rotating keys of this database now');
    await rotate(owner, provider, keys);
  });
}

const asOwner: <T>(access: DatabaseAccess, work: (client: pg.Client) => Promise<T>) => Promise<T> = (access, work) =>
  withClient(retarget(access.admin, access.database, OWNER_OPTIONS), work);

/** The keeper's tables are for the keeper alone; an administrator may become it. */
const asKeeper: <T>(access: DatabaseAccess, work: (client: pg.Client) => Promise<T>) => Promise<T> = (access, work) =>
  withClient(retarget(access.admin, access.database, '-c role=safetypin_keeper'), work);
