// What the audit trigger costs an update under row-level security.
import { alternate, type Bench, median } from './bench.ts';
import { openMember } from './opened.ts';
import type { Place } from './place.ts';

const ROWS = 300;

const table = (name: string, audited: boolean, own: string): string => `
  create table shop.${name} (
    organization_id uuid not null, id uuid default gen_random_uuid(), n integer not null, count integer not null default 0,
    primary key (organization_id, id));
  insert into shop.${name} (organization_id, n) select '${own}', n from generate_series(1, ${ROWS}) n;
  create index on shop.${name} (organization_id, n);
  select access.protect('shop.${name}', audited => ${audited});`;

/** Latency of an update of one row in a request of its own, audited, against the same without audit. */
export const auditedUpdate: Bench = {
  name: 'audited_update',
  async run(place: Place, isFull: boolean) {
    await using member = await openMember(place);
    await member.as('owner', 'create schema shop');
    await member.as('owner', table('audited', true, member.organization));
    await member.as('owner', table('plain', false, member.organization));
    const latency = (name: string) => async () => {
      const text = `update shop.${name} set count = count + 1 where n = $1`;
      const times: number[] = [];
      for (let i = 0; i < 300; i += 1) {
        const began = performance.now();
        await member.inRequest(async (client) => {
          const { rowCount } = await client.query({ name, text, values: [1 + (i % ROWS)] });
          if (rowCount !== 1) throw new Error(`an update of ${rowCount} rows`);
        });
        times.push(performance.now() - began);
      }
      return median(times) * 1000;
    };
    for (const name of ['audited', 'plain']) await latency(name)();
    const { value, baseline } = await alternate(isFull ? 15 : 7, latency('audited'), latency('plain'));
    const target = 1.5;
    const size = `one row of ${ROWS}, request opened and committed, to the disk`;
    return { name: 'audited_update', value, unit: 'µs', baseline, target, met: value / baseline <= target, size };
  },
};
