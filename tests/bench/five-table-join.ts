// What row-level security costs a join, against the conditions written by hand.
import { OWNER_OPTIONS, retarget, withClient } from '../../src/platform/connection.ts';
import { alternate, type Bench, median } from './bench.ts';
import { openMember } from './opened.ts';
import type { Place } from './place.ts';

const PAGE = 20;
const LINKS = [
  ['wards', null],
  ['rooms', 'ward'],
  ['beds', 'room'],
  ['patients', 'bed'],
  ['visits', 'patient'],
] as const;

/** Five tables of `organizations` times a hundred rows, each row referring to one of the table before, protected once full. */
function tables(organizations: number, own: string): string {
  const made = LINKS.map(([name, to], i) => {
    const before = LINKS[i - 1]?.[0];
    return `
      create table shop.${name} (
        organization_id uuid not null, id bigint not null, name text not null ${to === null ? '' : `, ${to}_id bigint not null`},
        primary key (organization_id, id)${to === null ? '' : `, foreign key (organization_id, ${to}_id) references shop.${before} (organization_id, id)`});
      insert into shop.${name}
        select o.id, n, '${name} ' || n ${to === null ? '' : ', 1 + (n * 7) % 100'} from organizations o, generate_series(1, 100) n;
      ${to === null ? '' : `create index on shop.${name} (organization_id, ${to}_id);`}
      select access.protect('shop.${name}');`;
  });
  return `
    create schema shop;
    create temporary table organizations as
      select case i when 1 then '${own}'::uuid else gen_random_uuid() end as id from generate_series(1, ${organizations}) i;
    ${made.join('')}`;
}

const JOIN = `
  select v.id, v.name, p.name as patient, b.name as bed, r.name as room, w.name as ward
  from shop.visits v
    join shop.patients p on (p.organization_id, p.id) = (v.organization_id, v.patient_id)
    join shop.beds b on (b.organization_id, b.id) = (p.organization_id, p.bed_id)
    join shop.rooms r on (r.organization_id, r.id) = (b.organization_id, b.room_id)
    join shop.wards w on (w.organization_id, w.id) = (r.organization_id, r.ward_id)`;
const ORDER = `order by v.id limit ${PAGE}`;

/** Latency of a join of five protected tables in an open request, against the same with the tenant written by hand. */
export const fiveTableJoin: Bench = {
  name: 'five_table_join',
  async run(place: Place, isFull: boolean) {
    await using member = await openMember(place);
    const organizations = isFull ? 10_000 : 1000;
    await member.as('owner', tables(organizations, member.organization));
    for (const [name] of LINKS) await member.as('admin', `vacuum analyze shop.${name}`);
    const timed = async (ask: () => Promise<{ rowCount: number | null }>): Promise<number> => {
      const times: number[] = [];
      for (let i = 0; i < 500; i += 1) {
        const began = performance.now();
        const { rowCount } = await ask();
        times.push(performance.now() - began);
        if (rowCount !== PAGE) throw new Error(`a join of ${rowCount} rows`);
      }
      return median(times) * 1000;
    };
    const ruled = () =>
      member.inRequest((client) => timed(() => client.query({ name: 'ruled', text: `${JOIN} ${ORDER}` })));
    // Their owner, whom no policy holds back.
    const owner = retarget(member.access.admin, place.order.database, OWNER_OPTIONS);
    const byHand = () =>
      withClient(owner, (client) =>
        timed(() =>
          client.query({
            name: 'by hand',
            text: `${JOIN} where v.organization_id = $1 ${ORDER}`,
            values: [member.organization],
          }),
        ),
      );
    await ruled();
    await byHand();
    const { value, baseline } = await alternate(isFull ? 15 : 9, ruled, byHand);
    const size = `${PAGE} rows of five tables with ${organizations * 100} each in ${organizations} organizations`;
    return { name: 'five_table_join', value, unit: 'µs', baseline, target: null, met: true, size };
  },
};
