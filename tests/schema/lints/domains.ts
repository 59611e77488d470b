import type { Lint } from './lint.ts';

/** The domains in order; each refers only to itself and to those before it. */
export const DOMAINS = [
  'platform',
  'keyring',
  'audit',
  'identity',
  'access',
  'sessions',
  'mfa',
  'sso',
  'provisioning',
  'features',
  'transfer',
  'retention',
  'compliance',
  'operations',
  'api',
] as const;

const order = DOMAINS.map((domain, i) => `('${domain}', ${i})`).join(', ');

/** The domain that a schema belongs to. */
const domainOf = (schema: string) =>
  `case when ${schema} like 'request%' then 'platform' when ${schema} = 'api_steps' then 'api' when ${schema} = 'extensions' then 'platform'
        else regexp_replace(${schema}, '_private$', '') end`;

export const domainLints: readonly Lint[] = [
  {
    name: 'a schema of no known domain',
    cure: 'a domain has one schema and one _private; its place in the order stands in tests/schema/lints/domains.ts',
    find: `select nspname::text as key, '' as detail from ours where ${domainOf('nspname::text')} not in (${DOMAINS.map((d) => `'${d}'`).join(', ')})`,
    defect: 'create schema odd',
  },
  {
    name: 'a reference to a later domain',
    cure: 'turn it round, make the later one ask through data (a row that names a function), or review it here',
    find: `select distinct format('%s -> %s', r.object, r.target) as key, 'upward' as detail
             from (
               select f.key, ${domainOf('f.nspname')}, ${domainOf('m.schema')}
                 from routines f, ours o, lateral (select o.nspname::text as schema
                   where regexp_replace(regexp_replace(f.source, '--[^\\n]*', '', 'g'), '''[^'']*''', '', 'g') ~ ('\\m' || o.nspname || '\\.\\w')) m
               union all
               select p.key, ${domainOf('p.nspname')}, ${domainOf('o.nspname')} from policies p, ours o where p.condition ~ ('\\m' || o.nspname || '\\.\\w')
               union all
               select format('%s: %s', t.key, c.conname), ${domainOf('t.nspname')}, ${domainOf('o.nspname')}
                 from pg_constraint c join tables t on t.oid = c.conrelid join pg_class x on x.oid = c.confrelid join ours o on o.oid = x.relnamespace
               union all
               select format('%s: %s', t.key, g.tgname), ${domainOf('t.nspname')}, ${domainOf('o.nspname')}
                 from pg_trigger g join tables t on t.oid = g.tgrelid join pg_proc p on p.oid = g.tgfoid join ours o on o.oid = p.pronamespace
               union all
               select format('%s default', t.key), ${domainOf('t.nspname')}, ${domainOf('o.nspname')}
                 from pg_attrdef d join tables t on t.oid = d.adrelid, ours o where pg_get_expr(d.adbin, d.adrelid) ~ ('\\m' || o.nspname || '\\.\\w')
             ) as r (object, source, target)
             join (values ${order}) as s (domain, place) on s.domain = r.source
             join (values ${order}) as e (domain, place) on e.domain = r.target
            where e.place > s.place`,
    defect: `create function platform.odd() returns bigint language sql as 'select count(*) from access.roles'`,
  },
];
