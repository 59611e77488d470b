// Every function that a run-time role may execute, from the catalog, and a harmless call of each.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import type { Place } from './place.ts';

export interface Argument {
  readonly name: string;
  readonly type: string;
}

export interface Callable {
  /** Schema and name, quoted. */
  readonly name: string;
  readonly signature: string;
  readonly args: readonly Argument[];
}

export interface Call {
  readonly text: string;
  readonly values: unknown[];
}

/** Functions of ours and of the job queue that a role may execute. */
export async function callable(admin: pg.ClientBase, role: string): Promise<Callable[]> {
  const { rows } = await admin.query<{ name: string; signature: string; names: string[] | null; types: string[] }>(
    `select format('%I.%I', n.nspname, p.proname) as name, p.oid::regprocedure::text as signature,
        p.proargnames as names, array(select format_type(t, null) from unnest(p.proargtypes) with ordinality as u (t, o) order by o) as types
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', 'clinic', 'graphile_migrate')
        and p.prorettype <> 'trigger'::regtype
        and has_schema_privilege($1, n.oid, 'usage') and has_function_privilege($1, p.oid, 'execute')
      order by 2`,
    [role],
  );
  return rows.map(({ name, signature, names, types }) => ({
    name,
    signature,
    args: types.map((type, i) => ({ name: names?.[i] ?? '', type })),
  }));
}

const PASSWORD = { characters: 30, bytes: 30, common: false, context: false };
const ARGON = { memory: 19456, passes: 2, parallelism: 1, length: 32 };

/** A value that a function could be given on a good day. */
export function plain({ name, type }: Argument, place: Place): unknown {
  const byName: Record<string, unknown> = {
    email: 'somebody@example.com',
    password: PASSWORD,
    scheme: 'argon2id',
    parameters: ARGON,
    salt: randomBytes(16),
    permission: 'row.read',
    code: '123456',
    identifier: 'mail__send',
    task: 'mail__send',
    job_key_mode: 'replace',
    metadata: {},
    organization_id: place.ada.organization,
  };
  if (name in byName) return byName[name];
  const byType: Record<string, unknown> = {
    text: 'plain',
    name: 'plain',
    uuid: crypto.randomUUID(),
    'uuid[]': [crypto.randomUUID()],
    oid: 1259,
    anyelement: 'plain',
    bytea: randomBytes(32),
    'bytea[]': [randomBytes(32)],
    'text[]': ['plain'],
    'bigint[]': [1],
    jsonb: {},
    json: {},
    integer: 1,
    bigint: 1,
    boolean: false,
    'timestamp with time zone': new Date(),
    'timestamp with time zone[]': [new Date()],
    'access.memberships': `(${place.ada.organization},${crypto.randomUUID()},${place.ada.id},2026-01-01)`,
    'access.invitations': `(${place.ada.organization},${crypto.randomUUID()},,infinity,open,,,2026-01-01,2026-01-02,)`,
  };
  return byType[type] ?? null;
}

/** The statement that calls a function, with a harmless value for each argument but those given. */
export function callOf(one: Callable, place: Place, given: Readonly<Record<number, unknown>> = {}): Call {
  return {
    text: `select * from ${one.name}(${one.args.map(({ type }, i) => `$${i + 1}::${type}`).join(', ')})`,
    values: one.args.map((argument, i) => (i in given ? given[i] : plain(argument, place))),
  };
}
