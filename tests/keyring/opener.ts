// Calls keyring_private.seal and .open as the definer's functions do, many in one query, and says what came of each.
import type pg from 'pg';
import type { Application } from '../support/actors.ts';
import type { TestDatabase } from '../support/database.ts';

export const NONE = '00000000-0000-0000-0000-000000000000';

/** Where a value is said to stand. */
export interface Where {
  readonly column: string;
  readonly organization: string;
  readonly row: string;
}

/** One backend, so that a test can see it live. */
export class Opener {
  readonly client: pg.Client;
  readonly #app: Application;
  readonly #credential: Buffer | null;

  private constructor(client: pg.Client, app: Application, credential: Buffer | null) {
    this.client = client;
    this.#app = app;
    this.#credential = credential;
  }

  /** `credential`: of the person whose requests they are. Defaults to nobody's, for what the definer's functions do. */
  static async beside(db: TestDatabase, app: Application, credential: Buffer | null = null): Promise<Opener> {
    const client = await db.connect('admin');
    // An error takes back its own call only, so that thousands fit into one transaction.
    await client.query(`
      create schema if not exists probe;
      grant usage on schema probe to public;
      create or replace function probe.try_each(call text, columns text[], organizations uuid[], row_ids uuid[], sealed bytea[])
        returns setof text language plpgsql as $$
      declare
        v_one record;
        v_said text;
      begin
        for v_one in select * from unnest(columns, organizations, row_ids, sealed) as t (col, org, row_id, value) loop
          begin
            execute call into v_said using v_one.col, v_one.org, v_one.row_id, v_one.value;
            return next 'opened ' || v_said;
          exception when others then
            return next sqlstate || ' ' || sqlerrm;
          end;
        end loop;
      end $$`);
    return new Opener(client, app, credential);
  }

  /** In an open request, as a role; what was done is kept. */
  async as<T>(role: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
    await this.client.query('begin');
    try {
      await this.client.query("select sessions.open_request($1, $2, '{}')", [
        this.#credential,
        await this.#app.envelopes.seal(this.#credential),
      ]);
      await this.client.query(`set local role ${role}`);
      const result = await work(this.client);
      await this.client.query('commit');
      return result;
    } catch (error) {
      await this.client.query('rollback');
      throw error;
    }
  }

  /** Seals one text at each place for a subject. */
  async seal(text: string, subject: string, places: readonly Where[]): Promise<Buffer[]> {
    const { rows } = await this.as('safetypin_definer', (client) =>
      client.query<{ sealed: Buffer }>(
        `select keyring_private.seal(c, o, r, $4, $5) as sealed
           from unnest($1::text[], $2::uuid[], $3::uuid[]) with ordinality as t (c, o, r, at) order by at`,
        [...columnsOf(places), subject, text],
      ),
    );
    return rows.map(({ sealed }) => sealed);
  }

  /** `opened TEXT`, or the error's code and message, for each value at its place. */
  async open(
    tries: readonly { readonly sealed: Buffer; readonly at: Where }[],
    call = 'select keyring_private.open($1, $2, $3, $4)',
  ): Promise<string[]> {
    const { rows } = await this.as(this.#credential ? 'safetypin_member' : 'safetypin_definer', (client) =>
      client.query<{ said: string }>('select * from probe.try_each($1, $2, $3, $4, $5) as said', [
        call,
        ...columnsOf(tries.map(({ at }) => at)),
        tries.map(({ sealed }) => sealed),
      ]),
    );
    return rows.map(({ said }) => said);
  }

  /** What this backend holds: its own books, and what the system gave it (kB; null where the system does not say). */
  async memory(readStatus: (pid: number) => string | null): Promise<{ contexts: number; resident: number | null }> {
    const { rows } = await this.client.query<{ pid: number; kb: number }>(
      'select pg_backend_pid() as pid, (sum(total_bytes) / 1024)::int as kb from pg_backend_memory_contexts',
    );
    const { pid, kb } = rows[0] as { pid: number; kb: number };
    const resident = /^RssAnon:\s+(\d+) kB/m.exec(readStatus(pid) ?? '')?.[1];
    return { contexts: kb, resident: resident === undefined ? null : Number(resident) };
  }
}

function columnsOf(places: readonly Where[]): [string[], string[], string[]] {
  return [
    places.map(({ column }) => column),
    places.map(({ organization }) => organization),
    places.map(({ row }) => row),
  ];
}
