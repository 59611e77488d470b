// GraphQL fields × actors (AZ-02, AZ-05, AZ-12), asked over HTTP like by any client.
import { makeSchema } from 'postgraphile';
import { type GraphQLSchema, isRequiredArgument } from 'postgraphile/graphql';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { schemaPreset } from '../../src/graphql/preset.ts';
import { AccessTokens } from '../../src/sessions/tokens.ts';
import { type Api, type GraphQLAnswer, startApi } from '../api/api.ts';
import { ACTORS, type Actor } from './actors.ts';
import { CLINIC } from './clinic.ts';
import { declaration, type Line } from './declare.ts';
import { fillEmptyTables } from './fill.ts';
import {
  ask,
  type Known,
  type Question,
  type Row,
  relationsOf,
  rowTypeOf,
  selectionOf,
  subjectOf,
} from './graphql-documents.ts';
import { buildPlace, fillSealed, type Place } from './place.ts';

const DECLARED = '../snapshots/matrix-graphql.txt';
const HEAD = `GraphQL fields by actors, asked about rows of one's own organization and of another's. Accept a change with -u after reading it.`;
const started = performance.now();
const asking = ACTORS.filter(
  ({ name, login, open, role }) =>
    login === 'authenticator' &&
    open !== undefined &&
    !/^bare|-as-|-key$/.test(name) &&
    (role === 'safetypin_member' || name === 'anonymous'),
);
let api: Api;
let place: Place;
let schema: GraphQLSchema;
let tokens: AccessTokens;
const lines: Line[] = [];
let requests = 0;
const leaks: string[] = [];
const beyond: string[] = [];
const broken: string[] = [];
const changes: string[] = [];

const personOf = ({ name, gone }: Actor): string | undefined => (name === 'anonymous' ? undefined : (gone?.of ?? name));

async function freshSession(name: string): Promise<{ credential: Buffer; sessionId: string }> {
  const { id, organization } = place.person(name);
  const credential = crypto.getRandomValues(Buffer.alloc(32));
  const { rows } = await place.admin.query<{ id: string }>(
    `with s as (insert into sessions.sessions (person_id, organization_id, ends_at) values ($1, $2, clock_timestamp() + interval '1 day') returning id)
     insert into sessions_private.credentials (hash, session_id, expires_at) select sha256($3), s.id, clock_timestamp() + interval '10 minutes' from s returning session_id as id`,
    [id, organization, credential],
  );
  return { credential, sessionId: String(rows[0]?.id) };
}

/** A session of its own for each question, since some end it; of somebody who is gone, the one that went. */
async function tokenFor(actor: Actor): Promise<string | undefined> {
  const name = personOf(actor);
  if (name === undefined) return undefined;
  const { id, session, credential } = place.person(name);
  const expiresAt = new Date(Date.now() + 600_000);
  if (actor.gone !== undefined) return tokens.issue({ credential, sessionId: session, personId: id, expiresAt });
  return tokens.issue({ ...(await freshSession(name)), personId: id, expiresAt });
}

async function put(question: Question, token: string | undefined): Promise<GraphQLAnswer> {
  requests += 1;
  return api.gql(question.query, question.variables, token);
}

/** An answer in a word, or two if sealed values came with it. */
const inWords = (answer: GraphQLAnswer, field: string): string =>
  SEALED.test(answer.text) ? `${inAWord(answer, field)}, opened` : inAWord(answer, field);

function inAWord({ data, errors }: GraphQLAnswer, field: string): string {
  const code = errors?.[0]?.extensions.code;
  if (code !== undefined) return String(code);
  const value = data?.[field];
  if (value === null || value === undefined) return 'null';
  if (Array.isArray(value.nodes)) return value.nodes.length > 0 ? 'rows' : 'no rows';
  if (typeof value.outcome === 'string') return value.outcome;
  const row = Object.entries(value).find(
    ([name, one]) => name !== 'clientMutationId' && (one === null || typeof one === 'object'),
  );
  return /Payload$/.test(value.__typename) && row?.[1] === null ? 'nothing' : 'answers';
}

let labels: ReadonlyMap<string, readonly string[]>;
const SEEN = /[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[a-z]+@matrix\.example/g;

/** The sealed numbers of patients; the letter says whose. */
const SEALED = /\b([AB])-ssn-\d+/;
const SEALED_ALL = new RegExp(SEALED, 'g');

/** Sealed values of others that somebody of this round has put into a row of her own, and may find there. */
const typed = new Set<string>();

/** Values of others in an answer that were not in the question. */
function told(actor: Actor, question: Question, { text }: GraphQLAnswer): string[] {
  const mine = actor.as.split('/')[0];
  const asked = JSON.stringify(question.variables);
  const opened = [...new Set(text.match(SEALED_ALL))].filter(
    (value) => !asked.includes(value) && !typed.has(value) && value[0] !== mine,
  );
  const seen = [...new Set(text.match(SEEN))].filter(
    (value) => !asked.includes(value) && (labels.get(value) ?? []).some((label) => label.split('/')[0] !== mine),
  );
  return [...seen, ...opened];
}

const fields = (kind: 'query' | 'mutation') =>
  Object.values((kind === 'query' ? schema.getQueryType() : schema.getMutationType())?.getFields() ?? {}).filter(
    ({ name }) => name !== 'query' && name !== 'nodeId',
  );

const lists = () =>
  fields('query').flatMap((field) => {
    const type = rowTypeOf(field.type);
    return type === undefined || field.args.some(isRequiredArgument) ? [] : [{ field, type }];
  });

/** Every row that somebody sees, by type. */
async function rowsOf(token: string | undefined): Promise<Map<string, Row[]>> {
  const found = new Map<string, Row[]>();
  for (const { field, type } of lists()) {
    const { data } = await put({ query: `{ ${field.name} ${selectionOf(field.type)} }`, variables: {} }, token);
    found.set(type.name, data?.[field.name]?.nodes ?? []);
  }
  return found;
}

function knownOf(name: string): Known {
  const { id, organization, session, email } = place.person(name);
  return {
    personId: id,
    organizationId: organization ?? id,
    sessionId: session,
    email,
    password: 'a long sentence that nobody knows',
    newPassword: 'another long sentence that nobody knows',
    displayName: 'Somebody',
    organizationName: 'Somewhere',
    token: 'x'.repeat(43),
    refreshToken: 'x'.repeat(43),
    code: '000000',
  };
}

/** How many rows of a type were used up. */
const used = new Map<string, number>();

/** Every field by every actor of a round, so that each document is planned once. */
async function questionsOf(
  round: readonly Actor[],
  mine: Map<string, Row[]>,
  theirs: Map<string, Row[]>,
): Promise<void> {
  for (const kind of ['query', 'mutation'] as const) {
    for (const field of fields(kind)) {
      const subject = subjectOf(schema, field);
      for (const actor of round) {
        const sides = [
          ['own', mine, knownOf(personOf(actor) ?? 'owner')],
          ['foreign', theirs, knownOf(actor.as.startsWith('B/') ? 'owner' : 'neighbour')],
        ] as const;
        for (const [way, rows, known] of sides) {
          const row = rows.get(subject)?.[way === 'own' ? (used.get(subject) ?? 0) : 0];
          const question = ask(kind, field, row ?? {}, known);
          const answer = await put(question, await tokenFor(actor));
          const outcome = inWords(answer, field.name);
          if (/^delete/.test(field.name) && outcome.startsWith('answers'))
            used.set(subject, (used.get(subject) ?? 0) + 1);
          if (outcome === 'REMOVED') await comeBack();
          if (kind === 'mutation' && outcome.startsWith('answers'))
            for (const value of JSON.stringify(question.variables).match(SEALED_ALL) ?? []) typed.add(value);
          lines.push({ thing: `${kind} ${field.name}`, way, actor: actor.name, outcome });
          for (const value of told(actor, question, answer))
            leaks.push(`${kind} ${field.name} with ${way} by ${actor.name}: ${value}`);
        }
      }
    }
  }
}

/** Whoever left or was removed is back as they were, for the questions that follow. */
const comeBack = () =>
  place.admin.query(`
    insert into access.memberships select * from matrix.kept_memberships on conflict do nothing;
    insert into access.membership_roles select * from matrix.kept_membership_roles on conflict do nothing`);

/** From every row over every relation: what is met there is in the direct list too. */
async function walk(actor: Actor, token: string | undefined, direct: Map<string, Row[]>): Promise<void> {
  for (const { field, type } of lists()) {
    if (direct.get(type.name)?.length === 0) continue;
    for (const { name, selection } of relationsOf(type)) {
      const question = { query: `{ ${field.name}(first: 20) { nodes { nodeId ${selection} } } }`, variables: {} };
      const answer = await put(question, token);
      for (const value of told(actor, question, answer)) leaks.push(`${field.name}.${name} by ${actor.name}: ${value}`);
      if (answer.errors) broken.push(`${field.name}.${name} by ${actor.name}: ${answer.errors[0]?.message}`);
      const nodes: Record<string, Row & { nodes?: Row[] }>[] = (answer.data?.[field.name]?.nodes ?? []).filter(Boolean);
      for (const row of nodes
        .flatMap((node) => node[name]?.nodes ?? (node[name] ? [node[name]] : []))
        .filter(Boolean)) {
        const known = direct.get(String(row.__typename));
        if (known && !known.some(({ nodeId }) => nodeId === row.nodeId))
          beyond.push(`${field.name}.${name} by ${actor.name}: ${row.nodeId}`);
      }
    }
  }
}

/** Tables in which anybody may cause a row about anybody: what reviewed.ts says of the functions behind it. */
const ANYBODY = /^(audit\.events_\w+|identity_private\.(attempts|lockouts|mails|registrations))$/;
/** The author of a note is as its writer says: a column like any other, in one's own organization. */
const SAID = /^clinic\.notes$/;

async function examine(round: readonly Actor[], as: string): Promise<void> {
  used.clear();
  typed.clear();
  await refill();
  const tokenOf = async (name: string) => tokenFor(asking.find((actor) => actor.name === name) as Actor);
  const [ofA, ofB] = [await rowsOf(await tokenOf('owner')), await rowsOf(await tokenOf('neighbour'))];
  for (const actor of round) {
    const token = await tokenFor(actor);
    if (actor.gone === undefined) await walk(actor, token, await rowsOf(token));
  }
  await place.admin.query('select matrix.rebase()');
  await questionsOf(round, ...(as === 'B' ? ([ofB, ofA] as const) : ([ofA, ofB] as const)));
  const { rows } = await place.admin.query<{ found: string[] }>('select matrix.differences($1) as found', [`${as}/-`]);
  const others = (rows[0]?.found ?? [])
    .filter((one) => one.endsWith(':OTHERS'))
    .map((one) => one.replace(/:OTHERS$/, ''));
  changes.push(...others.filter((one) => !ANYBODY.test(one) && !SAID.test(one)).map((one) => `by ${as}: ${one}`));
}

async function refill(): Promise<void> {
  await place.admin.query('truncate clinic.patients, clinic.visits, clinic.notes, clinic.measures, clinic.findings');
  await fillEmptyTables(place.admin, place.organizations, place.people, 12);
  await fillSealed(place.app, async (name) => (await freshSession(name)).credential);
}

beforeAll(async () => {
  api = await startApi({ host: CLINIC, environment: { SAFETYPIN_SCHEMAS: 'clinic' }, worker: false });
  const { dataDirectory, publicUrl } = api.config;
  place = await buildPlace({ db: api.db, keys: dataDirectory });
  tokens = await AccessTokens.open({ dataDirectory, issuer: publicUrl });
  ({ schema } = await makeSchema(
    schemaPreset({ pool: api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'] }),
  ));
  const { rows } = await place.admin.query<{ value: string; labels: string[] }>('select value, labels from matrix.ids');
  labels = new Map(rows.map(({ value, labels: of }) => [value, of]));
  for (const { gone } of asking) if (gone !== undefined) await place.take(gone);
  await place.admin.query(`
    create table matrix.kept_memberships as table access.memberships;
    create table matrix.kept_membership_roles as table access.membership_roles`);
  await examine(
    asking.filter(({ as, gone }) => as.startsWith('A/') || (as === '-' && gone?.of !== 'tenant')),
    'A',
  );
  await examine(
    asking.filter(({ as }) => as.startsWith('B/')),
    'B',
  );
  await examine(
    asking.filter(({ as, gone }) => as.startsWith('H/') || gone?.of === 'tenant'),
    'H',
  );
}, 600_000);

afterAll(() => {
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const count = fields('query').length + fields('mutation').length;
  process.stderr.write(
    `matrix: ${count} GraphQL fields × ${asking.length} actors: ${requests} requests in ${seconds} s\n`,
  );
});

describe('every field', () => {
  test('answers as declared (AZ-02)', async () => {
    const order = asking.map(({ name }) => name);
    await expect(declaration(HEAD, lines, order, () => false)).toMatchFileSnapshot(DECLARED);
  });
  test("tells nothing of another's (AZ-01, AZ-05, GQ-02)", () => {
    expect(leaks).toEqual([]);
  });
  test('shows no more over a relation than in the list (AZ-12)', () => {
    expect(beyond).toEqual([]);
    expect(broken).toEqual([]);
  });
  test('is no fault of ours, whatever it is asked about', () => {
    expect(lines.filter(({ outcome }) => /^(INTERNAL|LIMIT_EXCEEDED|TIMEOUT|VALUE_UNREADABLE)/.test(outcome))).toEqual(
      [],
    );
  });

  test("changes nothing of another's", () => {
    expect(changes).toEqual([]);
  });
});

describe('what is broken is seen', () => {
  const ofOwner = () => asking.find(({ name }) => name === 'owner') as Actor;

  test('a policy that was dropped', async () => {
    const question = { query: '{ patients { nodes { organizationId id } } }', variables: {} };
    const seen = async () => told(ofOwner(), question, await put(question, await tokenFor(ofOwner())));
    expect(await seen()).toEqual([]);
    await place.admin.query('drop policy safetypin_tenant_select on clinic.patients');
    expect(await seen()).not.toEqual([]);
  });

  test('a new table, by the fields that nobody declared', async () => {
    const owner = await place.db.connect('owner');
    await owner.query(`create table clinic.odds (organization_id uuid not null, id uuid default platform.uuid_v7(), primary key (organization_id, id));
      select access.protect('clinic.odds')`);
    const known = new Set(lines.map(({ thing }) => thing));
    ({ schema } = await makeSchema(
      schemaPreset({ pool: api.db.pool('authenticator', { max: 1 }), schemas: ['clinic'] }),
    ));
    const all = [
      ...fields('query').map(({ name }) => `query ${name}`),
      ...fields('mutation').map(({ name }) => `mutation ${name}`),
    ];
    expect(all.filter((name) => !known.has(name))).toEqual(
      expect.arrayContaining(['query odds', 'mutation deleteOdd']),
    );
  });
});
