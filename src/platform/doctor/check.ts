// What a check of the doctor is, and how it answers.
import type pg from 'pg';
import type { DatabaseAccess } from '../access.ts';

/** `wrong` is to be put right; `warn` is to be known. */
export type Level = 'ok' | 'warn' | 'wrong';

export interface Verdict {
  readonly level: Level;
  /** What was found, and unless it is good what to do about it. */
  readonly line: string;
  /** Production refuses to start with it. */
  readonly unsafe?: true;
}

/** One thing that was looked at. */
export interface Finding extends Verdict {
  readonly check: string;
}

/** What is examined. */
export interface Subject {
  /** The administrator, in our database. */
  readonly admin: pg.Client;
  readonly access: DatabaseAccess;
  /** Whether we were told of a transaction pooler. */
  readonly pooled: boolean;
  readonly now: () => number;
  /** The host's schemas that the API shows. */
  readonly schemas: readonly string[];
}

export interface Check {
  readonly name: string;
  look(subject: Subject): Promise<Verdict | readonly Verdict[]>;
}

export const ok = (line: string): Verdict => ({ level: 'ok', line });
export const warn = (line: string): Verdict => ({ level: 'warn', line });
export const wrong = (line: string): Verdict => ({ level: 'wrong', line });
/** Wrong, and nothing to serve people with. */
export const unsafe = (line: string): Verdict => ({ level: 'wrong', line, unsafe: true });

/** The rows of a query. */
export async function rows<R extends pg.QueryResultRow = Record<string, string>>(
  client: pg.Client,
  sql: string,
  values: unknown[] = [],
): Promise<R[]> {
  return (await client.query<R>(sql, values)).rows;
}

/** The column `name` of every row, for a sentence; a long list is cut. */
export function listed(found: readonly Record<string, unknown>[], column = 'name', most = 6): string {
  const names = found.map((row) => String(row[column]));
  return names.length <= most ? names.join(', ') : `${names.slice(0, most).join(', ')} and ${names.length - most} more`;
}

/** The settings that the names have for whoever asks; unknown ones are missing. */
export async function settingsOf(client: pg.Client, names: readonly string[]): Promise<Map<string, string>> {
  const found = await rows<{ name: string; value: string | null }>(
    client,
    'select name, current_setting(name, true) as value from unnest($1::text[]) as name',
    [names],
  );
  return new Map(found.flatMap(({ name, value }) => (value === null ? [] : [[name, value] as const])));
}

/** The logins that serve people: what they can do, anybody who takes their password can. */
export const LOGINS = ['safetypin_authenticator', 'safetypin_jobs', 'safetypin_auditor'] as const;
export const RUN_TIME = [...LOGINS, 'safetypin_anonymous', 'safetypin_member'] as const;
export const OWNERS = ['safetypin_owner', 'safetypin_keeper', 'safetypin_definer'] as const;
/** Schemas that are not ours to judge. */
export const NOT_SYSTEM = "nspname <> 'information_schema' and nspname !~ '^pg_'";
