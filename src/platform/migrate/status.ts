// `safetypin status`: which migrations a database has, against those of this clone. Changes nothing.
import type pg from 'pg';
import type { DatabaseAccess } from '../access.ts';
import { retarget, withClient } from '../connection.ts';
import { sqlstateOf } from '../errors.ts';
import { type Applied, appliedMigrations, committedMigrations, MIGRATIONS_FOLDER } from './migrations.ts';

export interface MigrationState {
  readonly filename: string;
  /** `run`, not run yet, run with other text than this clone has, or unknown to this clone. */
  readonly state: 'run' | 'unrun' | 'changed' | 'unknown';
  readonly hash: string;
  readonly appliedAt: Date | null;
}

const NO_DATABASE = '3D000';

/** Every migration of this clone and of the database, in order; without a database none has run. */
export async function databaseStatus(
  access: DatabaseAccess,
  folder: string = MIGRATIONS_FOLDER,
): Promise<MigrationState[]> {
  try {
    return await withClient(retarget(access.admin, access.database), (client) => migrationStates(client, folder));
  } catch (error) {
    if (sqlstateOf(error) !== NO_DATABASE) throw error;
    return compare([], await committedMigrations(folder));
  }
}

export async function migrationStates(
  client: pg.Client,
  folder: string = MIGRATIONS_FOLDER,
): Promise<MigrationState[]> {
  return compare(await appliedMigrations(client), await committedMigrations(folder));
}

function compare(applied: readonly Applied[], wanted: readonly { filename: string; hash: string }[]): MigrationState[] {
  const names = [...new Set([...applied, ...wanted].map(({ filename }) => filename))].sort();
  return names.map((filename) => {
    const ran = applied.find((row) => row.filename === filename);
    const file = wanted.find((row) => row.filename === filename);
    const state = !ran ? 'unrun' : !file ? 'unknown' : ran.hash === file.hash ? 'run' : 'changed';
    return { filename, state, hash: ran?.hash ?? file?.hash ?? '', appliedAt: ran?.date ?? null };
  });
}

/** 0: up to date. 1: some have not run. 2: the database has others than this clone. */
export function summary(states: readonly MigrationState[]): { line: string; exitCode: 0 | 1 | 2 } {
  const count = (...kinds: MigrationState['state'][]) => states.filter(({ state }) => kinds.includes(state)).length;
  const total = states.length - count('unknown');
  const line = `${count('run')} of ${total} committed migrations have run`;
  const strangers = states.filter(({ state }) => state === 'changed' || state === 'unknown');
  if (strangers.length > 0) {
    const names = strangers.map(({ filename, state }) => `${filename} (${state})`).join(', ');
    return { line: `${line}; the database has others than this clone: ${names}`, exitCode: 2 };
  }
  return { line, exitCode: count('unrun') > 0 ? 1 : 0 };
}
