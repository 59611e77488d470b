import type { WithPgClient } from 'postgraphile/@dataplan/pg';

/** A sealed column of a table that the API may see: what keyring.doors() says, with the functions made for it. */
export interface Door {
  /** The sealed column's own uuid: what its values are bound to. */
  readonly id: string;
  /** Tables by oid: the table itself and its partitions. */
  readonly relations: readonly string[];
  readonly door: string;
  readonly sealed: string;
  readonly index_a: string | null;
  readonly index_b: string | null;
  readonly row_id: string | null;
  /** The columns that name a row together, each with the function that gives its binary form. */
  readonly row_keys: readonly { readonly name: string; readonly schema: string; readonly send: string }[];
  /** The type of the value; the column's own is text. */
  readonly type: string;
  readonly permission: string | null;
  readonly required: boolean;
  readonly refusal: 'null' | 'error';
  /** Functions by oid that take a row and read the sealed column: SQL's way to the value. */
  readonly readers: readonly string[];
  /** Functions by oid that take one text and look in the index. */
  readonly finders: readonly string[];
}

// Readers and finders are known by what they depend on: names change, and PostgreSQL keeps dependencies through that.
const DOORS = `
  select d.id::text, d.door, d.sealed, d.index_a, d.index_b, d.row_id, to_regtype(d.type)::oid::text as type,
      d.permission, d.required, d.refusal,
      (select jsonb_agg(r.relid::oid::text) from (
        select d.relation as relid union select relid from pg_partition_tree(d.relation)) r) as relations,
      (select coalesce(jsonb_agg(jsonb_build_object('name', k.name, 'schema', n.nspname, 'send', f.proname) order by k.position), '[]')
        from unnest(d.row_keys) with ordinality k (name, position)
        join pg_attribute a on a.attrelid = d.relation and a.attname = k.name
        join pg_type t on t.oid = a.atttypid join pg_proc f on f.oid = t.typsend join pg_namespace n on n.oid = f.pronamespace) as row_keys,
      (select coalesce(jsonb_agg(distinct f.oid::text), '[]') from pg_depend x join pg_proc f on f.oid = x.objid
        join pg_attribute a on a.attrelid = x.refobjid and a.attnum = x.refobjsubid and a.attname = d.sealed
        where x.classid = 'pg_proc'::regclass and x.refobjid = d.relation and f.pronargs = 1
          and f.proargtypes[0] = (select c.reltype from pg_class c where c.oid = d.relation)) as readers,
      (select coalesce(jsonb_agg(distinct f.oid::text), '[]') from pg_depend x join pg_proc f on f.oid = x.objid
        join pg_attribute a on a.attrelid = x.refobjid and a.attnum = x.refobjsubid and a.attname = d.index_a
        where x.classid = 'pg_proc'::regclass and x.refobjid = d.relation and f.pronargs = 1
          and f.proargtypes[0] = 'text'::regtype) as finders
    from keyring.doors() d`;

/** Asks which columns are sealed, as the login of the API. */
export async function readDoors(withPgClient: WithPgClient): Promise<readonly Door[]> {
  const { rows } = await withPgClient(null, (client) => client.query<Door>({ text: DOORS }));
  return rows;
}

/** Whether a column is one that only triggers write and nobody is shown. */
export const isHidden = (door: Door, column: string): boolean =>
  [door.sealed, door.index_a, door.index_b].includes(column);
