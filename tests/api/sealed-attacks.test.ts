// Ways to a sealed value that GraphQL could have left open (PG-72, GQ-01 to GQ-08, LW-04).
import { makeSchema } from 'postgraphile';
import { type GraphQLSchema, isEnumType, isInputObjectType, isInterfaceType, isObjectType } from 'postgraphile/graphql';
import { beforeAll, describe, expect, test } from 'vitest';
import { schemaPreset } from '../../src/graphql/preset.ts';
import { SealedColumns } from '../../src/graphql/sealed-columns.ts';
import { withoutGuard } from '../support/actors.ts';
import type { Json } from './api.ts';
import { type Clinic, create, openClinic, refusals } from './sealed.ts';

/** Everything asks to be searched, counted and grouped by, as a tag or an index can ask. */
const GREEDY = `
  create index on clinic.patients (organization_id, ssn_sealed);
  comment on table clinic.patients is E'@aggregates';
  comment on column clinic.patients.name is E'@aggregates';
  comment on column clinic.patients.ssn is E'@aggregates\\n@behavior +filterBy +orderBy +groupBy';
  comment on column clinic.patients.ssn_sealed is E'@aggregates\\n@behavior +select +filterBy +orderBy +insert';
  comment on column clinic.patients.ssn_index_a is E'@aggregates';
  comment on function clinic.patients_ssn(clinic.patients) is 'What it does.';
  create index on clinic.patients (organization_id, ssn);
  create index on clinic.patients (organization_id, born);
`;

let clinic: Clinic;
let schema: GraphQLSchema;
let grace: Json;
beforeAll(async () => {
  clinic = await openClinic(GREEDY);
  schema = await schemaWithout();
  grace = await create(clinic, clinic.ada, { name: 'Grace', ssn: '078-05-1120', born: '1906-12-09', code: 'B-0' });
});

const schemaWithout = async (...disablePlugins: string[]): Promise<GraphQLSchema> => {
  const pool = clinic.api.db.pool('authenticator', { max: 1 });
  return (await makeSchema({ extends: [schemaPreset({ pool, schemas: ['clinic'] })], disablePlugins })).schema;
};

/** Every name in a schema that has to do with sealed columns: of fields, arguments, input fields and enum values. */
function namesIn(all: GraphQLSchema): string[] {
  const about = /ssn|born/i;
  return Object.values(all.getTypeMap())
    .flatMap((type) => {
      if (isEnumType(type)) return type.getValues().map(({ name }) => `${type.name}.${name}`);
      if (isInputObjectType(type)) return Object.keys(type.getFields()).map((name) => `${type.name}.${name}`);
      if (!isObjectType(type) && !isInterfaceType(type)) return [];
      return Object.values(type.getFields()).flatMap(({ name, args }) => [
        `${type.name}.${name}`,
        ...args.map((argument) => `${type.name}.${name}(${argument.name})`),
      ]);
    })
    .filter((name) => about.test(name))
    .sort();
}

const ASK_ALL = `query($n: ID!) {
  patients(first: 5) { nodes { id name ssn code visits(first: 5) { nodes { reason } } } edges { node { ssn } } }
  node(nodeId: $n) { ... on Patient { ssn code } }
  patientByNodeId(nodeId: $n) { ssn }
  patientsBySsn(value: "078-05-1120") { nodes { name ssn } }
  patientsByBorn(value: "1906-12-09") { nodes { name } }
  heavy(first: 5) { nodes { name ssn } }
}`;

describe('the schema', () => {
  test('has a sealed column where it is read and written, its finder, and nothing else of it (GQ-01, GQ-03, GQ-04)', async () => {
    const expected = [
      'Chart.born',
      'ChartInput.born',
      'ChartPatch.born',
      'Patient.born',
      'Patient.ssn',
      'PatientInput.born',
      'PatientInput.ssn',
      'PatientPatch.born',
      'PatientPatch.ssn',
      'Query.patientsByBorn',
      'Query.patientsByBorn(after)',
      'Query.patientsByBorn(before)',
      'Query.patientsByBorn(first)',
      'Query.patientsByBorn(last)',
      'Query.patientsByBorn(offset)',
      'Query.patientsByBorn(value)',
    ];
    const names = namesIn(schema);
    expect(names.filter((name) => !name.includes('BySsn'))).toEqual(
      expected.filter((name) => !/\((before|last)\)/.test(name)),
    );
    // Without the plugin the same tags and indexes open what they ask for.
    const naive = namesIn(await schemaWithout('SafetyPinSealedPlugin'));
    expect(naive).toEqual(
      expect.arrayContaining([
        'Patient.ssnSealed',
        'PatientInput.ssnSealed',
        'PatientCondition.ssn',
        'PatientOrderBy.SSN_ASC',
        'PatientDistinctCountAggregates.ssn',
        'Mutation.patientsSsn',
      ]),
    );
  });

  test('offers no unique lookup by a door that still has a constraint (GQ-03)', async () => {
    const owner = await clinic.api.db.connect('owner');
    await owner.query('alter table clinic.patients add constraint patients_ssn_key unique (organization_id, ssn)');
    const [kept, naive] = [await schemaWithout(), await schemaWithout('SafetyPinSealedPlugin')];
    await owner.query('alter table clinic.patients drop constraint patients_ssn_key');
    expect(Object.keys(naive.getQueryType()?.getFields() ?? {})).toContain('patientBySsn');
    expect(namesIn(kept)).toEqual(namesIn(schema));
  });
});

describe('who asks', () => {
  const asks = async (token?: string) => clinic.api.gql(ASK_ALL, { n: grace.nodeId }, token);

  test('with the permission reads everywhere', async () => {
    const answer = await asks(clinic.ada.accessToken);
    expect(refusals(answer)).toEqual([]);
    expect(answer.text.match(/078-05-1120/g)).toHaveLength(6);
  });

  test('without it reads null, or is refused where the column says so, and finds nothing (PG-72)', async () => {
    const answer = await asks(clinic.eve.accessToken);
    expect(answer.text).not.toMatch(/078-05-|B-0/);
    expect(answer.data.patients.nodes).toEqual([
      { id: grace.id, name: 'Grace', ssn: null, code: null, visits: { nodes: [] } },
    ]);
    expect(answer.data.patientsBySsn.nodes).toEqual([]);
    expect(answer.data.patientsByBorn.nodes).toEqual([{ name: 'Grace' }]);
    expect(refusals(answer).sort()).toEqual(['node.code FORBIDDEN', 'patients.nodes.0.code FORBIDDEN']);
    const { admin } = clinic;
    const signature = 'keyring_private.may_open(uuid)';
    await withoutGuard(clinic.api.db, signature, 'not v_standing.may', 'false', async () => {
      expect((await asks(clinic.eve.accessToken)).text).toMatch(/078-05-1120/);
    });
    expect((await admin.query('select 1')).rowCount).toBe(1);
  });

  test('without it writes none, and everything else (PG-72)', async () => {
    const update = (patch: object) =>
      clinic.api.gql(
        'mutation($n: ID!, $p: PatientPatch!) { updatePatientByNodeId(input: { nodeId: $n, patch: $p }) { patient { name ssn } } }',
        { n: grace.nodeId, p: patch },
        clinic.eve.accessToken,
      );
    expect(refusals(await update({ ssn: '111-11-1111' }))).toEqual(['updatePatientByNodeId FORBIDDEN']);
    expect(refusals(await update({ ssn: null }))).toEqual(['updatePatientByNodeId FORBIDDEN']);
    const renamed = await update({ name: 'Grace' });
    expect(renamed.data.updatePatientByNodeId.patient).toEqual({ name: 'Grace', ssn: null });
  });

  test('from another organization or without a session sees neither value nor row (PG-72, GQ-02)', async () => {
    for (const token of [clinic.bob.accessToken, undefined]) {
      const answer = await asks(token);
      expect(answer.text).not.toMatch(/078-05-|B-0|Grace/);
      expect(answer.text).not.toContain(grace.id);
    }
  });
});

describe('a value is told by nothing else', () => {
  test('not by cursors or ids of nodes (GQ-05)', async () => {
    const { data } = await clinic.api.gql(
      '{ patients(orderBy: NAME_ASC) { edges { cursor node { nodeId ssn } } } patientsBySsn(value: "078-05-1120") { edges { cursor } pageInfo { startCursor endCursor } } }',
      {},
      clinic.ada.accessToken,
    );
    const texts = [
      ...data.patients.edges.flatMap(({ cursor, node }: Json) => [cursor, node.nodeId]),
      ...data.patientsBySsn.edges.map(({ cursor }: Json) => cursor),
      data.patientsBySsn.pageInfo.endCursor,
    ].map((text) => Buffer.from(text, 'base64').toString());
    expect(texts.length).toBeGreaterThan(3);
    expect(texts.join()).toContain('Grace');
    expect(texts.join()).not.toMatch(/078-05-|sealed|\\x/);
  });

  test('not by counting (GQ-04)', async () => {
    const ask = (what: string) => clinic.api.gql(`{ patients { ${what} } }`, {}, clinic.eve.accessToken);
    expect((await ask('aggregates { distinctCount { name } }')).data.patients.aggregates.distinctCount.name).toBe('1');
    for (const what of [
      'aggregates { distinctCount { ssn } }',
      'aggregates { count { ssnSealed } }',
      'groupedAggregates(groupBy: [SSN]) { keys }',
      'groupedAggregates(groupBy: [BORN]) { keys }',
    ])
      expect((await ask(what)).errors?.[0]?.extensions.code).toBe('BAD_INPUT');
  });

  test('not by a unique violation, or by what a finder is given (GQ-06)', async () => {
    const twin = await clinic.api.gql(
      'mutation { createPatient(input: { patient: { name: "Twin", ssn: "078-05-1120" } }) { clientMutationId } }',
      {},
      clinic.ada.accessToken,
    );
    expect(refusals(twin)).toEqual(['createPatient CONFLICT']);
    expect(twin.text).not.toMatch(/078-05-|ssn|index|patients_|clinic/);
    for (const value of ["'", '%', '', '078-05-112', `078-05-1120' or '1'='1`, '\\x', '0'.repeat(50_000)]) {
      const { data } = await clinic.api.gql(
        'query($v: String!) { patientsBySsn(value: $v) { nodes { name } } }',
        { v: value },
        clinic.ada.accessToken,
      );
      expect(data.patientsBySsn.nodes).toEqual([]);
    }
    const day = await clinic.api.gql(
      '{ patientsByBorn(value: "31.31.canary") { nodes { name } } }',
      {},
      clinic.ada.accessToken,
    );
    expect(refusals(day)).toEqual(['patientsByBorn BAD_INPUT']);
    expect(day.text).not.toMatch(/canary/);
  });

  test('not by guessing under many names in one request (GQ-08)', async () => {
    const guesses = (n: number) =>
      `{ ${Array.from({ length: n }, (_, i) => `g${i}: patientsBySsn(value: "078-05-${1000 + i}", first: 1) { nodes { id } }`).join(' ')} }`;
    const many = await clinic.api.gql(guesses(500), {}, clinic.ada.accessToken);
    expect(many.errors?.[0]?.extensions.code).toBe('LIMIT_EXCEEDED');
    expect((await clinic.api.gql(guesses(20), {}, clinic.ada.accessToken)).errors).toBe(undefined);
  });
});

describe('a token', () => {
  test('never leaves, whatever a row is read as', async () => {
    for (const who of [clinic.ada, clinic.eve])
      expect((await clinic.api.gql(ASK_ALL, { n: grace.nodeId }, who.accessToken)).text).not.toMatch(
        /sealed[0-9a-f]|\\\\x02/,
      );
  });

  test('that somebody stored is text: only the mark of this process opens, and nobody can know it (PG-72)', async () => {
    const columns = new SealedColumns();
    const { rows } = await clinic.admin.query(
      "select d.id as column_id, p.id, encode(p.ssn_sealed, 'hex') as value from keyring.doors() d, clinic.patients p where d.door = 'ssn' and p.name = 'Grace'",
    );
    const token = (mark: string) => `${mark}${rows[0].column_id}:${rows[0].id}:${rows[0].value}`;
    const name = token(`sealed${'0'.repeat(24)}:`);
    expect(columns.find([[name]]).size).toBe(0);
    // Known, it would be taken for one, alone in a cell or among the rows of a relation.
    expect(columns.find([[token(columns.mark)]]).size).toBe(1);
    expect(columns.find([[`{"{x,${token(columns.mark)}}"}`]]).size).toBe(1);
    expect(new SealedColumns().mark).not.toBe(columns.mark);
    await create(clinic, clinic.eve, { name });
    const { data } = await clinic.api.gql(
      'query($n: String!) { patients(condition: { name: $n }) { nodes { name ssn } } }',
      { n: name },
      clinic.ada.accessToken,
    );
    expect(data.patients.nodes).toEqual([{ name, ssn: null }]);
  });
});
