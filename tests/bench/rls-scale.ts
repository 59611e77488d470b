// Whether a tenant's list stays as quick when there are a hundred times as many rows of others.
import { alternate, type Bench, median } from './bench.ts';
import { openMember } from './opened.ts';
import type { Place } from './place.ts';

const ROWS_EACH = 1000;
const PAGE = 20;

/** A table of `organizations` with a thousand rows each, the member's own among them, protected once it is full. */
const table = (name: string, organizations: number, own: string): string => `
  create table shop.${name} (
    organization_id uuid not null, id uuid default gen_random_uuid(), name text not null, primary key (organization_id, id));
  insert into shop.${name} (organization_id, name)
    select o.id, 'item ' || n
    from (select case i when 1 then '${own}'::uuid else gen_random_uuid() end as id from generate_series(1, ${organizations}) i) o,
      generate_series(1, ${ROWS_EACH}) n;
  select access.protect('shop.${name}');`;

/** Latency of a list of 20 rows of one tenant among a million rows, against one among ten thousand. */
export const rlsScale: Bench = {
  name: 'rls_scale',
  async run(place: Place, isFull: boolean) {
    await using member = await openMember(place);
    const organizations = isFull ? 10_000 : 1000;
    await member.as('owner', 'create schema shop');
    // A foreign key to access.organizations would want a real one for each: the rows are what is measured.
    await member.as('owner', table('few', 10, member.organization));
    await member.as('owner', table('many', organizations, member.organization));
    for (const name of ['few', 'many']) await member.as('admin', `vacuum analyze shop.${name}`);
    const latency = (name: string) => () =>
      member.inRequest(async (client) => {
        const list = { name: `list ${name}`, text: `select id, name from shop.${name} order by id limit ${PAGE}` };
        const times: number[] = [];
        for (let i = 0; i < 1000; i += 1) {
          const began = performance.now();
          const { rowCount } = await client.query(list);
          times.push(performance.now() - began);
          if (rowCount !== PAGE) throw new Error(`a list of ${rowCount} rows`);
        }
        return median(times) * 1000;
      });
    for (const name of ['few', 'many']) await latency(name)();
    const { value, baseline } = await alternate(isFull ? 9 : 5, latency('many'), latency('few'));
    const target = 1.2;
    const size = `${PAGE} rows of ${organizations * ROWS_EACH} in ${organizations} organizations, against 10000 in 10`;
    return { name: 'rls_scale', value, unit: 'µs', baseline, target, met: value / baseline <= target, size };
  },
};
