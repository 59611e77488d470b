// Sealed columns in GraphQL (DESIGN 5): one field that reads and writes, of the type of its values.
import { makeSchema } from 'postgraphile';
import { parse } from 'postgraphile/graphql';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { measureDocument } from '../../src/graphql/measure.ts';
import { schemaPreset } from '../../src/graphql/preset.ts';
import type { Json } from './api.ts';
import { type Clinic, CREATE, create, openClinic, refusals, withoutTriggers } from './sealed.ts';

let clinic: Clinic;
beforeAll(async () => {
  // Counts how often values are opened, however many at a time.
  clinic = await openClinic();
  await clinic.admin.query('create sequence openings; grant usage on sequence openings to public');
  await insideOpening("perform nextval('public.openings');");
});

/** Puts a statement at the beginning of keyring.open_values(); returns what it was before. */
async function insideOpening(statement: string): Promise<string> {
  const { rows } = await clinic.admin.query(
    "select pg_get_functiondef('keyring.open_values(uuid, uuid[], bytea[])'::regprocedure) as text",
  );
  await clinic.admin.query(rows[0].text.replace(/\nbegin\n/, (begin: string) => `${begin}${statement}\n`));
  return rows[0].text;
}

const openings = async (): Promise<number> =>
  Number((await clinic.admin.query('select last_value + (is_called::int - 1) as n from openings')).rows[0].n);
const asAda = (query: string, variables: object = {}) => clinic.api.gql(query, variables, clinic.ada.accessToken);

const PLAIN = ['Grace', '078-05-1120', '1906-12-09', '70.5', 'rust', 'block B'];

/** Which of these words stand in a row as it is kept, as text or as bytes. None is what an id can hold by chance. */
async function plainIn(id: string): Promise<string[]> {
  const { rows } = await clinic.admin.query('select p::text as text from clinic.patients p where id = $1', [id]);
  const spelt = (word: string) => [word, Buffer.from(word).toString('hex')];
  return PLAIN.filter((word) => spelt(word).some((spelling) => rows[0].text.includes(spelling)));
}

const GRACE = {
  name: 'Grace',
  ssn: '078-05-1120',
  born: '1906-12-09',
  weight: '70.50',
  seen: '2020-01-02T03:04:05+02:00',
  facts: { allergies: ['rust'] },
  stay: { days: 3, hours: 4 },
  visitsPaid: true,
  code: 'block B',
};
const TOLD = {
  ...GRACE,
  seen: '2020-01-02T01:04:05.000000+00:00',
  stay: { years: 0, months: 0, days: 3, hours: 4 },
};
const FIELDS = 'name ssn born weight seen facts stay { years months days hours } visitsPaid code';

describe('a sealed column', () => {
  test('takes and gives values of its own type, in the payload and in lists', async () => {
    const made = await create(clinic, clinic.ada, GRACE);
    expect(made).toMatchObject(TOLD);
    const { data } = await asAda(`{ patients(condition: { id: "${made.id}" }) { nodes { ${FIELDS} } } }`);
    expect(data.patients.nodes).toEqual([TOLD]);
    expect(await plainIn(made.id)).toEqual(['Grace']);
  });

  test('reads by id, by node, through functions, by any name, and twice', async () => {
    const { nodeId } = await create(clinic, clinic.ada, { name: 'Nell', ssn: '111-11-1111', code: 'N' });
    const { data, errors } = await asAda(
      `query($n: ID!) {
        node(nodeId: $n) { __typename ... on Patient { ssn } }
        patientByNodeId(nodeId: $n) { number: ssn again: ssn code }
        heavy(first: 2) { nodes { ssn } edges { cursor node { ssn } } }
      }`,
      { n: nodeId },
    );
    expect(errors).toBe(undefined);
    expect(data.node).toEqual({ __typename: 'Patient', ssn: '111-11-1111' });
    expect(data.patientByNodeId).toEqual({ number: '111-11-1111', again: '111-11-1111', code: 'N' });
    expect(data.heavy.nodes).toContainEqual({ ssn: '111-11-1111' });
    const renamed = await asAda(
      'mutation { rename(input: { old: "Nell", new: "Nella" }) { result { name ssn } query { patients(condition: { name: "Nella" }) { nodes { ssn } } } } }',
    );
    expect(renamed.data.rename.result).toEqual({ name: 'Nella', ssn: '111-11-1111' });
    expect(renamed.data.rename.query.patients.nodes).toEqual([{ ssn: '111-11-1111' }]);
  });

  test('of a table whose rows several columns name is bound to all of them', async () => {
    const { admin } = clinic;
    const bed = (number: number, code: string) =>
      asAda(
        'mutation($b: BedInput!) { createBed(input: { bed: $b }) { bed { code } query { beds { nodes { number code } } } } }',
        { b: { ward: 'A', number, code } },
      );
    expect((await bed(1, 'one')).data.createBed.bed).toEqual({ code: 'one' });
    expect((await bed(2, 'two')).data.createBed.query.beds.nodes).toEqual([
      { number: 1, code: 'one' },
      { number: 2, code: 'two' },
    ]);
    await withoutTriggers(admin, 'clinic.beds', () =>
      admin.query('update clinic.beds set code_sealed = (select code_sealed from clinic.beds where number = 1)'),
    );
    const moved = await asAda('{ beds { nodes { number code } } }');
    expect(moved.data.beds.nodes).toEqual([
      { number: 1, code: 'one' },
      { number: 2, code: null },
    ]);
    expect(refusals(moved)).toEqual(['beds.nodes.1.code VALUE_UNREADABLE']);
  });

  test('keeps what an update leaves out, and is emptied by an explicit null', async () => {
    const { nodeId } = await create(clinic, clinic.ada, { name: 'Otto', ssn: '222-22-2222', born: '2000-02-02' });
    const update = async (patch: object): Promise<Json> =>
      (
        await asAda(
          'mutation($n: ID!, $p: PatientPatch!) { updatePatientByNodeId(input: { nodeId: $n, patch: $p }) { patient { name ssn born } } }',
          { n: nodeId, p: patch },
        )
      ).data.updatePatientByNodeId.patient;
    expect(await update({ name: 'Otto K' })).toEqual({ name: 'Otto K', ssn: '222-22-2222', born: '2000-02-02' });
    expect(await update({ ssn: null })).toEqual({ name: 'Otto K', ssn: null, born: '2000-02-02' });
    expect(await update({ ssn: '222-22-2223' })).toEqual({ name: 'Otto K', ssn: '222-22-2223', born: '2000-02-02' });
    const gone = await asAda(
      'mutation($n: ID!) { deletePatientByNodeId(input: { nodeId: $n }) { patient { name ssn } } }',
      { n: nodeId },
    );
    expect(gone.data.deletePatientByNodeId.patient).toEqual({ name: 'Otto K', ssn: '222-22-2223' });
  });

  test('that is required is so in what creates, and may be missing in what is read', async () => {
    const { id } = await create(clinic, clinic.ada, { name: 'Rita' });
    const visit = (v: object) =>
      asAda('mutation($v: VisitInput!) { createVisit(input: { visit: $v }) { visit { number reason } } }', { v });
    expect((await visit({ patientId: id, number: 1 })).errors?.[0]).toMatchObject({
      message: 'Variable "$v": Field "reason" of required type "String!" was not provided.',
    });
    expect((await visit({ patientId: id, number: 1, reason: 'Cough' })).data.createVisit.visit).toEqual({
      number: 1,
      reason: 'Cough',
    });
  });

  test('costs more than a plain one', async () => {
    const { schema } = await makeSchema(
      schemaPreset({ pool: clinic.api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'] }),
    );
    const costOf = (field: string): number | undefined =>
      [...measureDocument(schema, parse(`{ patients(first: 20) { nodes { ${field} } } }`)).values()][0]?.estimate?.cost;
    expect((costOf('ssn') ?? 0) - (costOf('name') ?? 0)).toBe(20 * 4);
  });

  test('that is searchable is found by equality, whatever its type', async () => {
    await create(clinic, clinic.ada, { name: 'Sven', ssn: '333-33-3333', born: '1999-01-31' });
    const { data } = await asAda(
      '{ patientsBySsn(value: "333-33-3333") { nodes { name ssn born } } patientsByBorn(value: "1999-01-31") { nodes { name } } none: patientsBySsn(value: "333-33-3334") { nodes { name } } }',
    );
    expect(data.patientsBySsn.nodes).toEqual([{ name: 'Sven', ssn: '333-33-3333', born: '1999-01-31' }]);
    expect(data.patientsByBorn.nodes).toEqual([{ name: 'Sven' }]);
    expect(data.none.nodes).toEqual([]);
    expect((await asAda('{ patientsBySsn { nodes { name } } }')).errors).toHaveLength(1);
  });

  test('opens in sets: one statement for a column, however deep its values stand', async () => {
    const names = Array.from({ length: 8 }, (_, n) => `Set ${n}`);
    for (const name of names) {
      const { id } = await create(clinic, clinic.ada, { name, ssn: `900-00-000${name.slice(4)}` });
      const visit = (number: number) =>
        `createVisit(input: { visit: { patientId: "${id}", number: ${number}, reason: "${name}, ${number}" } }) { clientMutationId }`;
      await asAda(`mutation { one: ${visit(1)} two: ${visit(2)} }`);
    }
    const before = await openings();
    const { data, errors } = await asAda(
      'query($in: [String!]) { patients(first: 8, condition: { nameIn: $in }, orderBy: NAME_ASC) { nodes { name ssn visits(first: 5) { nodes { reason patient { ssn } } } } } }',
      { in: names },
    );
    expect(errors).toBe(undefined);
    expect(data.patients.nodes).toEqual(
      names.map((name) => ({
        name,
        ssn: `900-00-000${name.slice(4)}`,
        visits: {
          nodes: [1, 2].map((number) => ({
            reason: `${name}, ${number}`,
            patient: { ssn: `900-00-000${name.slice(4)}` },
          })),
        },
      })),
    );
    expect((await openings()) - before).toBe(2);
  });
});

describe('a column that is being sealed', () => {
  test('gives what is still plain to who may read it, and to nobody else', async () => {
    const { admin } = clinic;
    const { rows } = await admin.query('select distinct organization_id as id from clinic.patients');
    await withoutTriggers(admin, 'clinic.charts', () =>
      admin.query("insert into clinic.charts (organization_id, born, code) values ($1, '1971-01-02', 'plain')", [
        rows[0].id,
      ]),
    );
    const ask = '{ charts { nodes { born code } } }';
    const chart = { born: '1980-03-04', code: 'sealed' };
    await asAda('mutation($c: ChartInput!) { createChart(input: { chart: $c }) { clientMutationId } }', { c: chart });
    expect((await asAda(ask)).data.charts.nodes).toEqual([{ born: '1971-01-02', code: 'plain' }, chart]);
    const refused = await clinic.api.gql(ask, {}, clinic.eve.accessToken);
    expect(refused.data.charts.nodes).toEqual(Array(2).fill({ born: null, code: null }));
    expect(refusals(refused)).toEqual(['charts.nodes.0.code FORBIDDEN', 'charts.nodes.1.code FORBIDDEN']);
  });
});

describe('a value that does not open', () => {
  test('leaves the others alone: erased, moved here from another row', async () => {
    const made: Record<string, Json> = {};
    for (const [n, name] of ['kept', 'erased', 'moved'].entries())
      made[name] = await create(clinic, clinic.ada, { name: `Broken ${name}`, ssn: `44${n}-00-0000` });
    const { admin } = clinic;
    await admin.query('delete from keyring_private.data_keys where subject = $1', [made.erased.id]);
    await withoutTriggers(admin, 'clinic.patients', () =>
      admin.query(
        'update clinic.patients set ssn_sealed = (select ssn_sealed from clinic.patients where id = $1) where id = $2',
        [made.kept.id, made.moved.id],
      ),
    );
    const logged = vi.spyOn(process.stderr, 'write').mockImplementation(() => true);
    const names = { in: ['Broken erased', 'Broken kept', 'Broken moved'] };
    const answer = await asAda(
      'query($in: [String!]) { patients(condition: { nameIn: $in }, orderBy: NAME_ASC) { nodes { name ssn } } }',
      names,
    );
    expect(answer.data.patients.nodes).toEqual([
      { name: 'Broken erased', ssn: null },
      { name: 'Broken kept', ssn: '440-00-0000' },
      { name: 'Broken moved', ssn: null },
    ]);
    expect(refusals(answer)).toEqual(['patients.nodes.0.ssn ERASED', 'patients.nodes.2.ssn VALUE_UNREADABLE']);
    expect(logged.mock.calls.flat().join()).toMatch(/"sqlstate":"KEYBD".*"where":"graphql:patients\.nodes\.ssn"/);
    expect(logged.mock.calls.flat().join()).not.toMatch(/440-00-0000|\\x02|sealed:/);
    logged.mockRestore();
  });

  test.each([
    ['for want of a key', 'KEYNO', 'KEY_UNAVAILABLE'],
    ['because nothing can be recorded', 'KEYRO', 'CANNOT_RECORD'],
  ])('%s fails its fields, not the rows, and undoes nothing', async (why, sqlstate, code) => {
    const { admin } = clinic;
    const ssn = `555-55-5${sqlstate === 'KEYNO' ? '001' : '002'}`;
    await create(clinic, clinic.ada, { name: why, ssn });
    const whole = await insideOpening(`raise exception 'no' using errcode = '${sqlstate}';`);
    const read = await asAda('query($n: String) { patients(condition: { name: $n }) { nodes { name ssn } } }', {
      n: why,
    });
    const written = await asAda(
      'mutation($n: String!) { rename(input: { old: $n, new: "again" }) { result { name ssn } } }',
      { n: why },
    );
    await admin.query(whole);
    expect(read.data.patients.nodes).toEqual([{ name: why, ssn: null }]);
    expect(refusals(read)).toEqual([`patients.nodes.0.ssn ${code}`]);
    expect(written.data.rename.result).toEqual({ name: 'again', ssn: null });
    expect(refusals(written)).toEqual([`rename.result.ssn ${code}`]);
    const after = await asAda('mutation { rename(input: { old: "again", new: "done" }) { result { ssn } } }');
    expect(after.data.rename.result).toEqual({ ssn });
  });

  test('of class sensitive is recorded for each row that was read (AU-01)', async () => {
    const { id } = await create(clinic, clinic.ada, { name: 'Tess' });
    const results = ['negative', 'positive', null];
    for (const [number, result] of results.entries())
      await asAda('mutation($v: VisitInput!) { createVisit(input: { visit: $v }) { clientMutationId } }', {
        v: { patientId: id, number, reason: 'Test', result },
      });
    const recorded = async (): Promise<number> =>
      (await clinic.admin.query("select count(*)::int as n from audit.events where action = 'value.open'")).rows[0].n;
    const before = await recorded();
    const list = (fields: string) =>
      asAda(`query($p: UUID!) { visits(condition: { patientId: $p }) { nodes { ${fields} } } }`, { p: id });
    expect((await list('reason')).errors).toBe(undefined);
    expect(await recorded()).toBe(before);
    expect((await list('result')).data.visits.nodes).toEqual(results.map((result) => ({ result })));
    expect(await recorded()).toBe(before + 2);
  });

  test('is refused in words that hold nothing of it', async () => {
    const attempts = [
      { name: 'x', ssn: 'canary' },
      { name: 'x', born: '31.31.canary' },
      { name: 'x', weight: 'canary' },
      { name: 'x', seen: 'canary' },
      { name: 'x', stay: { days: 'canary' } },
      { name: 'x', ssn: '078-05-1120' },
    ];
    const codes = [];
    for (const p of attempts) {
      const answer = await clinic.api.gql(CREATE, { p }, clinic.ada.accessToken);
      expect(answer.text).not.toMatch(/canary|078-05-|ssn_|index|patients_|sealed:/);
      codes.push(answer.errors?.[0]?.extensions.code);
    }
    expect(codes).toEqual([...Array(5).fill('BAD_INPUT'), 'CONFLICT']);
    expect(clinic.said.join('\n')).not.toMatch(/canary|078-05-/);
  });
});
