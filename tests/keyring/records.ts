// What is sealed in a host application's table, written and read in every way there is; all of it canaries.
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { refusal } from '../support/actors.ts';
import type { Loud } from './loud.ts';

/** A table of a host application with sealed columns of three kinds, and rules of its own that rows break. */
export const CLINIC = `
  create schema clinic;
  grant usage on schema clinic to safetypin_member;
  create table clinic.patients (
    organization_id uuid not null, id uuid not null default platform.uuid_v7(), name text not null, age integer check (age < 200),
    ssn text, notes text, history jsonb,
    primary key (organization_id, id), unique (organization_id, name));
  select access.protect('clinic.patients');
  select keyring.seal_column('clinic.patients', 'ssn', subject => 'id', permission => 'row.read', searchable => true, options => '{"unique": true}');
  select keyring.seal_column('clinic.patients', 'notes', subject => 'id', permission => 'row.read');
  select keyring.seal_column('clinic.patients', 'history', subject => 'id', permission => 'row.read');`;

const CREATE = 'mutation($p: PatientInput!) { createPatient(input: { patient: $p }) { patient { id name } } }';
const UPDATE =
  'mutation($i: UUID!, $p: PatientPatch!) { updatePatient(input: { id: $i, patch: $p }) { patient { name } } }';

type Canary = (what: string) => string;

/** Through GraphQL, right and wrong. */
export async function recordByGraphql({ api }: Loud, token: string, canary: Canary): Promise<void> {
  const patient = (name: string) => ({ name, ssn: canary(`${name} ssn`), notes: canary(`${name} notes`) });
  const { data, text } = await api.gql(CREATE, { p: patient('graphql') }, token);
  if (!data?.createPatient) throw new Error(`no patient was made: ${text}`);
  const { id } = data.createPatient.patient;
  const update = (p: object) => api.gql(UPDATE, { i: id, p }, token);
  await update({ ssn: canary('graphql new ssn') });
  await update({ ssn: canary('graphql ssn of nobody'), age: 300 });
  await update({ ssn: `${canary('graphql broken ssn')}\u0000` });
  await api.gql('{ patients { nodes { name ssn notes history } } }', {}, token);
  await api.gql(
    'query($s: String!) { patientsBySsn(value: $s) { nodes { name ssn } } }',
    { s: canary('graphql ssn that is looked for') },
    token,
  );
  await api.gql(
    'query($s: String!) { patients(condition: { ssn: $s }) { nodes { name } } }',
    { s: canary('graphql ssn in a condition') },
    token,
  );
  await update({ history: { drug: canary('graphql history') } });
  await api.gql(CREATE, { p: patient('graphql') }, token);
  await api.gql(CREATE, { p: { ...patient('graphql old'), age: 300 } }, token);
  await api.gql(CREATE, { p: { ...patient('graphql odd'), nothing: canary('graphql nothing') } }, token);
}

/**
 * What a log may show even so, of clients who hold SQL: plans have the values that a statement compares with
 * (auto_explain), and what is said during a COPY has the line that it is at. GraphQL does neither.
 */
export const SHOWN_BY_SQL = ['compared ssn', 'copied ssn', 'copied and too old ssn'];

/** By SQL with bound parameters, right and wrong, as a client that holds a session of hers. */
export async function recordBySql(loud: Loud, credential: Buffer, canary: Canary): Promise<void> {
  const client = await loud.db.connect('authenticator');
  const send = async (text: string, values: unknown[], expected = 'no refusal') => {
    await client.query('begin');
    await loud.open(client, credential);
    if (expected === '57014') await client.query("set local statement_timeout = '50ms'");
    const said = await refusal(client.query(text, values));
    await client.query(said === 'no refusal' ? 'commit' : 'rollback');
    if (said !== expected) throw new Error(`${text} came to ${said}`);
  };
  const insert = 'insert into clinic.patients (name, age, ssn, notes, history) values ($1, $2, $3, $4, $5)';
  const row = (name: string, age = 40) => [
    name,
    age,
    canary(`${name} ssn`),
    canary(`${name} notes`),
    { drug: canary(`${name} history`) },
  ];
  const first = row('sql');
  await send(insert, first);
  // Too long for its page: compressed or put into a table of its own.
  await send(insert, [...row('long').slice(0, 3), `${canary('long notes')} `.repeat(2000), {}]);
  await send(insert, ['twin', 40, first[2], null, null], '23505');
  await send(insert, row('too old', 300), '23514');
  await send('insert into clinic.patients (name, ssn) values (null, $1)', [canary('nameless ssn')], '23502');
  await send(
    'insert into clinic.patients (organization_id, name, ssn) values ($1, $2, $3)',
    [crypto.randomUUID(), 'elsewhere', canary('elsewhere ssn')],
    '42501',
  );
  await send(
    'insert into clinic.patients (name, history) values ($1, $2)',
    ['broken', `{"drug": ${canary('broken history')}`],
    '22023',
  );
  await send(
    'insert into clinic.patients (name, ssn) values ($1, $2), ($3, 1 / 0)',
    ['half', canary('half ssn'), 'done'],
    '22012',
  );
  await send('update clinic.patients set ssn = $1 where name = $2', [canary('new ssn'), 'sql']);
  const compared = canary('compared ssn');
  await send('update clinic.patients set age = age + 1 where clinic.patients_ssn(patients) = $1', [compared]);
  await send('select clinic.patients_ssn(p), clinic.patients_notes(p) from clinic.patients p order by 1', []);
  await send('select name from clinic.patients_by_ssn($1)', [canary('ssn that is looked for')]);
  const upsert =
    'insert into clinic.patients (name, ssn) values ($1, $2) on conflict (organization_id, name) do update set ssn =';
  await send(`${upsert} $2`, ['sql', canary('upserted ssn')]);
  await send(`${upsert} excluded.ssn`, ['sql', canary('excluded ssn')], 'KEYEX');
  await send(
    'merge into clinic.patients p using (select $1::text as name, $2::text as ssn) n on p.name = n.name when matched then update set ssn = n.ssn when not matched then insert (name, ssn) values (n.name, n.ssn)',
    ['sql', canary('merged ssn')],
  );
  await send(
    'update clinic.patients set ssn_sealed = $1 where name = $2',
    [Buffer.from(canary('forged ssn')), 'sql'],
    '42501',
  );
  await send('select pg_sleep(10), $1::text', [canary('ssn that took too long')], '57014');
  await client.end();
}

/**
 * COPY, which takes no rows past row-level security, so by an administrator in an open request, from a file beside the
 * server: fine, and with a line that is refused.
 */
export async function recordByCopy(loud: Loud, credential: Buffer, folder: string, canary: Canary): Promise<void> {
  const client = await loud.db.connect('admin');
  const copy = async (name: string, age: number, expected: string, verbosity = 'verbose') => {
    await client.query('begin');
    await client.query(`set local log_error_verbosity = ${verbosity}`);
    await loud.open(client, credential);
    const { rows } = await client.query('select request.organization_id() as id');
    await client.query('reset role');
    const path = join(folder, 'lines.csv');
    writeFileSync(path, `${rows[0].id},${name},${age},${canary(`${name} ssn`)}\n`, { mode: 0o644 });
    const lines = `from '${path}' with (format csv)`;
    const said = await refusal(client.query(`copy clinic.patients (organization_id, name, age, ssn) ${lines}`));
    rmSync(path);
    await client.query(said === 'no refusal' ? 'commit' : 'rollback');
    if (said !== expected) throw new Error(`COPY came to ${said}`);
  };
  await copy('copied', 40, 'no refusal');
  await copy('copied and too old', 300, '23514');
  // This leaves the line out.
  await copy('copied in few words', 300, '23514', 'terse');
  await client.end();
}
