// An index that is built concurrently and fails, or is cut off, stays behind: useless, written to by every change, and
// taken for the real one by `if not exists`.
import type pg from 'pg';

/** Drops what an earlier try of this migration left. Only indexes that it names, that are ours and unfinished. */
export async function dropUnfinished(owner: pg.Client, body: string): Promise<void> {
  const { rows } = await owner.query<{ name: string; word: string }>(
    `select i.indexrelid::regclass::text as name, c.relname as word
       from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
      where not i.indisvalid and c.relkind = 'i' and pg_has_role(current_user, c.relowner, 'usage')
        and not exists (select from pg_catalog.pg_stat_progress_create_index p where p.index_relid = i.indexrelid)`,
  );
  for (const { name, word } of rows) {
    if (!names(body, word)) continue;
    await owner.query(`drop index concurrently if exists ${name}`);
  }
}

function names(body: string, word: string): boolean {
  return body.split(/[^\w$\u0080-\uffff]+/).some((found) => found === word || found.toLowerCase() === word);
}
