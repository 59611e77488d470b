// The state of the key tree, as its owner sees it: how many, how old, under what; never a key.
import type pg from 'pg';

/** A root of the tree, and what hangs on it. */
export interface Root {
  readonly root: number;
  /** Which half of the application's it is bound to; null before the first application came. */
  readonly application: string | null;
  readonly created_at: Date;
  readonly data_keys: string;
  readonly retired_keys: string;
  readonly index_keys: string;
  readonly oldest_key: Date | null;
}

/** A work on keys or values. */
export interface Work {
  readonly id: string;
  readonly kind: string;
  readonly column_name: string | null;
  readonly done: string;
  readonly total: string | null;
  readonly percent: number | null;
  readonly created_at: Date;
  readonly updated_at: Date;
  readonly finished_at: Date | null;
  readonly problem: string | null;
}

export interface Tree {
  readonly roots: readonly Root[];
  readonly works: readonly Work[];
  /** When the transport key in use was made; null without one. */
  readonly transport: Date | null;
}

/** Everything about the tree that may be said. */
export async function readTree(owner: pg.Client): Promise<Tree> {
  const { rows: roots } = await owner.query<Root>('select * from keyring.tree()');
  const { rows: works } = await owner.query<Work>('select * from keyring.works()');
  const { rows } = await owner.query<{ created_at: Date | null }>('select created_at from keyring.transport_state()');
  return { roots, works, transport: rows[0]?.created_at ?? null };
}

/** The works that are not over, oldest first. */
export async function unfinished(owner: pg.Client): Promise<readonly Work[]> {
  return (await owner.query<Work>('select * from keyring.works() where finished_at is null')).rows;
}
