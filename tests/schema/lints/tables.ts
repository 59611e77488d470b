import type { Lint } from './lint.ts';

/** How tables are built. STYLE 3.1 and 4, DESIGN 3.3. */
export const tableLints: readonly Lint[] = [
  {
    name: 'PG-10, PG-12 a table without forced row-level security',
    cure: 'alter table … enable row level security, force row level security; partitions too',
    find: `select key, concat_ws(' ', case when not relrowsecurity then 'not enabled' end,
             case when not relforcerowsecurity then 'not forced' end) as detail
             from tables where not (relrowsecurity and relforcerowsecurity)`,
    defect: 'create table platform.odd (id int primary key)',
  },
  {
    name: 'a table without a primary key',
    cure: 'give it one; logical replication and updates by key need it',
    find: `select key, 'no primary key' as detail from tables t
            where not exists (select from pg_constraint c where c.conrelid = t.oid and c.contype = 'p')`,
    defect: 'create table platform.odd (id int)',
  },
  {
    name: 'an unindexed foreign key',
    cure: 'an index that begins with its columns; without one the API has no reverse relation',
    find: `select format('%s: %s', t.key, c.conname) as key, 'no index' as detail
             from pg_constraint c join tables t on t.oid = c.conrelid
            where c.contype = 'f' and c.conparentid = 0 and not exists (
              select from pg_index i where i.indrelid = c.conrelid and i.indpred is null
                 and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey
                 and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] <@ c.conkey)`,
    defect:
      'alter table platform.limits add column odd text constraint limits_odd_exists references platform.errors (sqlstate) on delete restrict',
  },
  {
    name: 'a foreign key that does not say what a delete does',
    cure: 'on delete cascade, restrict or set null (column)',
    find: `select format('%s: %s', t.key, c.conname) as key, 'on delete no action' as detail
             from pg_constraint c join tables t on t.oid = c.conrelid where c.contype = 'f' and c.confdeltype = 'a' and c.conparentid = 0`,
    defect:
      'alter table platform.limits add column odd text constraint limits_odd_exists references platform.errors (sqlstate)',
  },
  {
    name: 'F22 a composite foreign key that would empty the organization',
    cure: 'on delete set null (column): without a column it empties organization_id too',
    find: `select format('%s: %s', t.key, c.conname) as key, 'on delete set null of all columns' as detail
             from pg_constraint c join tables t on t.oid = c.conrelid
            where c.contype = 'f' and c.confdeltype in ('n', 'd') and cardinality(c.conkey) > 1 and c.confdelsetcols is null`,
    defect: `alter table access.roles add constraint roles_odd_exists foreign key (organization_id, id)
               references access.roles (organization_id, id) on delete set null`,
  },
  {
    name: 'a constraint that nobody named',
    cure: 'constraint <table>_<rule>',
    find: `select format('%s: %s', t.key, c.conname) as key, pg_get_constraintdef(c.oid) as detail
             from pg_constraint c join tables t on t.oid = c.conrelid
            where c.contype in ('c', 'f', 'u', 'x') and c.conparentid = 0 and c.coninhcount = 0 and c.conname ~ '_(check|fkey|key|excl)\\d*$'`,
    defect: 'alter table platform.limits add check (value <> 7)',
  },
  {
    name: 'two indexes that are one',
    cure: 'drop one of them',
    find: `select format('%s: %s', t.key, string_agg(i.indexrelid::regclass::text, ' = ' order by i.indexrelid::regclass::text)) as key, 'duplicate index' as detail
             from pg_index i join tables t on t.oid = i.indrelid
            group by t.key, i.indkey::text, i.indclass::text, i.indoption::text, coalesce(pg_get_expr(i.indexprs, i.indrelid), ''), coalesce(pg_get_expr(i.indpred, i.indrelid), '')
           having count(*) > 1`,
    defect: 'create index odd_one on platform.limits (unit); create index odd_two on platform.limits (unit)',
  },
  {
    name: 'a tenant table whose key does not begin with the organization',
    cure: 'primary key (organization_id, id): foreign keys and unique rules cannot tell of another tenant then',
    find: `select t.key, pg_get_constraintdef(c.oid) as detail
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attname = 'organization_id' and a.attnotnull
             join pg_constraint c on c.conrelid = t.oid and c.contype = 'p'
            where c.conkey[1] <> a.attnum and not t.relispartition`,
    defect: 'create table access.odd (id uuid primary key, organization_id uuid not null)',
  },
  {
    name: 'PG-34, PG-36 a unique or exclusion rule across tenants',
    cure: 'begin it with organization_id, or say here what it tells to whom',
    find: `select format('%s: %s', t.key, i.indexrelid::regclass) as key, pg_get_indexdef(i.indexrelid) as detail
             from pg_index i join tables t on t.oid = i.indrelid
             join pg_attribute a on a.attrelid = t.oid and a.attname = 'organization_id' and a.attnotnull
            where (i.indisunique or i.indisexclusion) and not a.attnum = any (i.indkey) and not t.relispartition`,
    defect: 'create unique index odd_name on access.roles (name)',
  },
  {
    name: 'PG-35 a foreign key between tenant tables that leaves the organization out',
    cure: 'reference (organization_id, id)',
    find: `select format('%s: %s', t.key, c.conname) as key, pg_get_constraintdef(c.oid) as detail
             from pg_constraint c join tables t on t.oid = c.conrelid
             join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'organization_id' and a.attnotnull
             join pg_attribute b on b.attrelid = c.confrelid and b.attname = 'organization_id' and b.attnotnull
            where c.contype = 'f' and c.conparentid = 0 and not (a.attnum = any (c.conkey) and b.attnum = any (c.confkey))`,
    defect: `create unique index odd_id on access.roles (id); alter table access.memberships add column odd uuid constraint memberships_odd_exists references access.roles (id) on delete cascade`,
  },
  {
    name: 'a column named like a secret outside the private schemas',
    cure: 'a sibling table in <domain>_private',
    find: `select format('%s.%s', t.key, a.attname) as key, 'named like a secret' as detail
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
            where t.nspname !~ '_private$' and a.attname ~ '(secret|password|passwd|token|salt|verifier|credential|cipher|private_key|_hash$|^hash$)'`,
    defect: 'alter table platform.limits add column secret text',
  },
  {
    name: 'F16 a column of a type whose comparison cannot use an index under row-level security',
    cure: 'text with a named check instead of an enum; numeric and jsonb only where nobody filters, reviewed here',
    find: `select format('%s.%s', t.key, a.attname) as key, format_type(a.atttypid, a.atttypmod) as detail
             from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped join pg_type y on y.oid = a.atttypid
            where y.typtype = 'e' and not t.relispartition`,
    defect: `create type platform.odd as enum ('a'); alter table platform.limits add column odd platform.odd`,
  },
  {
    name: 'a schema, table or column without a comment',
    cure: 'comment on …: it becomes the description in the API',
    find: `select nspname as key, 'schema' as detail from ours where obj_description(oid, 'pg_namespace') is null
           union all select key, 'table' from tables where obj_description(oid, 'pg_class') is null and not (relispartition and relname ~ '\\d{4}_?\\d{2}$')
           union all select format('%s.%s', t.key, a.attname), 'column' from tables t join pg_attribute a on a.attrelid = t.oid and a.attnum > 0 and not a.attisdropped
            where col_description(t.oid, a.attnum) is null and not t.relispartition`,
    defect: 'alter table platform.limits add column odd text',
  },
  {
    name: 'a trigger without its place in the order',
    cure: 'name it _NNN_<task>: 100 stamps, 200 guards, 500 effects, 800 audit, 900 enqueue; !!seal… comes first',
    find: `select format('%s: %s', t.key, g.tgname) as key, 'name' as detail from pg_trigger g join tables t on t.oid = g.tgrelid
            where not g.tgisinternal and g.tgname !~ '^(_\\d{3}_|!!seal)'`,
    defect:
      'create trigger odd before update on access.roles for each row execute function suppress_redundant_updates_trigger()',
  },
  {
    name: 'PG-60 an audit or guard trigger that replication would skip',
    cure: 'alter table … enable always trigger …',
    find: `select format('%s: %s', t.key, g.tgname) as key, g.tgenabled::text as detail from pg_trigger g join tables t on t.oid = g.tgrelid
            where not g.tgisinternal and g.tgname ~ '^(_2\\d\\d_|_8\\d\\d_|!!seal)' and g.tgenabled <> 'A'`,
    defect: 'alter table access.roles enable trigger _800_audit',
  },
  {
    name: 'a table whose changes leave no audit event',
    cure: 'audit.record_change() as trigger _800_audit, or a reviewed line here that says why not',
    find: `select t.key, 'not audited' as detail from tables t
            where not t.relispartition and not exists (select from pg_trigger g where g.tgrelid = t.oid and g.tgfoid::regproc::text = 'audit.record_change' and g.tgenabled = 'A')`,
    defect: 'drop trigger _800_audit on access.roles',
  },
];
