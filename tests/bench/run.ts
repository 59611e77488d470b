// `npm run bench`: every benchmark of DESIGN section 12, as a table, or with --json as one JSON array.
import { parseArgs } from 'node:util';
import { auditedUpdate } from './audited-update.ts';
import { type Bench, type Row, table } from './bench.ts';
import { envelope, envelopePipelined } from './envelope.ts';
import { fiveTableJoin } from './five-table-join.ts';
import { graphqlList } from './graphql-list.ts';
import { rewrap, sealRows } from './key-works.ts';
import { neighbour } from './neighbour.ts';
import { openPlace } from './place.ts';
import { rlsScale } from './rls-scale.ts';
import { sealedList } from './sealed-list.ts';
import { sealing } from './sealing.ts';
import { signIn } from './sign-in.ts';
import { firstStart, memory, start } from './whole.ts';

const BENCHES: readonly Bench[] = [
  envelope,
  envelopePipelined,
  graphqlList,
  signIn,
  rlsScale,
  fiveTableJoin,
  neighbour,
  auditedUpdate,
  sealedList,
  ...sealing,
  rewrap,
  sealRows,
  start,
  firstStart,
  memory,
];

const { values } = parseArgs({
  options: { json: { type: 'boolean' }, full: { type: 'boolean' }, only: { type: 'string', multiple: true } },
});
const { only, json = false, full = false } = values;
const unknown = only?.filter((name) => !BENCHES.some((bench) => bench.name === name)) ?? [];
if (unknown.length > 0) {
  process.stderr.write(
    `there is no benchmark ${unknown.join(', ')}; there are ${BENCHES.map(({ name }) => name).join(', ')}\n`,
  );
  process.exit(2);
}

const rows: Row[] = [];
for (const bench of BENCHES) {
  if (only !== undefined && !only.includes(bench.name)) continue;
  if (!json) process.stderr.write(`${bench.name} ...\n`);
  // Each has a database of its own, so that none finds what another left.
  await using place = await openPlace();
  rows.push(await bench.run(place, full));
}
process.stdout.write(json ? `${JSON.stringify(rows)}\n` : `${table(rows)}\n`);
