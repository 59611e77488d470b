// Rows for the tables that nothing has written to, made up from the catalog: for each organization where a table has one.
import type pg from 'pg';
import type { Someone } from './people.ts';

interface Column {
  readonly name: string;
  readonly type: string;
  readonly required: boolean;
  readonly checks: string;
  /** The table and column that it refers to. */
  readonly refers: { readonly table: string; readonly column: string; readonly byOrganization: boolean } | null;
}

interface EmptyTable {
  readonly table: string;
  readonly parent: string | null;
  /** Of a partition: the column and where it begins. */
  readonly partition: { readonly column: string; readonly from: string } | null;
  readonly columns: readonly Column[];
}

const EMPTY = `
  select c.oid::regclass::text as table, i.inhparent::regclass::text as parent,
    case when c.relispartition then jsonb_build_object(
      'column', (select a.attname from pg_partitioned_table p join pg_attribute a on a.attrelid = p.partrelid and a.attnum = p.partattrs[0] where p.partrelid = i.inhparent),
      'from', coalesce(substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \\(''([^'']+)'''), '2100-01-01')) end as partition,
    (select jsonb_agg(jsonb_build_object('name', a.attname, 'type', format_type(a.atttypid, null),
        'required', a.attnotnull and not a.atthasdef and a.attidentity = '',
        'checks', coalesce((select string_agg(pg_get_constraintdef(k.oid), ' ') from pg_constraint k where k.conrelid = c.oid and k.contype = 'c' and k.conkey = array[a.attnum]), ''),
        'refers', (select jsonb_build_object('table', k.confrelid::regclass::text, 'column', f.attname, 'byOrganization', cardinality(k.conkey) > 1)
            from pg_constraint k join pg_attribute f on f.attrelid = k.confrelid and f.attnum = k.confkey[array_position(k.conkey, a.attnum)]
           where k.conrelid = c.oid and k.contype = 'f' and a.attnum = any (k.conkey) order by cardinality(k.conkey) limit 1))
        order by a.attnum)
      from pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = '') as columns
    from pg_class c left join pg_inherits i on i.inhrelid = c.oid
   where c.relkind = 'r' and c.relnamespace in (select oid from matrix.schemas())
     and (xpath('/row/n/text()', query_to_xml(format('select count(*) as n from (select from %s limit 1) t', c.oid::regclass), false, true, '')))[1]::text = '0'
   order by c.oid`;

function madeUp({ name, type, checks }: Column, person: string | undefined): string {
  const known = /'([^']+)'/.exec(checks)?.[1];
  const length = /length\(\w+\) = (\d+)/.exec(checks)?.[1];
  if (/person|author|actor|created_by|subject/.test(name)) return `'${person}'::uuid`;
  if (name === 'domain') return "left(md5(random()::text), 12) || '.x.example'";
  if (type === 'text')
    return known !== undefined && /= ANY|IN \(/.test(checks)
      ? `'${known}'`
      : "'made up ' || left(md5(random()::text), 8)";
  if (type === 'bytea')
    return `substr('\\x01'::bytea || decode(md5(random()::text) || md5(random()::text), 'hex'), 1, ${length ?? 32})`;
  const values: Record<string, string> = {
    uuid: 'gen_random_uuid()',
    boolean: 'true',
    'timestamp with time zone': 'now()',
    json: "'{}'",
    jsonb: "'{}'",
  };
  // Ids of jobs among them: wide enough that no two are the same.
  const most = type === 'bigint' ? '1e12' : '30000';
  return values[type] ?? (type.endsWith('[]') ? "'{}'" : checks === '' ? `1 + floor(random() * ${most})` : '1');
}

function expressionOf(column: Column, organization: string | undefined, person: string | undefined): string {
  const { refers, name } = column;
  if (name === 'organization_id') return `'${organization}'::uuid`;
  if (refers?.table === 'identity.people') return `'${person}'::uuid`;
  if (refers === null) return madeUp(column, person);
  const where = refers.byOrganization ? ` where r.organization_id = '${organization}'` : '';
  return `(select r.${refers.column} from ${refers.table} r${where} order by 1 desc limit 1)`;
}

async function fill(
  admin: pg.Client,
  empty: EmptyTable,
  organization: string | undefined,
  person: string | undefined,
): Promise<void> {
  const { table, parent, partition, columns } = empty;
  if (partition !== null && parent !== null) {
    const copied = await admin.query(
      `insert into ${table} select (jsonb_populate_record(null::${table}, to_jsonb(p) || jsonb_build_object($1::text, $2::text, 'id', gen_random_uuid()))).*
         from ${parent} p ${organization === undefined ? '' : `where p.organization_id = '${organization}'`} limit 1`,
      [partition.column, partition.from],
    );
    if (copied.rowCount) return;
  }
  const wanted = columns.filter(
    (column) => column.required || column.name === 'organization_id' || /author|doctor/.test(column.name),
  );
  const names = wanted.map(({ name }) => `"${name}"`).join(', ');
  const values = wanted.map((column) => expressionOf(column, organization, person)).join(', ');
  await admin.query(
    wanted.length === 0 ? `insert into ${table} default values` : `insert into ${table} (${names}) values (${values})`,
  );
}

/** Fills every empty table: `count` times for each organization if it has one, else once. */
export async function fillEmptyTables(
  admin: pg.Client,
  organizations: ReadonlyMap<string, string>,
  people: ReadonlyMap<string, Someone>,
  count = 2,
): Promise<void> {
  const { rows } = await admin.query<EmptyTable>(EMPTY);
  for (const empty of rows) {
    const isShared = !empty.columns.some(({ name }) => /^(organization_id|person_id)$/.test(name));
    for (const name of isShared ? ['A'] : ['A', 'B']) {
      const members = [...people.values()].filter(({ label }) => label.startsWith(`${name}/`));
      for (let i = 0; i < (isShared ? 1 : count); i += 1) {
        await fill(admin, empty, organizations.get(name), members[i % members.length]?.id);
      }
    }
  }
}
