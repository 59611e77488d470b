// What PostgreSQL 15 refuses (FINDINGS F22): nothing under sql/ uses it. The statements prove the list: a test runs each
// on the server at hand, which takes it if it is new enough and refuses it if not.

/** One thing that came after 15. */
export interface Newer {
  readonly name: string;
  /** Major version that takes it first. */
  readonly since: number;
  /** How it looks in SQL. */
  readonly pattern: RegExp;
  /** A whole statement with it. */
  readonly statement: string;
  /** Files under sql/ that use it behind a question for the version, reviewed. */
  readonly guarded?: readonly string[];
}

const newer = (
  since: number,
  name: string,
  pattern: RegExp,
  statement: string,
  guarded: readonly string[] = [],
): Newer => ({ name, since, pattern, statement, guarded });

const table = (rest: string) => `create temp table t (a int, b int); ${rest}`;

export const NOT_IN_15: readonly Newer[] = [
  newer(16, 'pg_input_is_valid', /\bpg_input_is_valid\b/gi, "select pg_input_is_valid('1', 'int')"),
  newer(16, 'pg_input_error_info', /\bpg_input_error_info\b/gi, "select pg_input_error_info('x', 'int')"),
  newer(16, 'debug_parallel_query', /\bdebug_parallel_query\b/gi, 'set local debug_parallel_query = on'),
  newer(16, 'any_value', /\bany_value\s*\(/gi, 'select any_value(1)'),
  newer(16, 'IS JSON', /\bis\s+(not\s+)?json\b/gi, "select '{}' is json"),
  newer(16, 'JSON_ARRAY', /\bjson_array(agg)?\s*\(/gi, 'select json_array(1, 2)'),
  newer(16, 'JSON_OBJECT', /\bjson_object(agg)?\s*\(\s*(key\b|[^(),]+:(?!:))/gi, "select json_object('a': 1)"),
  newer(
    16,
    'grant … with inherit',
    /\bgrant\b[^;]*\bwith\s+inherit\b/gi,
    'grant pg_monitor to postgres with inherit true',
  ),
  newer(16, 'grant … with set', /\bgrant\b[^;]*\bwith\s+set\b/gi, 'grant pg_monitor to postgres with set true'),
  newer(16, 'pg_stat_io', /\bpg_stat_io\b/gi, 'select from pg_stat_io'),
  newer(16, 'system_user', /\bsystem_user\b/gi, 'select system_user'),
  newer(16, 'numbers with underscores', /(?<![\w$'])\d+_\d+/g, 'select 1_000'),
  newer(16, 'array_shuffle, array_sample', /\barray_(shuffle|sample)\s*\(/gi, 'select array_shuffle(array[1])'),
  newer(16, 'date_add, date_subtract', /\bdate_(add|subtract)\s*\(/gi, "select date_add(now(), '1 day')"),
  newer(16, 'set storage default', /\bset\s+storage\s+default\b/gi, table('alter table t alter a set storage default')),
  newer(17, 'transaction_timeout', /\btransaction_timeout\b/gi, 'set local transaction_timeout = 1000', [
    'platform/roles.sql',
  ]),
  newer(17, 'JSON_TABLE', /\bjson_table\s*\(/gi, "select from json_table('[1]', '$[*]' columns (a int path '$')) t"),
  newer(17, 'JSON_VALUE, JSON_QUERY, JSON_EXISTS', /\bjson_(value|query|exists)\s*\(/gi, "select json_value('1', '$')"),
  newer(17, 'JSON_SERIALIZE, JSON_SCALAR', /\bjson_(serialize|scalar)\s*\(/gi, 'select json_scalar(1)'),
  newer(
    17,
    'MERGE … RETURNING',
    /\bmerge\s+into\b[^;]*\breturning\b/gi,
    table('merge into t using (select 1) s on true when matched then delete returning t.a'),
  ),
  newer(
    17,
    'MERGE … NOT MATCHED BY SOURCE',
    /\bnot\s+matched\s+by\b/gi,
    table('merge into t using (select 1) s on true when not matched by source then delete'),
  ),
  newer(17, 'MAINTAIN', /\bgrant\s+[^;]*\bmaintain\b/gi, table('grant select, maintain on t to public')),
  newer(17, 'random(a, b)', /\brandom\s*\(\s*[^)\s]/gi, 'select random(1, 6)'),
  newer(
    17,
    'pg_logical_emit_message(…, flush)',
    /\bpg_logical_emit_message\s*\((?:[^(),]*,){3}/gi,
    "select pg_logical_emit_message(true, 'a', 'b', true)",
  ),
  newer(17, 'COPY on_error', /\bon_error\b/gi, table("copy t from '/dev/null' (on_error ignore)")),
  newer(
    17,
    'infinite intervals',
    /'-?infinity'\s*::\s*interval|interval\s+'-?infinity'/gi,
    "select 'infinity'::interval",
  ),
  newer(17, 'at local', /\bat\s+local\b/gi, 'select now() at local'),
  newer(17, 'to_bin, to_oct', /\bto_(bin|oct)\s*\(/gi, 'select to_bin(5)'),
  newer(
    17,
    'set expression',
    /\bset\s+expression\b/gi,
    'create temp table t (a int, b int generated always as (a) stored); alter table t alter b set expression as (a + 1)',
  ),
  newer(18, 'uuidv7, uuidv4', /\buuidv[47]\s*\(/gi, 'select uuidv7(), uuidv4()'),
  newer(
    18,
    'a generated column that does not say STORED',
    /\bgenerated\s+always\s+as\s*\((?:[^()]|\([^()]*\))*\)(?!\s+stored)/gi,
    'create temp table t (a int, b int generated always as (a * (2)))',
  ),
  newer(
    18,
    'virtual generated columns',
    /\)\s*virtual\b/gi,
    'create temp table t (a int, b int generated always as (a * 2) virtual)',
  ),
  newer(
    18,
    'RETURNING old / new',
    /\breturning\s+(with\s*\(\s*)?(old|new)\s*[.)a]/gi,
    table('update t set a = 1 returning old.a'),
  ),
  newer(
    18,
    'NOT NULL NOT VALID',
    /\bnot\s+null\b[^;,]*\bnot\s+valid\b/gi,
    table('alter table t add constraint c not null a not valid'),
  ),
  newer(
    18,
    'WITHOUT OVERLAPS',
    /\bwithout\s+overlaps\b/gi,
    'create temp table t (id int4range, during daterange, primary key (id, during without overlaps))',
  ),
  newer(18, 'crc32, crc32c', /\bcrc32c?\s*\(/gi, "select crc32c('x'), crc32('x')"),
  newer(18, 'numbers cast to bytea', /\b\d+\s*::\s*bytea\b|\bcast\s*\(\s*\d+\s+as\s+bytea\b/gi, 'select 1::bytea'),
  newer(
    18,
    'bytea cast to numbers',
    /\bbytea\s*\)*\s*::\s*((small|big)?int|integer)\b/gi,
    "select '\\x01'::bytea::int",
  ),
  newer(18, 'reverse(bytea)', /\breverse\s*\([^()]*\bbytea\b/gi, "select reverse('\\x0102'::bytea)"),
  newer(18, 'min and max of bytea', /\b(min|max)\s*\([^()]*\bbytea\b/gi, "select max('\\x01'::bytea)"),
  newer(18, 'casefold', /\bcasefold\s*\(/gi, "select casefold('A')"),
  newer(18, 'array_sort, array_reverse', /\barray_(sort|reverse)\s*\(/gi, 'select array_sort(array[2, 1])'),
  newer(18, 'NOT ENFORCED', /\bnot\s+enforced\b/gi, 'create temp table t (a int check (a > 1) not enforced)'),
];
