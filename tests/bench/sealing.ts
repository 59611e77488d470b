// What sealing costs in SQL: values written, opened one by one and in sets, each against a plain column in the same
// request. Each row has a data key of its own, as people have: the dearest case.
import type pg from 'pg';
import { alternate, type Bench, median } from './bench.ts';
import { type Opened, openMember } from './opened.ts';
import type { Place } from './place.ts';

const ROWS = 100;

const table = (name: string): string => `
  create table shop.${name} (
    organization_id uuid not null, id uuid default platform.uuid_v7(), n integer not null, ssn text,
    primary key (organization_id, id));
  select access.protect('shop.${name}', audited => false);`;

/** Two tables alike, of which `patients` has a sealed column. */
export const TABLES = `
  create schema shop; ${table('guests')} ${table('patients')}
  select keyring.seal_column('shop.patients', 'ssn', subject => 'id', permission => 'row.read');`;

/** A hundred rows in each, with the same values. */
export async function fillTables(member: Opened): Promise<void> {
  await member.inRequest(async (client) => {
    for (const name of ['guests', 'patients']) {
      await client.query(
        `insert into shop.${name} (n, ssn) select n, '078-05-' || n from generate_series(1001, 1000 + ${ROWS}) n`,
      );
    }
  });
  for (const name of ['shop.guests', 'shop.patients', 'keyring_private.data_keys']) {
    await member.as('admin', `vacuum analyze ${name}`);
  }
}

/** The id of the sealed column, as its trigger names it. */
async function columnOf(client: pg.Client): Promise<string> {
  const { rows } = await client.query(
    "select substr(tgname, 7) as id from pg_trigger where tgrelid = 'shop.patients'::regclass and tgname like '~seal%'",
  );
  return rows[0].id;
}

interface Statements {
  readonly name: string;
  readonly sealed: (column: string) => string;
  readonly plain: string;
  /** Values in one statement. */
  readonly values: number;
  readonly what: string;
}

/** A statement over sealed values, in µs for each, against the same over plain ones. */
const ofValues = ({ name, sealed, plain, values, what }: Statements): Bench => ({
  name,
  async run(place: Place, isFull: boolean) {
    await using member = await openMember(place);
    await member.as('owner', TABLES);
    await fillTables(member);
    const column = await member.inRequest(columnOf);
    const perValue = (title: string, text: string) => () =>
      member.inRequest(async (client) => {
        const times: number[] = [];
        for (let i = 0; i < (values > 20 ? 40 : 150); i += 1) {
          // What is written is taken back, so that the last statement finds the table as the first did.
          await client.query('savepoint before');
          const began = performance.now();
          const { rows, rowCount } = await client.query({ name: title, text });
          times.push(performance.now() - began);
          await client.query('rollback to before');
          if (rowCount !== values) throw new Error(`${rowCount} values`);
          if (rows.some(({ ssn }) => !/^078-05-1\d{3}$/.test(ssn)))
            throw new Error('a value that is not what it should be');
        }
        return (median(times) * 1000) / values;
      });
    const ofSealed = perValue('sealed', sealed(column));
    const ofPlain = perValue('plain', plain);
    await ofSealed();
    await ofPlain();
    const { value, baseline } = await alternate(isFull ? 15 : 7, ofSealed, ofPlain);
    const size = `${values} ${what}, a data key for each row; baseline: a plain column`;
    return { name, value, unit: 'µs/value', baseline, target: null, met: true, size };
  },
});

const inSets = (values: number): Statements => ({
  name: `open_values_${values}`,
  sealed: (column) => `
    select o.value as ssn
    from (select array_agg(l.id) as ids, array_agg(l.ssn_sealed) as sealed
          from (select id, ssn_sealed from shop.patients order by id limit ${values}) l) a,
      keyring.open_values('${column}', a.ids, a.sealed) o`,
  plain: `select id, ssn from shop.guests order by id limit ${values}`,
  values,
  what: 'rows listed and their values opened as a set',
});

export const sealing: readonly Bench[] = [
  ofValues({
    name: 'seal_value',
    sealed: () => "update shop.patients set ssn = '078-05-' || n + 1 returning '078-05-1000' as ssn",
    plain: "update shop.guests set ssn = '078-05-' || n + 1 returning '078-05-1000' as ssn",
    values: ROWS,
    what: 'rows updated in one statement',
  }),
  ofValues({
    name: 'open_value',
    sealed: () => 'select shop.patients_ssn(p) as ssn from shop.patients p',
    plain: 'select ssn from shop.guests',
    values: ROWS,
    what: 'rows read in one statement, each value for itself',
  }),
  ofValues(inSets(20)),
  ofValues(inSets(100)),
];
