// Rotations of the key tree, step by step. The rules are keyring.rotate_root(), rotate_application() and
// rotate_transport(); each step can be broken off, and doing the whole again goes on from there.
import type pg from 'pg';
import { sqlstateOf } from '../platform/errors.ts';
import { StartupError } from '../platform/startup-error.ts';
import { halfId, type KeyProvider } from './provider.ts';
import { readTree, unfinished } from './tree.ts';

const CONFLICT = 'CNFLT';
const NO_KEY = 'KEYNO';

interface Rotation {
  /** As safetypin_owner. */
  readonly owner: pg.Client;
  readonly provider: KeyProvider;
  /** Does what there is to do, to its end. */
  readonly work: () => Promise<void>;
}

/** Replaces the database's half; goes on with a rotation that is under way. */
export async function rotateRoot({ owner, work }: Rotation): Promise<void> {
  if (!(await isUnderWay(owner))) await begin(owner, 'select keyring.rotate_root()');
  await work();
}

/** Takes the transport keys back: each process fetches another with its next request. */
export async function rotateTransport({ owner }: Pick<Rotation, 'owner'>): Promise<void> {
  await owner.query('select keyring.rotate_transport()');
}

/**
 * Replaces the application's half: the next one is kept beside it, every process reads both, a new root is bound to the
 * next one and all keys go under it; then the old one is forgotten.
 */
export async function rotateApplication({ owner, provider, work }: Rotation): Promise<void> {
  // A root rotation that is under way first comes to its end.
  if (await isUnderWay(owner)) await work();
  const { current, next = current } = await provider.halves();
  if (next === current || !(await isBound(owner, next))) {
    const prepared = await provider.prepare();
    if (prepared.next === undefined) throw new Error('the provider prepared nothing');
    await begin(owner, 'select keyring.rotate_application($1)', [halfId(prepared.next)]);
    await work();
    await finish(owner, provider, prepared.next);
  } else {
    await finish(owner, provider, next);
  }
}

async function finish(owner: pg.Client, provider: KeyProvider, next: Buffer): Promise<void> {
  const { roots } = await readTree(owner);
  const id = halfId(next).toString('hex');
  // The old half is forgotten for ever: nothing may need it.
  if (!roots.every(({ application }) => application === id))
    throw new StartupError('a root is still bound to the old half');
  await provider.commit(next);
  // Running processes forget it too.
  await rotateTransport({ owner });
}

const isUnderWay = async (owner: pg.Client) => (await unfinished(owner)).some(({ kind }) => kind === 'rewrap');

async function isBound(owner: pg.Client, half: Buffer): Promise<boolean> {
  const id = halfId(half).toString('hex');
  return (await readTree(owner)).roots.some(({ application }) => application === id);
}

async function begin(owner: pg.Client, sql: string, values: unknown[] = []): Promise<void> {
  try {
    await owner.query(sql, values);
  } catch (error) {
    if (sqlstateOf(error) === NO_KEY) {
      throw new StartupError('no server has brought its half to this database yet: start it once', { cause: error });
    }
    if (sqlstateOf(error) !== CONFLICT) throw error;
    throw new StartupError('another rotation is under way: `safetypin keys` shows it', { cause: error });
  }
}
