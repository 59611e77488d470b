// The doctor's check of sealed columns of other tables: whatever was done to their tables since they were sealed.
import { type Check, listed, ok, rows, unsafe, type Verdict, warn } from './check.ts';

/** Tables with the triggers of sealed columns, parts of tables too. */
const SEALED = `with sealed as (
  select t.tgrelid as id, count(*) filter (where p.proname = 'seal_door') as seals, count(*) filter (where p.proname = 'guard_door') as guards,
      count(*) filter (where p.proname = 'leave_door' and t.tgname ~ '^~seal_') as leaves
    from pg_catalog.pg_trigger t join pg_catalog.pg_proc p on p.oid = t.tgfoid
   where p.pronamespace = to_regnamespace('keyring') and not t.tgisinternal group by 1)`;

export const DOORS: Check = {
  name: 'sealed columns',
  async look({ admin }) {
    const found: Verdict[] = [];
    const [counted] = await rows<{ name: string }>(admin, `${SEALED} select sum(leaves)::text as name from sealed`);
    if (!counted?.name) return ok('there are none');
    const broken = await rows(
      admin,
      `${SEALED} select id::regclass as name from sealed join pg_catalog.pg_class c on c.oid = id
        where guards <> 2 * seals or not c.relispartition and leaves <> seals order by 1`,
    );
    if (broken.length > 0)
      found.push(unsafe(`triggers of sealed columns are gone or renamed: ${listed(broken)}; nothing can be written`));
    const early = await rows(
      admin,
      `${SEALED} select format('%s on %s', quote_ident(t.tgname), id::regclass) as name
         from sealed join pg_catalog.pg_trigger t on t.tgrelid = id join pg_catalog.pg_proc p on p.oid = t.tgfoid
        where not t.tgisinternal and t.tgtype & 3 = 3 and t.tgtype & 20 <> 0 and p.pronamespace <> to_regnamespace('keyring')
          and (t.tgname < '!!seal_' or t.tgname >= '~~seal_') order by 1`,
    );
    if (early.length > 0)
      found.push(unsafe(`runs before values are sealed or after they are checked: ${listed(early)}; rename it`));
    const ruled = await rows(
      admin,
      `${SEALED} select distinct id::regclass as name from sealed join pg_catalog.pg_rewrite r on r.ev_class = id order by 1`,
    );
    if (ruled.length > 0) found.push(unsafe(`rules see values before they are sealed: ${listed(ruled)}; use triggers`));
    const heirs = await rows(
      admin,
      `${SEALED} select i.inhrelid::regclass as name from sealed join pg_catalog.pg_inherits i on i.inhparent = id
         join pg_catalog.pg_class c on c.oid = i.inhrelid where not c.relispartition order by 1`,
    );
    if (heirs.length > 0)
      found.push(warn(`inherits a sealed column without its triggers, and takes no values: ${listed(heirs)}`));
    const due = await rows(
      admin,
      `select format('%s, %L', quote_literal(d.relation::text), d.door) as name from keyring.doors() d
        where d.state = 'unsealing' and keyring.is_over(d.id)
          or d.state = 'sealed' and exists (select from pg_catalog.pg_constraint c where c.conrelid = d.relation and c.contype = 'c'
            and 2 = (select count(*) from pg_catalog.pg_attribute a
              where a.attrelid = c.conrelid and a.attnum = any (c.conkey) and a.attname in (d.door, d.sealed))) order by 1`,
    );
    for (const { name } of due) found.push(warn(`the job is through: select keyring.finish(${name})`));
    return found.length > 0 ? found : ok(`${counted.name} of other tables, sealed first and checked last`);
  },
};
