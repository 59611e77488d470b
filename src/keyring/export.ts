// Wrapped keys in a file apart from the data. Lines of JSON: what it is, roots, keys of indexes, data keys, and a check
// that only this database, or a copy of it, can make.
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link, open, stat, unlink } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import type pg from 'pg';
import { codeOf, StartupError } from '../platform/startup-error.ts';

export const FORMAT = 1;
const BATCH = 5_000;
const NOTHING = Buffer.alloc(0);

export interface Header {
  readonly safetypin: 'keys';
  readonly version: number;
  readonly database: string;
  readonly made: string;
}

export interface Line {
  readonly root?: number;
  readonly column?: string;
  readonly key?: string;
  readonly [field: string]: unknown;
}

/** What a file made by this database is signed with: of an empty text it is the name of the database. */
async function checkOf(keeper: pg.ClientBase, digest: Buffer): Promise<string> {
  const { rows } = await keeper.query<{ mac: Buffer }>('select keyring_private.export_check($1) as mac', [digest]);
  return rows[0]?.mac.toString('hex') ?? '';
}

/** Writes all keys to a file that is not there yet, as they are at one moment; answers how many data keys. */
export async function exportKeys(keeper: pg.ClientBase, path: string): Promise<number> {
  const draft = `${path}.unfinished`;
  const file = await open(draft, 'wx', 0o600).catch((error: unknown) => {
    throw new StartupError(`${draft} cannot be made: ${codeOf(error)}`, { cause: error });
  });
  const hash = createHash('sha256');
  const write = async (lines: readonly string[]) => {
    if (lines.length === 0) return;
    const text = `${lines.join('\n')}\n`;
    hash.update(text);
    await file.write(text);
  };
  let count = 0;
  try {
    await keeper.query('begin transaction isolation level repeatable read');
    const { rows } = await keeper.query<{ made: string }>('select clock_timestamp()::text as made');
    const header = {
      safetypin: 'keys',
      version: FORMAT,
      database: await checkOf(keeper, NOTHING),
      made: rows[0]?.made,
    };
    await write([JSON.stringify(header)]);
    for (const what of ['export_roots', 'export_index_keys']) {
      const found = await keeper.query<{ line: string }>(`select line from keyring_private.${what}() as line`);
      await write(found.rows.map(({ line }) => line));
    }
    for (let after = '00000000-0000-0000-0000-000000000000'; ; ) {
      const sql = 'select id, line from keyring_private.export_data_keys($1, $2)';
      const found = await keeper.query<{ id: string; line: string }>(sql, [after, BATCH]);
      await write(found.rows.map(({ line }) => line));
      count += found.rows.length;
      after = found.rows.at(-1)?.id ?? after;
      if (found.rows.length < BATCH) break;
    }
    await file.write(`${JSON.stringify({ check: await checkOf(keeper, hash.digest()) })}\n`);
    await keeper.query("select audit_private.append('key.export', details => jsonb_build_object('keys', $1::bigint))", [
      count,
    ]);
    await keeper.query('commit');
    await file.sync();
    // A link never writes over another file.
    await link(draft, path);
  } catch (error) {
    await keeper.query('rollback').catch(() => {});
    if (codeOf(error) === 'EEXIST') throw new StartupError(`${path} is there already`, { cause: error });
    throw error;
  } finally {
    await file.close();
    await unlink(draft);
  }
  return count;
}

/** Reads a file through to its check; throws a StartupError unless this database made it. */
export async function verifyExport(keeper: pg.ClientBase, path: string): Promise<Header> {
  const { mode } = await stat(path).catch((error: unknown) => {
    throw new StartupError(`${path} cannot be read: ${codeOf(error)}`, { cause: error });
  });
  if (mode & 0o077) throw new StartupError(`${path} can be read by others: chmod 600 it`);
  let hash: Hash = createHash('sha256');
  let header: Header | undefined;
  let check: string | undefined;
  for await (const text of linesOf(path)) {
    if (check !== undefined) throw damaged(path);
    const line = parse(text, path);
    header ??= line as unknown as Header;
    if (typeof line.check === 'string' && line.root === undefined) check = line.check;
    else hash = hash.update(`${text}\n`);
  }
  if (header?.safetypin !== 'keys') throw new StartupError(`${path} is no file of keys`);
  if (header.version !== FORMAT) throw new StartupError(`${path} is of format ${header.version}; this is ${FORMAT}`);
  if (header.database !== (await checkOf(keeper, NOTHING))) throw new StartupError(`${path} is of another database`);
  if (check === undefined || check !== (await checkOf(keeper, hash.digest()))) throw damaged(path);
  return header;
}

/** The lines between the first and the last. */
export async function* contentsOf(path: string): AsyncGenerator<Line> {
  let isFirst = true;
  for await (const text of linesOf(path)) {
    const line = parse(text, path);
    if (!isFirst && (line.root !== undefined || line.check === undefined)) yield line;
    isFirst = false;
  }
}

const linesOf = (path: string) =>
  createInterface({ input: createReadStream(path, 'utf8'), crlfDelay: Number.POSITIVE_INFINITY });

const damaged = (path: string) => new StartupError(`${path} is damaged, or was changed: nothing was taken from it`);

function parse(text: string, path: string): Line {
  try {
    const line = JSON.parse(text);
    if (typeof line === 'object' && line !== null) return line;
  } catch {
    // falls through
  }
  throw damaged(path);
}
