// Keys of an exported file into the database that made it, or a copy of it that was restored from a backup.
import { randomBytes } from 'node:crypto';
import type pg from 'pg';
import { sqlstateOf } from '../platform/errors.ts';
import { StartupError } from '../platform/startup-error.ts';
import { encrypt } from './cipher.ts';
import { contentsOf, type Line, verifyExport } from './export.ts';

export interface Imported {
  added: number;
  /** Were there, under an older root. */
  renewed: number;
  /** In the file: of a subject that is neither a person nor an organization here. */
  unknown: number;
  /** Columns whose index key is another since: their values must be indexed anew. */
  reindex: number;
  /** Here and not in the file, though older than it: erased since the backup. */
  missing: number;
  /** Here, and younger than the file. */
  younger: number;
}

const BATCH = 2_000;
const CONFLICT = 'CNFLT';

/** Takes the keys of a file in one transaction. `erase`: what the file does not have is erased here too. */
export async function importKeys(keeper: pg.ClientBase, path: string, erase: boolean): Promise<Imported> {
  const { made } = await verifyExport(keeper, path);
  const result: Imported = { added: 0, renewed: 0, unknown: 0, reindex: 0, missing: 0, younger: 0 };
  const ids: string[] = [];
  await keeper.query('begin');
  try {
    for await (const lines of batchesOf(path)) {
      const [first] = lines;
      if (first?.key !== undefined) {
        ids.push(...lines.map(({ key }) => String(key)));
        count(result, await call(keeper, 'import_data_keys($1)', [JSON.stringify(lines)]));
      } else if (first?.column !== undefined) {
        const { replaced, ...rest } = await call(keeper, 'import_index_keys($1)', [JSON.stringify(lines)]);
        count(result, { ...rest, reindex: replaced });
      } else {
        await importRoots(keeper, lines);
      }
    }
    count(result, await call(keeper, 'keys_without($1, $2, $3)', [ids, made, erase]));
    await keeper.query("select audit_private.append('key.import', details => $1)", [
      JSON.stringify({ ...result, erase }),
    ]);
    await keeper.query('commit');
    return result;
  } catch (error) {
    await keeper.query('rollback').catch(() => {});
    if (sqlstateOf(error) !== CONFLICT) throw error;
    throw new StartupError(`nothing was taken: ${(error as Error).message}`, { cause: error });
  }
}

/** The database's halves travel sealed: what a log catches of it opens nothing. */
async function importRoots(keeper: pg.ClientBase, lines: readonly Line[]): Promise<void> {
  const { rows } = await keeper.query<{ id: string; key: Buffer }>('select id, key from keyring.transport_key()');
  const [transport] = rows;
  if (transport === undefined) throw new Error('keyring.transport_key() answered nothing');
  const id = Buffer.from(transport.id.replaceAll('-', ''), 'hex');
  const iv = randomBytes(16);
  const aad = Buffer.concat([Buffer.from([4]), id]);
  const { ciphertext, tag } = encrypt(transport.key, iv, Buffer.concat(lines.map(rootOf)), aad);
  const sealed = Buffer.concat([iv, ciphertext, tag]);
  await keeper.query('select keyring_private.import_roots($1, $2)', [transport.id, sealed]);
}

function rootOf({ root, half, application, check, created }: Line): Buffer {
  const bytes = Buffer.alloc(84);
  bytes.writeInt32BE(Number(root), 0);
  Buffer.from(String(half), 'hex').copy(bytes, 4, 0, 32);
  Buffer.from(String(application), 'hex').copy(bytes, 36, 0, 8);
  Buffer.from(String(check), 'hex').copy(bytes, 44, 0, 32);
  bytes.writeBigInt64BE(BigInt(Date.parse(String(created))), 76);
  return bytes;
}

const kindOf = ({ key, column }: Line) => (key !== undefined ? 'key' : column !== undefined ? 'column' : 'root');

/** Lines of one kind, so many at a time; a file has its roots first. */
async function* batchesOf(path: string): AsyncGenerator<Line[]> {
  let batch: Line[] = [];
  for await (const line of contentsOf(path)) {
    const [first] = batch;
    if (first !== undefined && (batch.length === BATCH || kindOf(first) !== kindOf(line))) {
      yield batch;
      batch = [];
    }
    batch.push(line);
  }
  if (batch.length > 0) yield batch;
}

async function call(keeper: pg.ClientBase, sql: string, values: unknown[]): Promise<Record<string, string>> {
  const { rows } = await keeper.query<Record<string, string>>(`select * from keyring_private.${sql}`, values);
  return rows[0] ?? {};
}

function count(result: Imported, more: Record<string, string | undefined>): void {
  for (const [what, so] of Object.entries(more)) result[what as keyof Imported] += Number(so ?? 0);
}
