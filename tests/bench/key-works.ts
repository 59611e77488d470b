// Long work on keys and values, done to its end by real jobs, as `npm run safetypin -- keys work` does it.
import { loadApplicationKeys } from '../../src/keyring/application-keys.ts';
import { workByHand } from '../../src/keyring/hand.ts';
import { OWNER_OPTIONS, retarget, withClient } from '../../src/platform/connection.ts';
import type { Bench, Row } from './bench.ts';
import { type Opened, openMember } from './opened.ts';
import type { Place } from './place.ts';

/** Seconds until no work is left. */
async function work(place: Place, { access }: Opened): Promise<number> {
  const keys = await loadApplicationKeys(place.order.dataDirectory);
  return withClient(retarget(access.admin, access.database, OWNER_OPTIONS), async (owner) => {
    const began = performance.now();
    await workByHand({ access, keys, owner, onProgress() {}, say() {} });
    return (performance.now() - began) / 1000;
  });
}

const rate = (name: string, unit: string, value: number, size: string): Row => ({
  name,
  value,
  unit,
  baseline: null,
  target: null,
  met: true,
  size,
});

/** Keys a second of a rotation of the root: each data key wrapped anew under the new one. */
export const rewrap: Bench = {
  name: 'rewrap',
  async run(place: Place, isFull: boolean) {
    const count = isFull ? 1_000_000 : 100_000;
    await using member = await openMember(place);
    // Keys that are good: each is opened before it is wrapped anew. In portions, each within the life of a request.
    await member.as(
      'admin',
      `create function public.make_keys(many integer) returns bigint language sql volatile security definer
      set search_path = pg_catalog, pg_temp as 'select count(keyring_private.ensure_data_key(gen_random_uuid())) from generate_series(1, many)';
      alter function public.make_keys(integer) owner to safetypin_keeper; grant execute on function public.make_keys(integer) to safetypin_member`,
    );
    for (let made = 0; made < count; made += 10_000) {
      await member.inRequest((client) => client.query('select public.make_keys(10000)'));
    }
    await member.as('owner', 'select keyring.rotate_root()');
    const seconds = await work(place, member);
    return rate('rewrap', 'keys/s', count / seconds, `${count} data keys, from the asking to the end`);
  },
};

/** Rows a second of sealing a column of a table that is full already. One that is searchable waits in between for older transactions. */
export const sealRows: Bench = {
  name: 'seal_rows',
  async run(place: Place, isFull: boolean) {
    const count = isFull ? 100_000 : 10_000;
    await using member = await openMember(place);
    await member.as(
      'owner',
      `create schema shop;
       create table shop.patients (
         organization_id uuid not null, id uuid default platform.uuid_v7(), ssn text, primary key (organization_id, id));
       insert into shop.patients (organization_id, ssn) select '${member.organization}', '078-05-' || n from generate_series(1, ${count}) n;
       select access.protect('shop.patients', audited => false);
       select keyring.seal_column('shop.patients', 'ssn', subject => 'id', permission => 'row.read');`,
    );
    const seconds = await work(place, member);
    return rate(
      'seal_rows',
      'rows/s',
      count / seconds,
      `${count} rows, a new data key for each, from the asking to the end`,
    );
  },
};
